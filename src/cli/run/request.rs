//! The request that a command line means.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::Args;
use crate::cli::client::text;

/// More is not read: no daemon takes that much.
const MOST: u64 = 64 << 20;

/// The body of `POST /v1/submissions`. `languages` is what `GET /v1/languages` answers.
///
/// # Errors
/// A file cannot be read, or it is not known in which language it is.
pub(super) fn request(args: &Args, languages: &Value) -> anyhow::Result<Value> {
    if args.stdin.as_deref() == Some(Path::new("-")) && args.file == Path::new("-") {
        bail!("the program and its input cannot both be our standard input");
    }
    let is_interactive = args.interactive || args.tty;
    let ours = Path::new("-");
    if is_interactive && (args.file == ours || args.stdin.as_deref() == Some(ours)) {
        bail!("our standard input is for the program while it runs; name a file instead of -");
    }
    let mut request = Map::new();
    request.insert("language".to_owned(), language(args, languages)?.into());
    request.insert("source".to_owned(), read(&args.file)?.into());
    let name = args.file.file_name().and_then(|name| name.to_str()).filter(|name| *name != "-");
    if let Some(name) = name {
        request.insert("entrypoint".to_owned(), name.into());
    }
    if let Some(file) = &args.stdin {
        request.insert("stdin".to_owned(), read(file)?.into());
    }
    if !args.args.is_empty() {
        request.insert("args".to_owned(), args.args.clone().into());
    }
    let limits: Map<_, _> = [
        ("cpu_time_ms", args.cpu_time_ms),
        ("wall_time_ms", args.wall_time_ms),
        ("memory_bytes", args.memory_bytes),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
    .collect();
    if !limits.is_empty() {
        request.insert("limits".to_owned(), limits.into());
    }
    if !args.collect.is_empty() {
        request.insert("collect".to_owned(), args.collect.clone().into());
    }
    if is_interactive {
        request.insert("interactive".to_owned(), true.into());
    }
    if args.tty {
        request.insert("tty".to_owned(), true.into());
    }
    let tests = args.tests.iter().map(|test| self::test(test));
    let tests = tests.collect::<anyhow::Result<Vec<_>>>()?;
    if !tests.is_empty() {
        request.insert("tests".to_owned(), tests.into());
    }
    Ok(request.into())
}

fn test(named: &str) -> anyhow::Result<Value> {
    let (input, output) = named.split_once(':').with_context(|| {
        format!("--test {named}: name the input and the output, as in 1.in:1.out")
    })?;
    let name = Path::new(input).file_name().and_then(|name| name.to_str()).unwrap_or(input);
    Ok(json!({
        "name": name,
        "stdin": read(Path::new(input))?,
        "expected_output": read(Path::new(output))?,
    }))
}

/// The language that is named, else the one whose files end as this one does.
fn language(args: &Args, languages: &Value) -> anyhow::Result<String> {
    if let Some(language) = &args.language {
        return Ok(language.clone());
    }
    let extension = |name: &str| {
        Path::new(name).extension().and_then(|it| it.to_str()).map(str::to_ascii_lowercase)
    };
    let Some(wanted) = args.file.to_str().and_then(extension) else {
        bail!("name the language with --language: the file has no extension");
    };
    let all = languages["items"].as_array().into_iter().flatten();
    let mut found = all.filter(|it| {
        extension(text(it, "/source_file")).as_ref() == Some(&wanted)
            || it["aliases"].as_array().into_iter().flatten().any(|alias| *alias == *wanted)
    });
    match found.next() {
        Some(language) => Ok(text(language, "/id").to_owned()),
        None => bail!("no language has files that end in .{wanted}; name it with --language"),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(MOST).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))
}
