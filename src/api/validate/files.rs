//! The program itself: one text or some files, and which of them is started.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Faults, QUOTE, dto, shorten};
use crate::{
    language::LanguageDefinition,
    submission::{Blob, Encoding, SourceFile},
};

/// Most files of a program.
const MAX_FILES: usize = 100;
/// Most paths that are taken back.
const MAX_COLLECT: usize = 16;
/// Most bytes of one part of a path: NAME_MAX.
const MAX_PART_BYTES: usize = 255;
/// Most bytes of a path; far below PATH_MAX, which also covers what the jail puts in front.
const MAX_PATH_BYTES: usize = 1024;
/// Most parts of a path: with 100 files it keeps the folders below the jail's 4,096 inodes.
const MAX_PARTS: usize = 16;
/// What a file takes at the least in a tmpfs: whole pages.
const PAGE: u64 = 4096;

/// A sound program.
pub(super) struct Program {
    pub(super) source: Option<String>,
    pub(super) files: Vec<SourceFile>,
    pub(super) entrypoint: String,
    /// What its files take in the work directory.
    pub(super) disk_bytes: u64,
}

const NONE: Program =
    Program { source: None, files: Vec::new(), entrypoint: String::new(), disk_bytes: 0 };

/// Checks the program. Where there are faults, what comes back is not used.
pub(super) fn program(
    source: Option<String>,
    files: Option<Vec<dto::SourceFile>>,
    entrypoint: Option<String>,
    definition: &LanguageDefinition,
    faults: &mut Faults,
) -> Program {
    if let Some(fault) = entrypoint.as_deref().and_then(path_fault) {
        faults.add("entrypoint", fault);
    }
    match (source, files) {
        (Some(source), None) => Program {
            disk_bytes: pages(source.len()),
            source: Some(source),
            files: Vec::new(),
            entrypoint: entrypoint.unwrap_or_else(|| definition.source_file.clone()),
        },
        (None, Some(files)) => of_files(files, entrypoint, definition, faults),
        (both, _) => {
            let fault = if both.is_some() {
                "stands beside `files`; send one of them"
            } else {
                "is missing, and so is `files`; send one of them"
            };
            faults.add("source", fault);
            NONE
        }
    }
}

fn of_files(
    sent: Vec<dto::SourceFile>,
    entrypoint: Option<String>,
    definition: &LanguageDefinition,
    faults: &mut Faults,
) -> Program {
    if sent.is_empty() {
        faults.add("files", "is empty; send at least one file");
        return NONE;
    }
    faults.at_most("files", sent.len(), MAX_FILES, "files");
    check_paths(&sent, faults);
    let entrypoint = choose_entrypoint(&sent, entrypoint, definition, faults);
    let mut files = Vec::with_capacity(sent.len());
    for (index, file) in sent.into_iter().enumerate() {
        let (content, encoding) = match file.encoding.unwrap_or_default() {
            dto::Encoding::Utf8 => (Blob::from(file.content), Encoding::Utf8),
            dto::Encoding::Base64 => match STANDARD.decode(&file.content) {
                Ok(bytes) => (Blob::from(bytes), Encoding::Base64),
                Err(_) => {
                    let field = format!("files[{index}].content");
                    faults.add(field, "is not standard base64 with padding");
                    continue;
                }
            },
        };
        files.push(SourceFile { path: file.path, content, encoding });
    }
    let disk_bytes = files.iter().map(|file| pages(file.content.len())).sum();
    Program { source: None, files, entrypoint, disk_bytes }
}

/// Checks the paths that are to be taken back.
pub(super) fn check_collect(paths: &[String], has_tests: bool, faults: &mut Faults) {
    if has_tests && !paths.is_empty() {
        faults.add("collect", "stands beside `tests`; files are taken of a single run alone");
    }
    faults.at_most("collect", paths.len(), MAX_COLLECT, "paths");
    for (index, path) in paths.iter().enumerate() {
        // A folder may be named as one.
        if let Some(fault) = path_fault(path.strip_suffix('/').unwrap_or(path)) {
            faults.add(format!("collect[{index}]"), fault);
        }
    }
}

fn pages(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(PAGE) * PAGE
}

fn choose_entrypoint(
    files: &[dto::SourceFile],
    named: Option<String>,
    definition: &LanguageDefinition,
    faults: &mut Faults,
) -> String {
    let is_there = |path: &str| files.iter().any(|file| file.path == path);
    match named {
        Some(named) if is_there(&named) => named,
        Some(named) => {
            let detail = format!("`{}` is not the path of one of `files`", shorten(&named, QUOTE));
            faults.add("entrypoint", detail);
            named
        }
        None if is_there(&definition.source_file) => definition.source_file.clone(),
        None => match files {
            [only] => only.path.clone(),
            _ => {
                let usual = &definition.source_file;
                let detail = format!(
                    "is missing, and `{usual}` is not among the files; name the file to start"
                );
                faults.add("entrypoint", detail);
                String::new()
            }
        },
    }
}

fn check_paths(files: &[dto::SourceFile], faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for (index, file) in files.iter().enumerate() {
        let field = format!("files[{index}].path");
        if let Some(fault) = path_fault(&file.path) {
            faults.add(field, fault);
        } else if !seen.insert(file.path.as_str()) {
            faults.add(field, format!("`{}` is there twice", shorten(&file.path, QUOTE)));
        }
    }
    for (index, file) in files.iter().enumerate() {
        let folder = folders(&file.path).find(|folder| seen.contains(folder));
        if let Some(folder) = folder {
            let folder = shorten(folder, QUOTE);
            let detail = format!("`{folder}` is a file too, and cannot be a folder");
            faults.add(format!("files[{index}].path"), detail);
        }
    }
}

/// Every folder that a path goes through: `a` and `a/b` of `a/b/c`.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// What is wrong with a path, if anything.
fn path_fault(path: &str) -> Option<String> {
    if path.is_empty() || path.len() > MAX_PATH_BYTES {
        let bytes = path.len();
        return Some(format!("is {bytes} bytes long, which is not between 1 and {MAX_PATH_BYTES}"));
    }
    if path.starts_with('/') {
        return Some("begins with `/`, and must be relative".to_owned());
    }
    if let Some(bad) = path.chars().find(|&char| char == '\\' || char.is_control()) {
        return Some(format!("holds {bad:?}, which is not allowed"));
    }
    let parts = path.split('/');
    if parts.clone().count() > MAX_PARTS {
        return Some(format!("has more than {MAX_PARTS} parts"));
    }
    for part in parts {
        match part {
            "" => return Some("has an empty part".to_owned()),
            "." | ".." => return Some(format!("has the part `{part}`, which is not allowed")),
            long if long.len() > MAX_PART_BYTES => {
                return Some(format!("has a part of more than {MAX_PART_BYTES} bytes"));
            }
            _ => {}
        }
    }
    None
}
