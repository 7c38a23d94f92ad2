//! The same, of the runner alone: whose programs, which of them, and what programs can do about it.

use std::path::PathBuf;

use braindrill::{
    protocol::{CacheOwner, ExecutionRequest},
    submission::{Checker, CompileReport, SourceFile, Verdict},
};

use super::entries;
use crate::{
    local::{Local, test},
    support::disk::Disk,
};

/// A local backend with a cache, in a folder of its own.
struct Keeping {
    local: Local,
    folder: tempfile::TempDir,
}

impl Keeping {
    async fn start() -> Keeping {
        let folder = tempfile::tempdir().unwrap();
        let local = Local::keeping(1, folder.path()).await;
        Keeping { local, folder }
    }

    fn request(&self, owner: &str, language: &str, source: &str) -> ExecutionRequest {
        let cache_owner = Some(CacheOwner(owner.to_owned()));
        ExecutionRequest { cache_owner, ..self.local.request(language, source) }
    }

    async fn compile(&self, request: ExecutionRequest) -> CompileReport {
        self.local.execute(request).await.report().compile.as_deref().unwrap().clone()
    }

    fn kept(&self) -> Vec<PathBuf> {
        entries(&self.folder.path().join("compiled"))
    }
}

#[tokio::test]
async fn another_owner_and_one_that_is_not_named_get_nothing_of_what_is_kept() {
    let keeping = Keeping::start().await;
    let source = "int main(void) { return 0; }";
    for (owner, cached) in [("a", false), ("b", false), ("a", true), ("b", true)] {
        let compile = keeping.compile(keeping.request(owner, "c", source)).await;
        assert_eq!(compile.cached, cached, "{owner}");
    }
    let nobodys = ExecutionRequest { cache_owner: None, ..keeping.request("a", "c", source) };
    assert!(!keeping.compile(nobodys.clone()).await.cached);
    assert!(!keeping.compile(nobodys).await.cached);
    assert_eq!(keeping.kept().len(), 2);
}

#[tokio::test]
async fn a_compile_that_failed_is_made_again() {
    let keeping = Keeping::start().await;
    let endless = "#include \"/dev/zero\"\nint main(void) {}";
    for source in ["int main(void) { return undeclared; }", endless] {
        for _ in 0..2 {
            let compile = keeping.compile(keeping.request("a", "c", source)).await;
            assert!(!compile.success && !compile.cached, "{compile:?}");
        }
    }
    // One that ends well and leaves no program has failed too.
    let mut request = keeping.request("a", "c", "int main(void) { return 0; }");
    request.request.compile_args = vec!["-fsyntax-only".to_owned()];
    for _ in 0..2 {
        let compile = keeping.compile(request.clone()).await;
        assert!(!compile.success && !compile.cached, "{compile:?}");
    }
    assert_eq!(keeping.kept(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn the_same_files_in_another_order_are_the_same_unless_the_compiler_is_told() {
    let keeping = Keeping::start().await;
    let file = |(path, content): (&str, &str)| SourceFile {
        path: path.to_owned(),
        content: content.into(),
        encoding: Default::default(),
    };
    let with = |files: &[(&str, &str)]| {
        let mut request = keeping.request("a", "cpp", "");
        request.request.source = None;
        request.request.files = files.iter().copied().map(file).collect();
        request
    };
    let main = ("main.cpp", "#include \"a.h\"\nint main() {}");
    let headers = [("a.h", "#include \"b.h\""), ("b.h", "")];
    assert!(!keeping.compile(with(&[main, headers[0], headers[1]])).await.cached);
    assert!(keeping.compile(with(&[headers[1], main, headers[0]])).await.cached);
    // The order of sources is that in which their statics are made.
    let sources = [
        ("a.cpp", "#include <cstdio>\nstatic int a = puts(\"a\");"),
        ("b.cpp", "#include <cstdio>\nstatic int b = puts(\"b\");"),
    ];
    let main = ("main.cpp", "int main() {}");
    for (files, said) in [
        ([main, sources[0], sources[1]], "a\nb\n"),
        ([main, sources[1], sources[0]], "b\na\n"),
        ([main, sources[0], sources[1]], "a\nb\n"),
    ] {
        let executed = keeping.local.execute(with(&files)).await;
        assert_eq!(String::from_utf8_lossy(&executed.stdout(0)), said);
    }
}

#[tokio::test]
async fn a_custom_checker_is_kept_for_its_owner_too() {
    let keeping = Keeping::start().await;
    let checker = "int main(void) { return 0; }";
    let request = |owner: &str, said: &str| {
        let mut request = keeping.request(owner, "bash", &format!("echo {said}"));
        let mut one = test("1", "", "");
        one.checker = Checker::Custom { language: "c".to_owned(), source: checker.to_owned() };
        request.request.tests = vec![one];
        request.checker_languages = [("c".to_owned(), keeping.local.language("c"))].into();
        request
    };
    for (owner, kept) in [("a", 1), ("a", 1), ("b", 2)] {
        let executed = keeping.local.execute(request(owner, "x")).await;
        assert_eq!(executed.report().verdict, Verdict::Accepted, "{:?}", executed.report());
        assert_eq!(keeping.kept().len(), kept, "{owner}");
    }
    // As a program it is the same: the same files, compiled in the same way.
    assert!(keeping.compile(keeping.request("a", "c", checker)).await.cached);
    assert_eq!(keeping.local.left_over(), Vec::<String>::new());
}

#[tokio::test]
async fn a_program_changes_nothing_of_what_is_kept_and_its_files_do_not_tell_that_it_was() {
    let keeping = Keeping::start().await;
    // All that might tell of an earlier use, and all that might change a later one.
    let source = r#"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    struct stat s;
    stat("/program/program", &s);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    printf("%o %d %d %d %lld\n", s.st_mode, s.st_uid, s.st_gid, (int)s.st_nlink, (long long)s.st_size);
    printf("%d %d\n", now.tv_sec - s.st_mtim.tv_sec < 60, now.tv_sec - s.st_ctim.tv_sec < 60);
    printf("%d", open("/program/program", O_WRONLY) >= 0);
    printf("%d", open("/program/program", O_WRONLY | O_TRUNC) >= 0);
    printf("%d", open("/program/more", O_WRONLY | O_CREAT, 0755) >= 0);
    printf("%d", open("/proc/self/exe", O_RDWR) >= 0);
    printf("%d", unlink("/program/program") == 0);
    printf("%d", rename("/program/program", "/program/other") == 0);
    printf("%d", chmod("/program/program", 0777) == 0);
    printf("%d", link("/program/program", "/tmp/program") == 0);
    printf("%d", mkdir("/program/folder", 0755) == 0);
    printf("%d", truncate("/program/program", 0) == 0);
    printf("%d\n", mount(0, "/program", 0, MS_REMOUNT | MS_BIND, 0) == 0);
    char line[4096];
    for (FILE *mounts = fopen("/proc/self/mountinfo", "r"); fgets(line, sizeof line, mounts);)
        if (strstr(line, "compiled")) printf("kept in %s", line);
    DIR *folder = opendir("/program");
    for (struct dirent *e; (e = readdir(folder));) if (e->d_name[0] != '.') puts(e->d_name);
}
"#;
    let mut said = Vec::new();
    for round in 0..3 {
        let executed = keeping.local.execute(keeping.request("a", "c", source)).await;
        assert_eq!(executed.report().compile.as_ref().unwrap().cached, round > 0);
        said.push(String::from_utf8_lossy(&executed.stdout(0)).into_owned());
    }
    assert!(said[0].ends_with("1 1\n00000000000\nprogram\n"), "{}", said[0]);
    assert!(said[0].starts_with("100555 "), "{}", said[0]);
    assert_eq!(said[1..], [said[0].clone(), said[0].clone()]);
}

#[tokio::test]
async fn a_disk_without_room_for_keeping_costs_no_verdict() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let Some(disk) = Disk::mount(folder.path(), 80 << 20) else { return };
    let local = Local::keeping(1, folder.path()).await;
    // Twice this and what must stay free do not fit.
    let source = "char held[12 << 20] = {1}; int main(void) { return held[0] - 1; }";
    for _ in 0..2 {
        let cache_owner = Some(CacheOwner("a".to_owned()));
        let request = ExecutionRequest { cache_owner, ..local.request("c", source) };
        let executed = local.execute(request).await;
        assert_eq!(executed.report().verdict, Verdict::Accepted, "{:?}", executed.report());
        assert!(!executed.report().compile.as_ref().unwrap().cached);
    }
    assert_eq!(entries(&folder.path().join("compiled")), Vec::<PathBuf>::new());
    drop((local, disk));
}
