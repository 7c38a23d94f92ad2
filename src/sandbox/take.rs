//! Takes files out of the work directory of a dead jail, by name: what a program made for its user.
//!
//! As in `collect.rs`, nothing changes under our hands, and every step goes by open folders, follows no
//! link and opens nothing that would block.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::Path,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::OFlag,
    sys::stat::{FileStat, SFlag, fstat},
};

use super::{MAX_TAKEN_BYTES, MAX_TAKEN_FILES, Taken, collect::open};
use crate::submission::Blob;

const MAX_DEPTH: usize = 16;

/// What was taken, and what may still be.
struct Bag<'a> {
    work: &'a OwnedFd,
    taken: Vec<Taken>,
    bytes_left: u64,
}

/// The same, from a folder by its path; nothing of it is opened where nothing is wanted.
///
/// # Errors
/// It cannot be read.
pub(super) fn take_from(work: &Path, paths: &[String]) -> io::Result<Vec<Taken>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    take(&File::open(work)?.into(), paths)
}

/// Takes the files at these paths, and those below the folders among them, each once; what is not taken is
/// in the list with the reason.
///
/// # Errors
/// The work directory cannot be read.
pub(super) fn take(work: &OwnedFd, paths: &[String]) -> io::Result<Vec<Taken>> {
    let mut bag = Bag { work, taken: Vec::new(), bytes_left: MAX_TAKEN_BYTES };
    for path in paths {
        bag.take(path.trim_end_matches('/'), 0)?;
        if bag.taken.len() > MAX_TAKEN_FILES {
            bag.taken.truncate(MAX_TAKEN_FILES);
            let why = format!("no more than {MAX_TAKEN_FILES} files are taken");
            bag.taken.push(Taken { path: path.clone(), bytes: 0, content: Err(why) });
            break;
        }
    }
    Ok(bag.taken)
}

impl Bag<'_> {
    fn take(&mut self, path: &str, depth: usize) -> io::Result<()> {
        if self.taken.len() > MAX_TAKEN_FILES || self.taken.iter().any(|other| other.path == path) {
            return Ok(());
        }
        let (bytes, content) = match open(self.work, path, OFlag::empty()) {
            Err(error) => (0, Err(cannot_open(error))),
            Ok(found) => {
                let stat = fstat(&found)?;
                match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
                    SFlag::S_IFREG => self.read(found, &stat)?,
                    SFlag::S_IFDIR if depth < MAX_DEPTH => return self.take_below(path, depth),
                    SFlag::S_IFDIR => (0, Err(format!("is nested more than {MAX_DEPTH} deep"))),
                    _ => (0, Err("is neither a file nor a folder".to_owned())),
                }
            }
        };
        self.taken.push(Taken { path: path.to_owned(), bytes, content });
        Ok(())
    }

    /// What is in a folder, in the order of the names.
    fn take_below(&mut self, path: &str, depth: usize) -> io::Result<()> {
        let mut folder = Dir::from_fd(open(self.work, path, OFlag::O_DIRECTORY)?)?;
        let mut names = Vec::new();
        for entry in folder.iter() {
            let name = entry?.file_name().to_owned();
            if name.as_c_str() != c"." && name.as_c_str() != c".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        for name in names {
            match name.to_str() {
                Ok(name) => self.take(&format!("{path}/{name}"), depth + 1)?,
                Err(_) => {
                    let path = format!("{path}/{}", name.to_string_lossy());
                    let content = Err("its name is no text".to_owned());
                    self.taken.push(Taken { path, bytes: 0, content });
                }
            }
            if self.taken.len() > MAX_TAKEN_FILES {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self, file: OwnedFd, stat: &FileStat) -> io::Result<(u64, Result<Blob, String>)> {
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if bytes > self.bytes_left {
            let left = self.bytes_left;
            let why = format!("is larger than the {left} bytes that are left of {MAX_TAKEN_BYTES}");
            return Ok((bytes, Err(why)));
        }
        let mut content = Vec::with_capacity(bytes as usize);
        File::from(file).take(bytes).read_to_end(&mut content)?;
        self.bytes_left -= bytes;
        Ok((bytes, Ok(content.into())))
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
    fn number_and_bytes_are_bounded_and_what_is_sparse_is_not_read() {
        let work = tempfile::tempdir().expect("tempdir");
        for number in 0..MAX_TAKEN_FILES + 5 {
            fs::write(work.path().join(format!("f{number:03}")), "x").expect("write");
        }
        let all = taken(work.path(), &["."]);
        assert_eq!(all.len(), MAX_TAKEN_FILES + 1);
        assert!(all.last().is_some_and(|(_, _, content)| content.is_err()), "{all:?}");
        let sparse = File::create(work.path().join("sparse")).expect("create");
        sparse.set_len(1 << 40).expect("sparse");
        fs::write(work.path().join("most"), vec![0; MAX_TAKEN_BYTES as usize]).expect("write");
        let all = taken(work.path(), &["sparse", "most", "f000"]);
        assert!(all[0].2.is_err() && all[1].2.is_ok() && all[2].2.is_err(), "{}", all.len());
        assert_eq!(all[0].1, 1 << 40);
    }
}
