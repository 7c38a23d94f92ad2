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
const MAX_BYTES: u64 = 64 << 20;
const MAX_DEPTH: usize = 16;

/// What a collection may still take.
struct Budget {
    files: usize,
    bytes: u64,
}

/// Copies what is in `source` into `target`, an empty folder: files 0555, folders 0755. Links,
/// pipes, sockets and devices are left out.
///
/// # Errors
/// In words for the user: too many files, too many bytes, too deep; or an I/O error.
pub(super) fn collect(source: &OwnedFd, target: &OwnedFd) -> Result<(), String> {
    let mut budget = Budget { files: MAX_FILES, bytes: MAX_BYTES };
    copy_folder(source, target, &mut budget, 0)
}

fn copy_folder(
    source: &impl AsFd,
    target: &impl AsFd,
    budget: &mut Budget,
    depth: usize,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("its folders are nested more than {MAX_DEPTH} deep"));
    }
    let describe = |error: nix::errno::Errno| error.desc().to_owned();
    let listing = open(source, ".", OFlag::O_DIRECTORY).map_err(describe)?;
    let mut folder = Dir::from_fd(listing).map_err(describe)?;
    for entry in folder.iter() {
        let entry = entry.map_err(describe)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(found) = open(source, name, OFlag::empty()) else {
            continue; // a link, a socket, or something its own mode hides from us
        };
        let kind = SFlag::from_bits_truncate(fstat(&found).map_err(describe)?.st_mode);
        if kind & SFlag::S_IFMT == SFlag::S_IFDIR {
            budget.take_file()?;
            mkdirat(target, name, Mode::from_bits_truncate(0o755)).map_err(describe)?;
            let into = open(target, name, OFlag::O_DIRECTORY).map_err(describe)?;
            copy_folder(&found, &into, budget, depth + 1)?;
        } else if kind & SFlag::S_IFMT == SFlag::S_IFREG {
            budget.take_file()?;
            let flags = OFlag::O_WRONLY
                | OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC;
            let into =
                openat(target, name, flags, Mode::from_bits_truncate(0o600)).map_err(describe)?;
            let into = copy_file(File::from(found), File::from(into), budget)?;
            fchmod(&into, Mode::from_bits_truncate(0o555)).map_err(describe)?;
        }
    }
    Ok(())
}

fn open<P: nix::NixPath + ?Sized>(
    folder: &impl AsFd,
    name: &P,
    more: OFlag,
) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | more;
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(folder, name, OpenHow::new().flags(flags).resolve(beneath))
}

fn copy_file(from: File, mut into: File, budget: &mut Budget) -> Result<File, String> {
    let describe = |error: io::Error| error.to_string();
    let mut from = from.take(budget.bytes + 1);
    let copied = io::copy(&mut from, &mut into).map_err(describe)?;
    into.flush().map_err(describe)?;
    budget.bytes = budget
        .bytes
        .checked_sub(copied)
        .ok_or_else(|| format!("it is larger than {MAX_BYTES} bytes"))?;
    Ok(into)
}

impl Budget {
    fn take_file(&mut self) -> Result<(), String> {
        self.files = self
            .files
            .checked_sub(1)
            .ok_or_else(|| format!("it is more than {MAX_FILES} files"))?;
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

    fn take(from: &tempfile::TempDir, to: &tempfile::TempDir) -> Result<(), String> {
        let open = |path: &tempfile::TempDir| OwnedFd::from(File::open(path.path()).unwrap());
        collect(&open(from), &open(to))
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
        assert_eq!(take(&from, &to).unwrap_err(), "it is larger than 67108864 bytes");
        let (from, to) = folders();
        for number in 0..=MAX_FILES {
            fs::write(from.path().join(number.to_string()), "").unwrap();
        }
        assert_eq!(take(&from, &to).unwrap_err(), "it is more than 1000 files");
    }
}
