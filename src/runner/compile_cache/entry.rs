//! One kept program as one file: written to a name of its own and renamed, read as a whole or not at
//! all.
//!
//! ```text
//!  magic │ length of the head, 8 bytes, little endian │ head, JSON │ contents, one after the other │ digest
//! ```
//!
//! The digest is the BLAKE3 of all before it. The head has key, report, and the paths, in base64 since
//! a file's name may be any bytes. Modes are not kept: those of what is taken from a compile are
//! always the same, see `sandbox/collect.rs`.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, BufReader, BufWriter, Read, Seek as _, Write},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Component, Path, PathBuf},
};

use nix::libc;
use serde::{Deserialize, Serialize};

use super::Key;
use crate::submission::{Blob, CompileReport};

/// The form of a file; another one has another magic.
const MAGIC: [u8; 8] = *b"bdprog1\n";

/// Of magic and length.
const BEFORE_HEAD: u64 = MAGIC.len() as u64 + 8;

const DIGEST: u64 = blake3::OUT_LEN as u64;

/// Why a file gives no program.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is not what was written.
    Damaged(&'static str),
    /// It cannot be read, or its program cannot be written.
    Host(io::Error),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Unusable::Host(error)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    key: String,
    compile: CompileReport,
    /// A folder before what is in it.
    items: Vec<Item>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Item {
    /// Relative to the program's folder.
    path: Blob,
    /// Of a file; absent of a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

impl Item {
    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }
}

/// A program that is about to be kept.
#[derive(Debug)]
pub(super) struct Contents {
    program: PathBuf,
    head: Vec<u8>,
    items: Vec<Item>,
}

impl Contents {
    /// Looks through the folder of a compiled program.
    pub(super) fn of(program: &Path, key: &Key, compile: &CompileReport) -> io::Result<Contents> {
        let mut items = Vec::new();
        list(program, Path::new(""), &mut items)?;
        let head = Head { key: key.to_hex().to_string(), compile: compile.clone(), items };
        let bytes = serde_json::to_vec(&head)?;
        Ok(Contents { program: program.to_owned(), head: bytes, items: head.items })
    }

    /// How large its file is.
    pub(super) fn bytes(&self) -> u64 {
        let files: u64 = self.items.iter().filter_map(|item| item.bytes).sum();
        BEFORE_HEAD + self.head.len() as u64 + files + DIGEST
    }

    /// Writes the file, where there is none of this name.
    pub(super) fn write(&self, to: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        let mut file = Summing { hasher: blake3::Hasher::new(), inner: BufWriter::new(file) };
        file.write_all(&MAGIC)?;
        file.write_all(&(self.head.len() as u64).to_le_bytes())?;
        file.write_all(&self.head)?;
        for item in &self.items {
            let Some(bytes) = item.bytes else { continue };
            let mut from = open(&self.program.join(item.path()))?.take(bytes);
            if io::copy(&mut from, &mut file)? != bytes {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let digest = file.hasher.finalize();
        file.inner.write_all(digest.as_bytes())?;
        file.inner.flush()
    }
}

/// Puts the program of a file into the empty folder `into`, as a compile would have left it there.
pub(super) fn unpack(path: &Path, key: &Key, into: &Path) -> Result<CompileReport, Unusable> {
    let mut file = open(path)?;
    let length = file.metadata()?.len();
    check(&file, length)?;
    file.rewind()?;
    let mut file = BufReader::new(file);
    let mut before = [0; BEFORE_HEAD as usize];
    file.read_exact(&mut before)?;
    let (magic, head_length) = before.split_at(MAGIC.len());
    let head_length = u64::from_le_bytes(head_length.try_into().expect("they are eight"));
    if magic != MAGIC || head_length > length {
        return Err(Unusable::Damaged("it is of another form"));
    }
    let mut head = Vec::new();
    file.by_ref().take(head_length).read_to_end(&mut head)?;
    let head: Head =
        serde_json::from_slice(&head).map_err(|_| Unusable::Damaged("its head means nothing"))?;
    if head.key != key.to_hex().as_str() {
        return Err(Unusable::Damaged("it is that of another key"));
    }
    for item in &head.items {
        if !is_inside(item.path()) {
            return Err(Unusable::Damaged("a path leads out of it"));
        }
        let target = into.join(item.path());
        match item.bytes {
            None => {
                DirBuilder::new().create(&target)?;
                // Whatever the umask is: the jail's user has to read it.
                std::fs::set_permissions(&target, Permissions::from_mode(0o755))?;
            }
            Some(bytes) => {
                let mut to = File::create_new(&target)?;
                if io::copy(&mut file.by_ref().take(bytes), &mut to)? != bytes {
                    return Err(Unusable::Damaged("it is too short"));
                }
                to.set_permissions(Permissions::from_mode(0o555))?;
            }
        }
    }
    Ok(CompileReport { cached: true, ..head.compile })
}

/// Whether the file is as it was written.
fn check(file: &File, length: u64) -> Result<(), Unusable> {
    let Some(summed) = length.checked_sub(DIGEST) else {
        return Err(Unusable::Damaged("it is too short"));
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file.take(summed))?;
    let mut digest = [0; blake3::OUT_LEN];
    let mut rest = file;
    rest.read_exact(&mut digest)?;
    if hasher.finalize() != digest {
        return Err(Unusable::Damaged("its digest is another"));
    }
    Ok(())
}

/// Opens a regular file: no link is followed, and nothing is waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    Ok(file)
}

/// Adds what is in the folder `below`.
fn list(program: &Path, below: &Path, items: &mut Vec<Item>) -> io::Result<()> {
    for entry in std::fs::read_dir(program.join(below))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let path = below.join(entry.file_name());
        let name = Blob::from(path.as_os_str().as_bytes().to_vec());
        if metadata.is_dir() {
            items.push(Item { path: name, bytes: None });
            list(program, &path, items)?;
        } else {
            items.push(Item { path: name, bytes: Some(metadata.len()) });
        }
    }
    Ok(())
}

/// Whether a path names something below the folder that it is relative to.
fn is_inside(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Writes on, and sums what it writes.
struct Summing<W> {
    hasher: blake3::Hasher,
    inner: W,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::submission::Output;

    fn report() -> CompileReport {
        CompileReport {
            success: true,
            reason: String::new(),
            exit_code: Some(0),
            signal: None,
            stdout: Output::default(),
            stderr: Output::default(),
            cpu_time_ms: 0,
            wall_time_ms: 0,
            memory_bytes: 0,
            cached: false,
        }
    }

    /// Writes an entry whose one file has this path instead of `program`.
    pub(in super::super) fn write_with_path(program: &Path, key: &Key, path: &str, to: &Path) {
        let mut contents = Contents::of(program, key, &report()).unwrap();
        let mut head: Head = serde_json::from_slice(&contents.head).unwrap();
        head.items[0].path = path.into();
        contents.head = serde_json::to_vec(&head).unwrap();
        contents.write(to).unwrap();
    }

    #[test]
    fn the_size_of_a_file_is_known_before_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::create_dir_all(program.join("a")).unwrap();
        std::fs::write(program.join("a/file"), "content").unwrap();
        let key = blake3::hash(b"key");
        let contents = Contents::of(&program, &key, &report()).unwrap();
        let file = folder.path().join("file");
        contents.write(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), contents.bytes());
        assert!(contents.write(&file).is_err(), "it is there");
    }
}
