//! The whole of `ahead`, `basics`, `talk` and `attacks` once more in each weaker form that the jail can have: as root
//! without cgroups, as root without user namespaces, as an ordinary user with one uid, and with a
//! range of /etc/subuid.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use braindrill::sandbox::Without;

use crate::support::skip;

/// Names the executable to test where it is not the one that Cargo built beside this test.
const EXECUTABLE: &str = "BRAINDRILL_TEST_EXECUTABLE";
/// Names the layers to leave out, with commas.
const WITHOUT: &str = "BRAINDRILL_TEST_WITHOUT";

pub(super) fn executable() -> PathBuf {
    std::env::var_os(EXECUTABLE).unwrap_or_else(|| env!("CARGO_BIN_EXE_braindrill").into()).into()
}

pub(super) fn without() -> Without {
    let names = std::env::var(WITHOUT).unwrap_or_default();
    Without { cgroup: names.contains("cgroup"), user_namespace: names.contains("user_namespace") }
}

/// The words that run this test binary's own tests of them.
fn suite(binary: &Path) -> Vec<String> {
    let binary = binary.to_str().unwrap().to_owned();
    let words = [
        "sandbox::ahead",
        "sandbox::attacks",
        "sandbox::basics",
        "sandbox::talk",
        "--test-threads",
        "2",
    ];
    std::iter::once(binary).chain(words.map(str::to_owned)).collect()
}

fn expect_success(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(&format!("test result: ok. {} passed", count())), "{text}");
}

/// How many tests the suite has.
fn count() -> usize {
    let words = suite(&std::env::current_exe().unwrap());
    let output = Command::new(&words[0]).args(&words[1..]).arg("--list").output().unwrap();
    let count = String::from_utf8_lossy(&output.stdout).matches(": test\n").count();
    assert!(count > 0, "the suite has no tests");
    count
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn the_suite_passes_without_cgroups() {
    let words = suite(&std::env::current_exe().unwrap());
    let output = Command::new(&words[0]).args(&words[1..]).env(WITHOUT, "cgroup").output();
    expect_success(&output.unwrap());
}

#[test]
fn the_suite_passes_as_root_without_user_namespaces() {
    if !is_root() {
        return skip("only root has jails without user namespaces");
    }
    let words = suite(&std::env::current_exe().unwrap());
    let output = Command::new(&words[0]).args(&words[1..]).env(WITHOUT, "user_namespace").output();
    expect_success(&output.unwrap());
}

/// Runs the suite as uid 65534, from a folder that it can read, after `before` in a shell whose
/// mounts are its own. `$FOLDER` is the folder.
fn as_ordinary_user(before: &str) -> Output {
    let folder = tempfile::Builder::new().prefix("braindrill-user").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (test, program) = (folder.path().join("it"), folder.path().join("braindrill"));
    std::fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    std::fs::copy(executable(), &program).unwrap();
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/tmp \"$@\"";
    Command::new("unshare")
        .args(["--mount", "sh", "-ec", &format!("{before}; exec {user}"), "sh"])
        .args(suite(&test))
        .current_dir("/")
        .env("FOLDER", folder.path())
        .env(EXECUTABLE, &program)
        .output()
        .unwrap()
}

#[test]
fn the_suite_passes_as_an_ordinary_user() {
    if !is_root() {
        return skip("not root: the suite has run as an ordinary user already");
    }
    expect_success(&as_ordinary_user("true"));
}

#[test]
fn the_suite_passes_as_an_ordinary_user_with_subordinate_uids() {
    if !is_root() || !Path::new("/usr/bin/newuidmap").exists() {
        return skip("needs root and newuidmap (Debian package uidmap)");
    }
    let range = "echo 65534:300000:1000 > $FOLDER/range; chmod 644 $FOLDER/range; \
                 mount --bind $FOLDER/range /etc/subuid; mount --bind $FOLDER/range /etc/subgid";
    expect_success(&as_ordinary_user(range));
}

#[tokio::test]
async fn a_uid_that_is_somebodys_is_refused() {
    if !is_root() {
        return skip("only root chooses the uids of jails");
    }
    let config = braindrill::sandbox::SandboxConfig {
        instance: "00000000".to_owned(),
        slots: 2,
        first_uid: 65_533, // the second slot's would be nobody's
        executable: executable(),
        for_one_request: false,
        prepared_bytes: 0,
        without: Without { cgroup: true, user_namespace: false },
    };
    let error = braindrill::sandbox::Sandbox::start(config).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("uid 65534 is nobody's") && error.contains("--first-uid"), "{error}");
}
