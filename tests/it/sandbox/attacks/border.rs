//! What a compile or a run leaves behind for the host to stumble over, and what it may read of it.

use super::*;

// 1, 2, 3: links planted for the engine to follow

#[tokio::test]
async fn links_left_by_a_compile_are_not_collected() {
    let sandbox = sandbox().await;
    let folder = tempfile::tempdir().unwrap();
    let mut compile = job(&[
        "/usr/bin/bash",
        "-c",
        "ln -s /etc/shadow /out/main; ln -s / /out/root; mkfifo /out/pipe; echo x > /out/real; \
         ln /out/real /out/twin; ln -s real /out/soft; mkdir /out/d; ln -s ../.. /out/d/up",
    ]);
    compile.collect = Some(folder.path().to_owned());
    run(&sandbox, compile).await.unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["d", "real", "twin"]);
    assert_eq!(std::fs::read_dir(folder.path().join("d")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_compile_that_leaves_too_much_is_refused_and_a_sparse_giant_takes_no_disk() {
    let sandbox = sandbox().await;
    let folder = tempfile::tempdir().unwrap();
    let mut giant = job(&["/usr/bin/truncate", "-s", "60G", "/out/giant"]);
    giant.collect = Some(folder.path().to_owned());
    let error = run(&sandbox, giant).await.unwrap_err();
    assert!(matches!(error, SandboxError::Collect(_)), "{error}");
    use std::os::unix::fs::MetadataExt;
    let size = std::fs::metadata(folder.path().join("giant")).unwrap().size();
    assert!(size <= (64 << 20) + 1, "{size}");
}

#[tokio::test]
async fn host_files_cannot_be_hard_linked_or_changed() {
    let body = r#"
attempt("link", lambda: os.link("/usr/bin/passwd", "/box/passwd"))
attempt("write usr", lambda: open("/usr/bin/x", "w"))
attempt("write etc", lambda: open("/etc/passwd", "a"))
attempt("chmod", lambda: os.chmod("/usr/bin/true", 0o777))
attempt("write root", lambda: open("/x", "w"))
attempt("write exe", lambda: open("/proc/self/exe", "wb"))
attempt("shadow", lambda: open("/etc/shadow"))
attempt("root home", lambda: os.listdir("/root"))
attempt("program", lambda: open("/program/x", "w"))
"#;
    let seen = lines(attempts(body)).await;
    // Which of the two refusals comes first depends on whose the file is.
    let refusals = seen.into_iter().map(|line| line.replace("EACCES", "EROFS"));
    assert_eq!(
        refusals.collect::<Vec<_>>(),
        [
            "link EXDEV",
            "write usr EROFS",
            "write etc EROFS",
            "chmod EROFS",
            "write root EROFS",
            "write exe EROFS",
            "shadow ENOENT",
            "root home ENOENT",
            "program EROFS",
        ]
    );
}

// 15: compilers

#[tokio::test]
async fn compiler_bombs_end_in_their_limits_and_host_secrets_cannot_be_included() {
    let sandbox = sandbox().await;
    for (source, expected) in [
        ("int main[0x40000000] = {1};", None),
        ("#include \"/dev/zero\"\nint main(void) {}", None),
        ("__asm__(\".incbin \\\"/etc/shadow\\\"\");\nint main(void) {}", Some("shadow")),
        ("#include \"/etc/shadow\"\nint main(void) {}", Some("No such file")),
        ("#include \"/proc/1/environ\"\nint main(void) {}", Some("ermission")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut compile = job(&["/usr/bin/gcc", "-o", "/out/main", "main.c"]);
        compile.files = vec![JailFile { path: "main.c".into(), content: Blob::from(source) }];
        compile.collect = Some(folder.path().to_owned());
        compile.caps.cpu_time = Duration::from_secs(3);
        let ran = run(&sandbox, compile).await.unwrap();
        let failed = ran.measured.end != End::Exited(0) || ran.measured.killed_for.is_some();
        assert!(failed, "{source}: {ran:?}");
        assert!(expected.is_none_or(|text| ran.stderr.contains(text)), "{source}: {ran:?}");
        assert!(!ran.stderr.contains("root:"), "{}", ran.stderr);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
