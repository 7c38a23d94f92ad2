//! Takes the result of a compile out of a dead jail: the border where hostile files meet the host.
//!
//! All processes of the jail are dead, so nothing changes under our hands; still every step goes by
//! open folders and refuses links (openat2 with BENEATH and NO_SYMLINKS), opens nothing that would
//! block, and copies regular files only, counted by the bytes that really come.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    dir::Dir,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat},
};

const MAX_FILES: usize = 1_000;
/// The most that is taken of one compile.
pub(super) const MAX_BYTES: u64 = 64 << 20;
const MAX_DEPTH: usize = 16;

/// Why a collection was given up.
#[derive(Debug)]
pub(super) enum CollectError {
    /// There is more than is taken: what, in words for the user.
    TooMuch(String),
    /// The host failed, for instance because its disk is full.
    Host(io::Error),
}

impl From<io::Error> for CollectError {
    fn from(error: io::Error) -> Self {
        CollectError::Host(error)
    }
}

impl From<nix::errno::Errno> for CollectError {
    fn from(error: nix::errno::Errno) -> Self {
        CollectError::Host(error.into())
    }
}

/// The same of what a tool chain makes once: Go's standard library is 1,800 files and 170 MB.
const CACHE_FILES: usize = 20_000;
const CACHE_BYTES: u64 = 512 << 20;

/// What a collection may take, and what it may still.
struct Budget {
    most_files: usize,
    most_bytes: u64,
    files: usize,
    bytes: u64,
}

/// Copies what is in `source` into `target`, an empty folder: files 0555, folders 0755. Links,
/// pipes, sockets and devices are left out.
///
/// # Errors
/// Too many files, too many bytes, too deep; or the host failed.
pub(super) fn collect(
    source: &OwnedFd,
    target: &OwnedFd,
    is_cache: bool,
) -> Result<(), CollectError> {
    let (files, bytes) = if is_cache { (CACHE_FILES, CACHE_BYTES) } else { (MAX_FILES, MAX_BYTES) };
    let mut budget = Budget { most_files: files, most_bytes: bytes, files, bytes };
    copy_folder(source, target, &mut budget, 0)
}

fn copy_folder(
    source: &impl AsFd,
    target: &impl AsFd,
    budget: &mut Budget,
    depth: usize,
) -> Result<(), CollectError> {
    if depth > MAX_DEPTH {
        let deep = format!("its folders are nested more than {MAX_DEPTH} deep");
        return Err(CollectError::TooMuch(deep));
    }
    let listing = open(source, ".", OFlag::O_DIRECTORY)?;
    let mut folder = Dir::from_fd(listing)?;
    for entry in folder.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(found) = open(source, name, OFlag::empty()) else {
            continue; // a link, a socket, or something its own mode hides from us
        };
        let kind = SFlag::from_bits_truncate(fstat(&found)?.st_mode);
        if kind & SFlag::S_IFMT == SFlag::S_IFDIR {
            budget.take_file()?;
            mkdirat(target, name, Mode::from_bits_truncate(0o755))?;
            let into = open(target, name, OFlag::O_DIRECTORY)?;
            copy_folder(&found, &into, budget, depth + 1)?;
        } else if kind & SFlag::S_IFMT == SFlag::S_IFREG {
            budget.take_file()?;
            let flags = OFlag::O_WRONLY
                | OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC;
            let into = openat(target, name, flags, Mode::from_bits_truncate(0o600))?;
            let into = copy_file(File::from(found), File::from(into), budget)?;
            fchmod(&into, Mode::from_bits_truncate(0o555))?;
        }
    }
    Ok(())
}

pub(super) fn open<P: nix::NixPath + ?Sized>(
    folder: &impl AsFd,
    name: &P,
    more: OFlag,
) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | more;
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(folder, name, OpenHow::new().flags(flags).resolve(beneath))
}

fn copy_file(from: File, mut into: File, budget: &mut Budget) -> Result<File, CollectError> {
    let mut from = from.take(budget.bytes + 1);
    let copied = io::copy(&mut from, &mut into)?;
    into.flush()?;
    let most = budget.most_bytes;
    budget.bytes = budget
        .bytes
        .checked_sub(copied)
        .ok_or_else(|| CollectError::TooMuch(format!("it is larger than {most} bytes")))?;
    Ok(into)
}

impl Budget {
    fn take_file(&mut self) -> Result<(), CollectError> {
        let most = self.most_files;
        let too_many = || CollectError::TooMuch(format!("it is more than {most} files"));
        self.files = self.files.checked_sub(1).ok_or_else(too_many)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn folders() -> (tempfile::TempDir, tempfile::TempDir) {
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
    }

    fn take(from: &tempfile::TempDir, to: &tempfile::TempDir) -> Result<(), CollectError> {
        let open = |path: &tempfile::TempDir| OwnedFd::from(File::open(path.path()).unwrap());
        collect(&open(from), &open(to), false)
    }

    /// What is said of a collection that is too much.
    fn too_much(result: Result<(), CollectError>) -> String {
        match result {
            Err(CollectError::TooMuch(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_and_folders_are_copied_and_made_read_only() {
        let (from, to) = folders();
        fs::create_dir(from.path().join("a")).unwrap();
        fs::write(from.path().join("a/b"), "hello").unwrap();
        take(&from, &to).unwrap();
        assert_eq!(fs::read(to.path().join("a/b")).unwrap(), b"hello");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(to.path().join("a/b")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o7777, 0o555);
    }

    #[test]
    fn links_pipes_and_sockets_are_left_out() {
        let (from, to) = folders();
        symlink("/etc/passwd", from.path().join("file")).unwrap();
        symlink("/etc", from.path().join("folder")).unwrap();
        nix::unistd::mkfifo(&from.path().join("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.path().join("socket")).unwrap();
        fs::write(from.path().join("real"), "").unwrap();
        take(&from, &to).unwrap();
        let names: Vec<_> =
            fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["real"]);
    }

    #[test]
    fn a_sparse_giant_and_a_thousand_and_one_files_are_refused() {
        let (from, to) = folders();
        File::create(from.path().join("giant")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(too_much(take(&from, &to)), "it is larger than 67108864 bytes");
        let (from, to) = folders();
        for number in 0..=MAX_FILES {
            fs::write(from.path().join(number.to_string()), "").unwrap();
        }
        assert_eq!(too_much(take(&from, &to)), "it is more than 1000 files");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_the_hosts_fault() {
        let (from, to) = folders();
        fs::write(from.path().join("a"), "").unwrap();
        let target = OwnedFd::from(File::open(to.path()).unwrap());
        fs::remove_dir(to.path()).unwrap();
        let source = OwnedFd::from(File::open(from.path()).unwrap());
        assert!(matches!(collect(&source, &target, false), Err(CollectError::Host(_))));
    }
}
