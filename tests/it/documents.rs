//! The documents name only what is there: files of the source, and each other.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document, and the picture at the head of the crate.
fn documents() -> Vec<PathBuf> {
    let root = repository();
    let mut documents = vec![root.join("src/lib.rs")];
    for folder in
        [root.to_owned(), root.join("docs"), root.join("docs/decisions"), root.join("openapi")]
    {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        documents.extend(entries.filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    documents
}

/// The Rust files that `text` names with a folder, as in `store/insert.rs` or `backend/{a,b}.rs`.
fn named_files(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./{},".contains(c);
    let words = text.split(|c: char| !is_part(c)).map(|word| word.trim_end_matches(['.', ',']));
    let names = words.filter(|word| word.ends_with(".rs") && word.contains('/'));
    names.filter(|name| !name.contains("//")).flat_map(expand).collect()
}

/// One name for each of the alternatives in braces.
fn expand(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let Some((alternatives, after)) = rest.split_once('}') else { return vec![name.to_owned()] };
    alternatives.split(',').map(|alternative| format!("{before}{alternative}{after}")).collect()
}

/// The targets of Markdown links to other files here.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    local.map(|target| target.split('#').next().unwrap_or(target).to_owned()).collect()
}

#[test]
fn every_source_file_that_is_named_exists() {
    let root = repository();
    let mut missing = Vec::new();
    for document in documents() {
        for name in named_files(&fs::read_to_string(&document).unwrap()) {
            if !root.join("src").join(&name).exists() && !root.join(&name).exists() {
                missing.push(format!("{} names {name}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

/// The names of tests in `text`: words of four parts and more, outside of code.
fn named_tests(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let prose = text.split('`').step_by(2);
    let words = prose.flat_map(|part| part.split(move |c: char| !is_part(c)));
    words.filter(|word| word.matches('_').count() >= 3).collect()
}

/// The text of every Rust file in `folder`.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = entries.map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    });
    text.collect()
}

#[test]
fn every_test_that_the_page_on_the_sandbox_names_exists() {
    let root = repository();
    let code = sources(&root.join("src")) + &sources(&root.join("tests"));
    let page = fs::read_to_string(root.join("docs/sandbox.md")).unwrap();
    let names = named_tests(&page);
    assert!(names.len() > 40, "the page names only {names:?}");
    let is_test = |name: &&str| code.contains(&format!("fn {name}()"));
    let missing: Vec<_> = names.into_iter().filter(|name| !is_test(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = Vec::new();
    for document in documents().into_iter().filter(|path| path.extension().unwrap() == "md") {
        for target in links(&fs::read_to_string(&document).unwrap()) {
            if !document.parent().unwrap().join(&target).exists() {
                dead.push(format!("{} links to {target}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "\n{}\n", dead.join("\n"));
}

#[test]
fn names_and_links_are_found_in_a_text() {
    let text = "see `store/insert.rs`, backend/{local,nomad}.rs, main.rs and [b](docs/b.md#c), \
                [web](https://a.b/c.rs), [here](#there)";
    let names = ["store/insert.rs", "backend/local.rs", "backend/nomad.rs"];
    assert_eq!(named_files(text), names);
    assert_eq!(links(text), ["docs/b.md"]);
}
