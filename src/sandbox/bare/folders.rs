//! The folders of a job without a jail: its own, in the folder for temporary files.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use crate::sandbox::{
    helper::broken,
    program,
    wire::{Order, Reply},
};

/// What a job has in place of a jail's writable folders.
pub(super) struct Folders {
    /// Holds the others.
    path: PathBuf,
    pub(super) work: PathBuf,
    temporary: PathBuf,
    pub(super) out: PathBuf,
    /// What was compiled before, where a jail would show it as /program.
    program: Option<PathBuf>,
}

impl Folders {
    /// The path begins with `prefix` and ends with `name`.
    pub(super) fn create(prefix: &Path, name: &str, order: &Order) -> Result<Folders, Reply> {
        let mut path = prefix.as_os_str().to_owned();
        path.push(name);
        let path = PathBuf::from(path);
        let folders = Folders {
            work: path.join("box"),
            temporary: path.join("tmp"),
            out: path.join("out"),
            program: order.program.clone(),
            path,
        };
        let make = |path: &Path| DirBuilder::new().mode(0o700).create(path);
        // The first fails where there is anything of this name, a link included.
        [&folders.path, &folders.work, &folders.temporary]
            .into_iter()
            .chain(order.collect.as_ref().map(|_| &folders.out))
            .try_for_each(|path| make(path))
            .map_err(broken("make the job's folder"))?;
        Ok(folders)
    }

    /// A word of a command or a variable's value with the real folder in place of a jail's, where it
    /// begins with one, or what follows its first `=` does.
    pub(super) fn real(&self, word: &str) -> String {
        let (name, path) = match word.split_once('=') {
            Some((name, path)) if !word.starts_with('/') => (Some(name), path),
            _ => (None, word),
        };
        let places = [
            ("/box", Some(&self.work)),
            ("/tmp", Some(&self.temporary)),
            ("/out", Some(&self.out)),
            ("/program", self.program.as_ref()),
        ];
        let replaced = places.into_iter().find_map(|(place, real)| {
            let rest = path
                .strip_prefix(place)
                .filter(|rest| matches!(rest.get(..1), None | Some("/")))?;
            Some(format!("{}{rest}", real?.display()))
        });
        match (name, replaced) {
            (_, None) => word.to_owned(),
            (None, Some(path)) => path,
            (Some(name), Some(path)) => format!("{name}={path}"),
        }
    }

    /// The variables of a job, those that every program has among them.
    pub(super) fn environment(&self, own: &[(String, String)]) -> Vec<(String, String)> {
        let fixed = program::ENVIRONMENT.iter().map(|(name, value)| (*name, *value));
        let missing = fixed.filter(|(name, _)| own.iter().all(|(of, _)| of != name));
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain(missing).map(|(name, value)| (name.to_owned(), self.real(value))).collect()
    }

    /// Bytes that it takes on its disk, as far as it can be read.
    pub(super) fn size(&self) -> u64 {
        size_of_folder(&self.path)
    }

    pub(super) fn remove(self) -> io::Result<()> {
        remove_folder(&self.path)
    }
}

/// Removes a folder with all in it, also what its owner has closed to itself.
fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder);
            fs::remove_dir_all(folder)
        }
        removed => removed,
    }
}

/// Gives the owner back what it may not have of its folders. Links are not followed.
fn open_up(folder: &Path) {
    // What cannot be opened cannot be removed either, and that is told.
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

fn size_of_folder(folder: &Path) -> u64 {
    /// Of which `blocks` counts, whatever the disk's own size is: see stat(2).
    const BLOCK_BYTES: u64 = 512;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of_folder(&entry.path()),
        Ok(found) => found.blocks() * BLOCK_BYTES,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Removes the folders of an earlier daemon's jobs.
pub(crate) fn clear(prefix: &Path) {
    let (Some(parent), Some(start)) = (prefix.parent(), prefix.file_name()) else { return };
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.metadata().is_ok_and(|found| found.uid() == geteuid().as_raw());
        if is_ours && entry.file_name().as_bytes().starts_with(start.as_bytes()) {
            // What stays is in nobody's way: no job gets this name again.
            let _ = remove_folder(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            command: Vec::new(),
            env: Vec::new(),
            mounts: Vec::new(),
            files: Vec::new(),
            program: Some("/data/programs/1".into()),
            collect: None,
            collects_cache: false,
            take: Vec::new(),
            tty: false,
            awaited: None,
            caps: Default::default(),
        }
    }

    fn folders(prefix: &Path, name: &str) -> Folders {
        Folders::create(prefix, name, &order()).expect("created")
    }

    #[test]
    fn words_that_begin_with_a_jails_folder_name_the_real_one() {
        let parent = tempfile::tempdir().expect("folder");
        let folders = folders(&parent.path().join("job-"), "1");
        let at = parent.path().join("job-1").display().to_string();
        for (word, real) in [
            ("/box", format!("{at}/box")),
            ("/tmp/go", format!("{at}/tmp/go")),
            ("/out/program", format!("{at}/out/program")),
            ("/program/main", "/data/programs/1/main".to_owned()),
            ("--into=/out/a=b", format!("--into={at}/out/a=b")),
        ] {
            assert_eq!(folders.real(word), real);
        }
        for same in ["/boxes", "/tmpfs/x", "/usr/bin/tmp", "a/tmp", "/a=/tmp", "tmp", "-o/out", ""]
        {
            assert_eq!(folders.real(same), same);
        }
        let own = [("HOME".to_owned(), "/box/x".to_owned()), ("A".to_owned(), "/b".to_owned())];
        let environment = folders.environment(&own);
        let value = |of: &str| {
            let mut found = environment.iter().filter(|(name, _)| name == of);
            let value = found.next().map(|(_, value)| value.clone());
            assert!(found.next().is_none(), "{of} is there once");
            value
        };
        assert_eq!(value("HOME"), Some(format!("{at}/box/x")));
        assert_eq!(value("TMPDIR"), Some(format!("{at}/tmp")));
        assert_eq!(value("A").as_deref(), Some("/b"));
        assert_eq!(value("LANG").as_deref(), Some("C.UTF-8"));
    }

    #[test]
    fn a_name_that_is_taken_is_refused_and_a_closed_folder_removed_all_the_same() {
        let parent = tempfile::tempdir().expect("folder");
        let prefix = parent.path().join("job-");
        std::os::unix::fs::symlink("/", parent.path().join("job-2")).expect("link");
        assert!(Folders::create(&prefix, "2", &order()).is_err());
        let folders = folders(&prefix, "1");
        fs::create_dir(folders.work.join("a")).expect("folder");
        fs::write(folders.work.join("a/b"), vec![1; 10_000]).expect("file");
        assert!(folders.size() >= 10_000, "{}", folders.size());
        fs::set_permissions(folders.work.join("a"), Permissions::from_mode(0o000)).expect("closed");
        folders.remove().expect("removed");
        assert!(!parent.path().join("job-1").exists());
    }

    #[test]
    fn what_an_earlier_daemon_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().expect("folder");
        let left = |name: &str| fs::create_dir_all(parent.path().join(name).join("box"));
        left("braindrill-1-0-7").and(left("braindrill-12-0-7")).expect("folders");
        clear(&parent.path().join("braindrill-1-"));
        assert!(!parent.path().join("braindrill-1-0-7").exists());
        assert!(parent.path().join("braindrill-12-0-7").exists());
    }
}
