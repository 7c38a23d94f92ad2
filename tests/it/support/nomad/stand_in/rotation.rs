//! A task's log: files of a bounded size, of which the oldest are deleted without a word.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

/// Where a task's output goes.
#[derive(Debug)]
pub(super) struct Rotation {
    folder: PathBuf,
    base: String,
    max_files: u64,
    max_bytes: u64,
    index: u64,
    file: File,
    written: u64,
}

/// The files `BASE.N` in a folder, oldest first.
pub(super) fn files(folder: &Path, base: &str) -> Vec<(u64, PathBuf)> {
    let number = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let number = name.strip_prefix(base)?.strip_prefix('.')?.parse().ok()?;
        Some((number, entry.path()))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.filter_map(number).collect();
    files.sort_unstable();
    files
}

impl Rotation {
    /// Goes on with the last file that is there: a task that is started again appends.
    pub(super) fn open(
        folder: &Path,
        base: &str,
        max_files: u64,
        max_bytes: u64,
    ) -> std::io::Result<Rotation> {
        let index = files(folder, base).last().map_or(0, |(index, _)| *index);
        let path = folder.join(format!("{base}.{index}"));
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let written = file.metadata()?.len();
        let (folder, base) = (folder.to_owned(), base.to_owned());
        Ok(Rotation { folder, base, max_files, max_bytes, index, file, written })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            if self.written >= self.max_bytes {
                self.rotate()?;
            }
            let room = usize::try_from(self.max_bytes - self.written).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.file.write_all(now)?;
            self.written += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        self.index += 1;
        let path = self.folder.join(format!("{}.{}", self.base, self.index));
        self.file = OpenOptions::new().append(true).create(true).open(path)?;
        self.written = 0;
        for (index, path) in files(&self.folder, &self.base) {
            if index + self.max_files <= self.index {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[test]
fn the_head_of_a_log_that_outgrows_its_files_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Rotation::open(folder.path(), "t.stdout", 2, 4).unwrap();
    for bytes in [&b"abcdef"[..], b"ghij", b"kl"] {
        log.write(bytes).unwrap();
    }
    let kept: Vec<_> = files(folder.path(), "t.stdout")
        .into_iter()
        .map(|(index, path)| (index, std::fs::read_to_string(path).unwrap()))
        .collect();
    assert_eq!(kept, [(1, "efgh".to_owned()), (2, "ijkl".to_owned())]);
}
