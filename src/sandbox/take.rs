//! Takes files out of the work directory of a dead jail, by name: what a program made for its user.
//!
//! As in `collect.rs`, nothing changes under our hands, and a path is followed from the work directory's own
//! descriptor, by no link, to nothing that would block.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::Path,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::OFlag,
    sys::stat::{SFlag, fstat},
};

use super::{MAX_TAKEN_BYTES, MAX_TAKEN_FILES, Taken, collect::open};

const MAX_DEPTH: usize = 16;

/// The most that is said of what lies in folders and is not taken.
const MAX_MISSED: usize = 32;

/// What was taken, and what may still be.
struct Bag<'a> {
    work: &'a OwnedFd,
    entries: Vec<Taken>,
    /// Files and folders that were looked at.
    seen: HashSet<String>,
    files_left: usize,
    bytes_left: u64,
    /// Of what was not taken.
    missed_left: usize,
}

/// Takes the files at these paths, and those below the folders among them, each once; what is not taken is
/// in the list with the reason.
///
/// # Errors
/// The work directory cannot be read.
pub(super) fn take(work: &OwnedFd, paths: &[String]) -> io::Result<Vec<Taken>> {
    let mut bag = Bag {
        work,
        entries: Vec::new(),
        seen: HashSet::new(),
        files_left: MAX_TAKEN_FILES,
        bytes_left: MAX_TAKEN_BYTES,
        missed_left: MAX_MISSED,
    };
    for path in paths {
        let path = path.trim_end_matches('/');
        if !bag.take(path, 0)? {
            let why = format!("is, or holds, more than the {MAX_TAKEN_FILES} files that are taken");
            bag.miss(path, why);
        } else if !bag.entries.iter().any(|entry| Path::new(&entry.path).starts_with(path)) {
            bag.miss(path, "holds no file".to_owned());
        }
    }
    Ok(bag.entries)
}

impl Bag<'_> {
    /// Whether there was room for all of it.
    fn take(&mut self, path: &str, depth: usize) -> io::Result<bool> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(true);
        }
        let found = match open(self.work, path, OFlag::empty()) {
            Ok(found) => found,
            Err(error) => return Ok(self.miss_one(path, cannot_open(error))),
        };
        let stat = fstat(&found)?;
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => self.read(path, found, stat.st_size),
            SFlag::S_IFDIR if depth < MAX_DEPTH => self.take_below(path, depth),
            SFlag::S_IFDIR => {
                Ok(self.miss_one(path, format!("is nested more than {MAX_DEPTH} deep")))
            }
            _ => Ok(self.miss_one(path, "is neither a file nor a folder".to_owned())),
        }
    }

    /// What is in a folder, in the order of the names.
    fn take_below(&mut self, path: &str, depth: usize) -> io::Result<bool> {
        let opened = open(self.work, path, OFlag::O_DIRECTORY);
        let mut folder = match opened.and_then(Dir::from_fd) {
            Ok(folder) => folder,
            Err(error) => return Ok(self.miss_one(path, cannot_open(error))),
        };
        let mut names = Vec::new();
        for entry in folder.iter() {
            let name = entry?.file_name().to_owned();
            if name.as_c_str() != c"." && name.as_c_str() != c".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        for name in names {
            let has_room = match name.to_str() {
                Ok(name) => self.take(&format!("{path}/{name}"), depth + 1)?,
                Err(_) => {
                    let path = format!("{path}/{}", name.to_string_lossy());
                    self.miss_one(&path, "has a name that is no text".to_owned())
                }
            };
            if !has_room {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read(&mut self, path: &str, file: OwnedFd, size: i64) -> io::Result<bool> {
        let bytes = u64::try_from(size).unwrap_or(0);
        if self.files_left == 0 {
            return Ok(false);
        }
        if bytes > self.bytes_left {
            let left = self.bytes_left;
            let why = format!("is larger than the {left} bytes that are left of {MAX_TAKEN_BYTES}");
            self.entries.push(Taken { path: path.to_owned(), bytes, content: Err(why) });
            self.missed_left = self.missed_left.saturating_sub(1);
            return Ok(self.missed_left > 0);
        }
        let mut content = Vec::with_capacity(bytes as usize);
        File::from(file).take(bytes).read_to_end(&mut content)?;
        let bytes = content.len() as u64;
        (self.files_left, self.bytes_left) = (self.files_left - 1, self.bytes_left - bytes);
        self.entries.push(Taken { path: path.to_owned(), bytes, content: Ok(content.into()) });
        Ok(true)
    }

    /// Notes one that is not taken, if there is room for more of those.
    fn miss_one(&mut self, path: &str, why: String) -> bool {
        if self.missed_left > 0 {
            self.missed_left -= 1;
            self.miss(path, why);
            return true;
        }
        false
    }

    fn miss(&mut self, path: &str, why: String) {
        self.entries.push(Taken { path: path.to_owned(), bytes: 0, content: Err(why) });
    }
}

/// As words that follow a path.
fn cannot_open(error: Errno) -> String {
    match error {
        Errno::ENOENT | Errno::ENOTDIR => "is not there".to_owned(),
        Errno::ELOOP | Errno::EXDEV => "is a link, or behind one, and none is followed".to_owned(),
        error => format!("cannot be opened: {}", error.desc()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::*;

    fn taken(work: &Path, paths: &[&str]) -> Vec<(String, u64, Result<Vec<u8>, String>)> {
        let paths: Vec<_> = paths.iter().map(|&path| path.to_owned()).collect();
        let taken = take(&File::open(work).expect("open").into(), &paths).expect("taken");
        let plain = |one: Taken| (one.path, one.bytes, one.content.map(|blob| blob.0.to_vec()));
        taken.into_iter().map(plain).collect()
    }

    #[test]
    fn files_and_what_is_below_folders_are_taken_once() {
        let work = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(work.path().join("plots/deep")).expect("folders");
        for (name, text) in
            [("a.txt", "a"), ("plots/2", "two"), ("plots/1", "one"), ("plots/deep/x", "")]
        {
            fs::write(work.path().join(name), text).expect("write");
        }
        let of = |path: &str, text: &str| (path.to_owned(), text.len() as u64, Ok(text.into()));
        assert_eq!(
            taken(work.path(), &["plots/2", "plots/", "a.txt", "a.txt"]),
            [of("plots/2", "two"), of("plots/1", "one"), of("plots/deep/x", ""), of("a.txt", "a")]
        );
    }

    #[test]
    fn what_is_no_file_of_the_work_directory_is_not_taken_and_said() {
        let outside = tempfile::tempdir().expect("tempdir");
        fs::write(outside.path().join("secret"), "s").expect("write");
        let work = tempfile::tempdir().expect("tempdir");
        symlink(outside.path().join("secret"), work.path().join("link")).expect("link");
        symlink(outside.path(), work.path().join("folder")).expect("link");
        nix::unistd::mkfifo(&work.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU)
            .expect("fifo");
        let up =
            format!("../{}/secret", outside.path().file_name().expect("name").to_string_lossy());
        for (path, why) in [
            ("missing", "not there"),
            ("link", "link"),
            ("folder/secret", "link"),
            ("fifo", "neither"),
            (&*up, "link"),
            ("/etc/passwd", "link"),
        ] {
            let all = taken(work.path(), &[path]);
            assert!(all[0].2.as_ref().is_err_and(|said| said.contains(why)), "{path}: {all:?}");
        }
    }

    #[test]
    fn what_is_not_taken_leaves_room_for_what_can_be() {
        let work = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(work.path().join("empty/e")).expect("folders");
        fs::create_dir(work.path().join("fifos")).expect("folder");
        for number in 0..40 {
            let fifo = work.path().join(format!("fifos/{number}"));
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("fifo");
        }
        fs::write(work.path().join("result"), "ok").expect("write");
        let all = taken(work.path(), &["fifos", "fifos/", "empty", "empty/e/", "gone", "result"]);
        assert_eq!(all.len(), MAX_MISSED + 5, "{all:?}");
        let last: Vec<_> = all[MAX_MISSED..].iter().map(|(path, ..)| &path[..]).collect();
        assert_eq!(last, ["fifos", "empty", "empty/e", "gone", "result"]);
        assert_eq!(all.last().expect("one").2, Ok(b"ok".to_vec()));
    }

    #[test]
    fn number_and_bytes_are_bounded_and_what_is_sparse_is_not_read() {
        let work = tempfile::tempdir().expect("tempdir");
        for number in 0..MAX_TAKEN_FILES + 5 {
            fs::write(work.path().join(format!("f{number:03}")), "x").expect("write");
        }
        let all = taken(work.path(), &[".", "f000", "f036"]);
        assert_eq!(all.len(), MAX_TAKEN_FILES + 3);
        let says = |index: usize| all[index].2.clone().expect_err("not taken");
        assert!(says(MAX_TAKEN_FILES).contains("more than the"), "{all:?}");
        assert_eq!((&*all[MAX_TAKEN_FILES + 2].0, all[0].2.is_ok()), ("f036", true));
        let sparse = File::create(work.path().join("sparse")).expect("create");
        sparse.set_len(1 << 40).expect("sparse");
        fs::write(work.path().join("most"), vec![0; MAX_TAKEN_BYTES as usize]).expect("write");
        let all = taken(work.path(), &["sparse", "most", "f000"]);
        assert!(all[0].2.is_err() && all[1].2.is_ok() && all[2].2.is_err(), "{}", all.len());
        assert_eq!(all[0].1, 1 << 40);
    }
}
