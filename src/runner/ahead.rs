//! Which programs an interpreter that was started before them can run, so that nobody can tell.
//!
//! It had no file to look at when it started, and a FIFO where the program's was to be. Whatever would show, by
//! what the language's definition says, is started when it is there.

use std::path::Path;

use super::program::Invocation;
use crate::{
    language::{AheadStart, LanguageDefinition, PROGRAM},
    sandbox::{Ahead, JailFile},
};

/// The most files and bytes of a compiled program that is handed over.
pub(super) const MOST_COMPILED: (usize, u64) = (200, 512 << 10);

/// What is to be run, and by what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program<'a> {
    pub(super) files: &'a [JailFile],
    pub(super) entrypoint: &'a str,
    /// What the compile step made, where there is one and it is small.
    pub(super) compiled: &'a [JailFile],
    /// That of the tool chain.
    pub(super) identity: &'a str,
}

/// How the interpreter of a program may be started ahead; `None` where it may not.
pub(super) fn start(
    language: &LanguageDefinition,
    program: Program<'_>,
    invocation: &Invocation<'_>,
) -> Option<Ahead> {
    let ahead = language.ahead.as_ref()?;
    // A program that is compiled is awaited where it will be, or not at all.
    if ahead.awaited.is_some() != language.compile.is_some() {
        return None;
    }
    let is_plain = invocation.env.is_empty() && invocation.args.is_empty();
    let mut all = program.files.iter().chain(program.compiled);
    if !is_plain || program.entrypoint != language.source_file || !all.all(|file| fits(file, ahead))
    {
        return None;
    }
    let (folder, name, in_which) = match &ahead.awaited {
        None => ("/box", program.entrypoint, program.files),
        Some(name) => (PROGRAM, name.as_str(), program.compiled),
    };
    in_which.iter().find(|file| file.path == name)?;
    let mut sources = program.files.iter().filter(|file| {
        // Of a compiled program every file may be a part of it.
        file.path == program.entrypoint || ahead.awaited.is_some()
    });
    sources.all(|file| reads_the_same(file, ahead)).then(|| Ahead {
        awaited: Path::new(folder).join(name),
        program: program.compiled.to_vec(),
        memory_bytes: ahead.memory_bytes,
        identity: program.identity.to_owned(),
    })
}

/// Whether an interpreter does not look for such a file while it starts.
fn fits(file: &JailFile, ahead: &AheadStart) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    // Under the home folder, which this is, those are settings.
    !file.path.starts_with('.') && !ahead.unless_files.iter().any(|other| other == name)
}

/// Whether a program runs as it would had its interpreter been started after it was there.
fn reads_the_same(file: &JailFile, ahead: &AheadStart) -> bool {
    // What is no text may be an archive or compiled, which an interpreter knows by looking twice.
    let Ok(source) = std::str::from_utf8(&file.content) else { return false };
    if source.contains('\0') {
        return false;
    }
    !ahead.unless_in_source.iter().any(|word| source.contains(word.as_str()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{language::Catalog, runner::caps, submission::Blob};

    fn is_ahead(language: &str, files: &[(&str, &str)]) -> bool {
        is_ahead_with(language, files, &[], &[])
    }

    fn is_ahead_with(
        language: &str,
        files: &[(&str, &str)],
        args: &[String],
        env: &[(&str, &str)],
    ) -> bool {
        let catalog = Catalog::load(None).expect("embedded");
        let language = catalog.get(language).expect("known").definition;
        let limits = language.default_limits();
        let env: BTreeMap<_, _> =
            env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let caps = caps::of_run(&limits, &language);
        let invocation = Invocation { args, env: &env, limits: &limits, caps };
        let file = |(path, text): &(&str, &str)| JailFile {
            path: path.to_string(),
            content: Blob::from(*text),
        };
        let files: Vec<_> = files.iter().map(file).collect();
        let (compiled, files) = match language.compile {
            Some(_) => (&files[1..], &files[..1]),
            None => (&[][..], &files[..]),
        };
        let program = Program { files, entrypoint: &files[0].path, compiled, identity: "" };
        start(&language, program, &invocation).is_some()
    }

    #[test]
    fn compiled_programs_are_that_have_the_file_that_is_awaited() {
        let source = ("Main.java", "class Main {}");
        assert!(is_ahead("java", &[source, ("Main.class", "x"), ("p/Other.class", "y")]));
        for files in [
            &[source][..],
            &[source, ("Other.class", "x")],
            &[source, ("Main.class", "x"), (".hidden", "y")],
            &[("Other.java", "x"), ("Main.class", "x")],
            &[("Main.java", "ManagementFactory.getRuntimeMXBean()"), ("Main.class", "x")],
        ] {
            assert!(!is_ahead("java", files), "{files:?}");
        }
        assert!(!is_ahead("c", &[("main.c", "x"), ("program", "y")]));
        // Of another's definition, which does not say which file it is.
        let mut language =
            (*Catalog::load(None).expect("embedded").get("java").expect("known").definition)
                .clone();
        language.ahead.as_mut().expect("it has it").awaited = None;
        let files = [JailFile { path: "Main.java".to_owned(), content: Blob::from("x") }];
        let program =
            Program { files: &files, entrypoint: "Main.java", compiled: &files, identity: "" };
        let limits = language.default_limits();
        let caps = caps::of_run(&limits, &language);
        let invocation = Invocation { args: &[], env: &BTreeMap::new(), limits: &limits, caps };
        assert!(start(&language, program, &invocation).is_none());
    }

    #[test]
    fn plain_programs_of_the_languages_that_say_so_are() {
        for (language, file) in [
            ("python", "main.py"),
            ("javascript", "main.js"),
            ("ruby", "main.rb"),
            ("perl", "main.pl"),
            ("php", "main.php"),
            ("lua", "main.lua"),
        ] {
            assert!(is_ahead(language, &[(file, "x")]), "{language}");
            assert!(is_ahead(language, &[(file, "x"), ("lib/other", "y")]), "{language}");
            let word = ["x".to_owned()];
            assert!(!is_ahead_with(language, &[(file, "x")], &word, &[]), "{language}");
            assert!(!is_ahead_with(language, &[(file, "x")], &[], &[("A", "b")]), "{language}");
            assert!(!is_ahead(language, &[("other", "x")]), "{language}");
            assert!(!is_ahead(language, &[(file, "x"), (".config/x", "y")]), "{language}");
        }
        for (language, file) in [("c", "main.c"), ("bash", "main.sh"), ("typescript", "main.ts")] {
            assert!(!is_ahead(language, &[(file, "x")]), "{language}");
        }
    }

    #[test]
    fn what_would_be_read_in_another_way_is_not() {
        for (language, file, source) in [
            ("perl", "main.pl", "print time - $^T"),
            ("ruby", "main.rb", "puts DATA.read\n__END__\nx\n"),
        ] {
            assert!(!is_ahead(language, &[(file, source)]), "{source}");
        }
        assert!(is_ahead("python", &[("main.py", "# -*- coding: latin-1 -*-\n")]));
        assert!(is_ahead("perl", &[("main.pl", "print <DATA>;\n__DATA__\nx\n")]));
        assert!(!is_ahead("python", &[("main.py", "PK\0")]));
        assert!(!is_ahead("javascript", &[("main.js", "x"), ("package.json", "{}")]));
        assert!(is_ahead("python", &[("main.py", "x"), ("package.json", "{}")]));
    }
}
