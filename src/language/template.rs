//! The few placeholders that commands and environment values of a language may hold.
//!
//! Pure: what is not known is an error, so that a typo in a language file shows when it is loaded
//! and not when somebody submits.

use std::{collections::BTreeMap, path::PathBuf};

/// The folder in the jail that a compile step writes to.
pub(super) const OUT: &str = "/out";

/// The folder in the jail where a run finds what the compile step wrote.
pub const PROGRAM: &str = "/program";

/// The folder in the jail that a compile step may use as a cache when nothing was made before.
const NO_CACHE: &str = "/tmp/cache";

/// What the placeholders stand for in one step of one request.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// Paths of the tools found, by name.
    pub tools: &'a BTreeMap<String, PathBuf>,
    /// The file to start, relative to the work directory.
    pub entrypoint: &'a str,
    /// All files that are source of the language.
    pub sources: &'a [String],
    /// Arguments of the run.
    pub args: &'a [String],
    /// Arguments added to the compiler's.
    pub compile_args: &'a [String],
    /// The memory limit of this step, in bytes.
    pub memory_bytes: u64,
    /// Whether a compile step is shown what was made once for its language, where a run is shown its
    /// program.
    pub has_cache: bool,
}

/// A placeholder that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{placeholder}` in `{word}` means nothing here")]
pub struct UnknownPlaceholder {
    /// The placeholder, with its braces.
    pub placeholder: String,
    /// The word that it stands in.
    pub word: String,
}

impl Values<'_> {
    /// The words of a command with every placeholder replaced.
    ///
    /// # Errors
    /// The first placeholder that means nothing.
    pub fn words(&self, command: &[String]) -> Result<Vec<String>, UnknownPlaceholder> {
        let mut words = Vec::with_capacity(command.len());
        for word in command {
            match word.as_str() {
                "{sources}" => words.extend(self.sources.iter().map(|path| as_path(path))),
                "{args}" => words.extend(self.args.iter().cloned()),
                "{compile_args}" => words.extend(self.compile_args.iter().cloned()),
                "{entrypoint}" => words.push(as_path(self.entrypoint)),
                _ => words.push(self.text(word)?),
            }
        }
        Ok(words)
    }

    /// One text with every placeholder replaced.
    ///
    /// # Errors
    /// The first placeholder that means nothing.
    pub fn text(&self, word: &str) -> Result<String, UnknownPlaceholder> {
        let mut text = String::with_capacity(word.len());
        let mut rest = word;
        while let Some(start) = rest.find('{') {
            text.push_str(&rest[..start]);
            rest = &rest[start..];
            let end = rest.find('}').map_or(rest.len(), |end| end + 1);
            match self.value(rest[..end].trim_matches(['{', '}'])) {
                Some(value) => text.push_str(&value),
                None => {
                    return Err(UnknownPlaceholder {
                        placeholder: rest[..end].to_owned(),
                        word: word.to_owned(),
                    });
                }
            }
            rest = &rest[end..];
        }
        text.push_str(rest);
        Ok(text)
    }

    fn value(&self, name: &str) -> Option<String> {
        if let Some(tool) = name.strip_prefix("tool:") {
            return self.tools.get(tool).map(|path| path.display().to_string());
        }
        Some(match name {
            "entrypoint" => self.entrypoint.to_owned(),
            "dir" => self.entrypoint.rsplit_once('/').map_or(".", |(dir, _)| dir).to_owned(),
            "stem" => stem(self.entrypoint).to_owned(),
            "out" => OUT.to_owned(),
            "program" => PROGRAM.to_owned(),
            "cache" => if self.has_cache { PROGRAM } else { NO_CACHE }.to_owned(),
            "memory_bytes" => self.memory_bytes.to_string(),
            "memory_mib" => (self.memory_bytes >> 20).max(1).to_string(),
            "memory_bytes_90_percent" => (self.memory_bytes / 10 * 9).to_string(),
            _ => return None,
        })
    }
}

/// A path without its last extension; a name that only begins with a dot has none.
fn stem(path: &str) -> &str {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[name..].rfind('.') {
        Some(dot) if dot > 0 => &path[..name + dot],
        _ => path,
    }
}

/// A path that no tool takes for an option (`-rf.c`) or for a list of arguments (`@list.c`).
fn as_path(path: &str) -> String {
    if path.starts_with(|first: char| first.is_alphanumeric() || first == '_' || first == '.') {
        path.to_owned()
    } else {
        format!("./{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(command: &[&str]) -> Result<Vec<String>, UnknownPlaceholder> {
        let tools = BTreeMap::from([("gcc".to_owned(), PathBuf::from("/usr/bin/gcc"))]);
        let values = Values {
            tools: &tools,
            entrypoint: "src/main.c",
            sources: &["src/main.c".to_owned(), "-rf.c".to_owned(), "@x.c".to_owned()],
            args: &["{tool:gcc}".to_owned(), "a b".to_owned()],
            compile_args: &["-Wall".to_owned()],
            memory_bytes: 256 << 20,
            has_cache: true,
        };
        let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        values.words(&command)
    }

    #[test]
    fn placeholders_inside_words_are_replaced() {
        assert_eq!(
            expand(&["{tool:gcc}", "-o{out}/{stem}", "{memory_mib}:{memory_bytes}", "{program}/p"]),
            Ok(vec![
                "/usr/bin/gcc".to_owned(),
                "-o/out/src/main".to_owned(),
                "256:268435456".to_owned(),
                "/program/p".to_owned()
            ])
        );
    }

    #[test]
    fn lists_become_one_word_each_and_paths_never_look_like_options() {
        assert_eq!(
            expand(&["{compile_args}", "{sources}"]),
            Ok(["-Wall", "src/main.c", "./-rf.c", "./@x.c"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn what_a_user_sent_is_never_expanded() {
        assert_eq!(expand(&["{args}"]), Ok(vec!["{tool:gcc}".to_owned(), "a b".to_owned()]));
    }

    #[test]
    fn unknown_placeholders_are_refused_by_name() {
        let error = expand(&["x", "-I{tool:clang}"]).expect_err("there is no such tool");
        assert_eq!(error.to_string(), "`{tool:clang}` in `-I{tool:clang}` means nothing here");
        assert!(expand(&["{oops"]).is_err(), "an open brace");
        assert!(expand(&["{sources}x"]).is_err(), "a list inside of a word");
    }

    #[test]
    fn the_stem_is_the_path_without_its_last_extension() {
        assert_eq!(stem("main.tar.gz"), "main.tar");
        assert_eq!(stem("a.b/main"), "a.b/main");
        assert_eq!(stem(".profile"), ".profile");
        assert_eq!(stem("pkg/Main.java"), "pkg/Main");
    }
}
