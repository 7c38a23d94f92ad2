use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
};

use super::*;
use crate::submission::{Blob, Output};

/// A cache and a work folder, as a daemon has them.
struct Stage {
    root: tempfile::TempDir,
    work: WorkDir,
}

impl Stage {
    fn new() -> Stage {
        Stage::with(Bounds::of_bytes(1 << 20))
    }

    fn with(bounds: Bounds) -> Stage {
        let root = tempfile::tempdir().unwrap();
        let work = open(root.path(), bounds);
        Stage { root, work }
    }

    /// As the next process finds it.
    fn restart(self, bounds: Bounds) -> Stage {
        let work = open(self.root.path(), bounds);
        Stage { work, ..self }
    }

    /// Keeps a program of one file.
    async fn keep(&self, name: &str, content: &[u8]) {
        let folder = self.work.new_folder().unwrap();
        fs::write(folder.path().join("program"), content).unwrap();
        self.work.compiled.keep(key(name), &folder, &report(name), &self.work).await;
    }

    /// The content of the one file of a kept program.
    async fn find(&self, name: &str) -> Option<Vec<u8>> {
        let (folder, found) = self.work.compiled.find(key(name), &self.work).await?;
        assert_eq!(found, CompileReport { cached: true, ..report(name) });
        Some(fs::read(folder.path().join("program")).unwrap())
    }

    fn compiled(&self) -> PathBuf {
        self.root.path().join("compiled")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.compiled().join(key(name).to_hex().as_str())
    }

    /// How many files there are.
    fn count(&self) -> usize {
        fs::read_dir(self.compiled()).unwrap().count()
    }

    /// Bytes of all files there. What is removed meanwhile may be left out.
    fn bytes(&self) -> u64 {
        let entries = fs::read_dir(self.compiled()).unwrap();
        entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
    }

    /// Bytes of the file of a program of so many bytes.
    async fn size_of(content: usize) -> u64 {
        let stage = Stage::new();
        stage.keep("x", &vec![b'x'; content]).await;
        stage.bytes()
    }
}

fn open(root: &Path, bounds: Bounds) -> WorkDir {
    let compiled = CompileCache::open(root.join("compiled"), bounds).unwrap();
    WorkDir::open(root.join("programs"), root.join("caches"), compiled).unwrap()
}

fn key(name: &str) -> Key {
    blake3::hash(name.as_bytes())
}

fn report(said: &str) -> CompileReport {
    let output =
        |text: &str| Output { data: Blob::from(text), bytes: text.len() as u64, truncated: false };
    CompileReport {
        success: true,
        reason: "exited with code 0".to_owned(),
        exit_code: Some(0),
        signal: None,
        stdout: output(""),
        stderr: output(said),
        cpu_time_ms: 31,
        wall_time_ms: 41,
        memory_bytes: 59,
        cached: false,
    }
}

#[tokio::test]
async fn what_was_kept_comes_back_as_a_compile_would_have_left_it() {
    let stage = Stage::new();
    let odd = OsStr::from_bytes(b"odd \xff\n\"../name");
    let made = stage.work.new_folder().unwrap();
    fs::create_dir_all(made.path().join("a/b/empty")).unwrap();
    fs::create_dir(made.path().join(odd)).unwrap_err();
    let odd = OsStr::from_bytes(b"odd \xff\n\"..name");
    for (path, content) in [("a/one", "1"), ("a/b/two", ""), ("program", "\0three")] {
        fs::write(made.path().join(path), content).unwrap();
    }
    fs::write(made.path().join(odd), "odd").unwrap();
    stage.work.compiled.keep(key("x"), &made, &report("x"), &stage.work).await;
    drop(made);

    let (found, _) = stage.work.compiled.find(key("x"), &stage.work).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for (path, content) in [
        (OsStr::new("a/one"), "1"),
        (OsStr::new("a/b/two"), ""),
        (OsStr::new("program"), "\0three"),
        (odd, "odd"),
    ] {
        let path = found.path().join(path);
        assert_eq!(fs::read(&path).unwrap(), content.as_bytes());
        assert_eq!(mode(&path), 0o555);
    }
    assert_eq!(mode(&found.path().join("a/b/empty")), 0o755);
    assert_eq!(mode(found.path()), 0o755);
    assert_eq!(fs::read_dir(found.path()).unwrap().count(), 3);
    assert_eq!(mode(&stage.compiled()), 0o700);
    assert_eq!(mode(&stage.path("x")), 0o600);
    assert!(stage.work.compiled.find(key("y"), &stage.work).await.is_none());
}

#[tokio::test]
async fn a_program_of_a_thousand_files_and_one_of_64_mib_are_kept_as_others_are() {
    let stage = Stage::with(Bounds::of_bytes(80 << 20));
    let made = stage.work.new_folder().unwrap();
    for number in 0..1_000 {
        fs::write(made.path().join(number.to_string()), number.to_string()).unwrap();
    }
    stage.work.compiled.keep(key("many"), &made, &report("many"), &stage.work).await;
    let (found, _) = stage.work.compiled.find(key("many"), &stage.work).await.unwrap();
    assert_eq!(fs::read_dir(found.path()).unwrap().count(), 1_000);
    assert_eq!(fs::read(found.path().join("999")).unwrap(), b"999");
    let large: Vec<u8> = (0..64_u32 << 20).map(|number| (number / 251) as u8).collect();
    stage.keep("large", &large).await;
    assert!(stage.find("large").await.is_some_and(|found| found == large));
}

#[tokio::test]
async fn the_bound_holds_and_what_was_not_used_for_longest_goes_first() {
    let one = Stage::size_of(1_000).await;
    let stage = Stage::with(Bounds::of_bytes(3 * one));
    for name in ["a", "b", "c"] {
        stage.keep(name, &[b'x'; 1_000]).await;
    }
    assert_eq!((stage.count(), stage.bytes()), (3, 3 * one));
    assert!(stage.find("a").await.is_some());
    stage.keep("d", &[b'x'; 1_000]).await;
    assert!(stage.find("b").await.is_none(), "it was not used for longest");
    assert!(stage.find("a").await.is_some());
    assert_eq!(stage.bytes(), 3 * one);
    // One that is larger than all that may be kept drives nobody out.
    stage.keep("e", &vec![b'x'; 4 * one as usize]).await;
    assert_eq!(stage.count(), 3);
    assert!(stage.find("e").await.is_none());
}

#[tokio::test]
async fn entries_are_bounded_too() {
    let stage = Stage::with(Bounds { bytes: 1 << 20, entries: 2 });
    for name in ["a", "b", "c"] {
        stage.keep(name, b"x").await;
    }
    assert_eq!(stage.count(), 2);
    assert!(stage.find("a").await.is_none());
}

#[tokio::test]
async fn the_order_of_use_outlives_the_process_and_a_lower_bound_is_kept_at_once() {
    let one = Stage::size_of(1_000).await;
    let stage = Stage::with(Bounds::of_bytes(3 * one));
    for (seconds, name) in [(1_000, "a"), (2_000, "b"), (3_000, "c")] {
        stage.keep(name, &[b'x'; 1_000]).await;
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        fs::File::open(stage.path(name)).unwrap().set_modified(then).unwrap();
    }
    let stage = stage.restart(Bounds::of_bytes(3 * one));
    assert!(stage.find("a").await.is_some());
    let stage = stage.restart(Bounds::of_bytes(2 * one));
    assert_eq!(stage.bytes(), 2 * one);
    assert!(stage.find("b").await.is_none());
    assert!(stage.find("a").await.is_some() && stage.find("c").await.is_some());
}

#[tokio::test]
async fn a_program_in_use_goes_on_when_its_entry_gives_way() {
    let stage = Stage::new();
    stage.keep("x", b"in use").await;
    let (found, _) = stage.work.compiled.find(key("x"), &stage.work).await.unwrap();
    assert!(stage.work.compiled.give_way(stage.root.path()));
    assert!(!stage.work.compiled.give_way(stage.root.path()), "there is nothing more");
    assert_eq!(fs::read(found.path().join("program")).unwrap(), b"in use");
    assert_eq!((stage.count(), stage.find("x").await), (0, None));
}

#[tokio::test]
async fn a_flipped_byte_wherever_it_is_costs_a_compile_and_nothing_else() {
    let stage = Stage::new();
    stage.keep("x", b"the program").await;
    let whole = fs::read(stage.path("x")).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(stage.path("x"), &damaged).unwrap();
        assert_eq!(stage.find("x").await, None, "byte {at}");
        assert!(!stage.path("x").exists(), "byte {at}: it is removed");
        assert_eq!(fs::read_dir(stage.root.path().join("programs")).unwrap().count(), 0);
        stage.keep("x", b"the program").await;
    }
    assert_eq!(stage.find("x").await.unwrap(), b"the program");
}

#[tokio::test]
async fn what_a_power_failure_leaves_of_a_file_is_no_program() {
    let stage = Stage::new();
    stage.keep("x", b"the program").await;
    let whole = fs::read(stage.path("x")).unwrap();
    let mut left: Vec<_> = [0, 1, 31, 32, 33, whole.len() / 2, whole.len() - 1]
        .map(|length| whole[..length].to_vec())
        .into();
    // As long as it was, and nothing of it was written.
    left.push(vec![0; whole.len()]);
    left.push([&whole[..], b"x"].concat());
    for torn in left {
        fs::write(stage.path("x"), &torn).unwrap();
        assert_eq!(stage.find("x").await, None, "{} bytes", torn.len());
        stage.keep("x", b"the program").await;
    }
    assert_eq!(stage.find("x").await.unwrap(), b"the program");
}

#[tokio::test]
async fn an_entry_under_another_name_is_not_used() {
    let stage = Stage::new();
    stage.keep("x", b"x's").await;
    stage.keep("y", b"y's").await;
    fs::copy(stage.path("x"), stage.path("y")).unwrap();
    assert_eq!(stage.find("y").await, None);
    assert_eq!(stage.find("x").await.unwrap(), b"x's");
}

#[tokio::test]
async fn a_path_that_leads_out_is_refused_though_its_digest_is_right() {
    let stage = Stage::new();
    for path in ["../out", "/tmp/braindrill-out", "a/../../out", ""] {
        let folder = stage.work.new_folder().unwrap();
        fs::write(folder.path().join("program"), "x").unwrap();
        entry::tests::write_with_path(folder.path(), &key("x"), path, &stage.path("x"));
        let error = entry::unpack(&stage.path("x"), &key("x"), folder.path()).unwrap_err();
        assert!(matches!(error, Unusable::Damaged("a path leads out of it")), "{path}: {error:?}");
        fs::remove_file(stage.path("x")).unwrap();
    }
    assert!(!stage.root.path().join("programs/out").exists());
}

#[tokio::test]
async fn what_was_not_finished_is_removed_at_the_start_and_what_is_not_ours_stays() {
    let stage = Stage::new();
    stage.keep("x", b"x").await;
    fs::write(stage.compiled().join("17-0.new"), "half").unwrap();
    fs::write(stage.compiled().join("README"), "somebody's").unwrap();
    fs::create_dir(stage.compiled().join("f".repeat(DIGITS))).unwrap();
    let stage = stage.restart(Bounds::of_bytes(1 << 20));
    assert!(!stage.compiled().join("17-0.new").exists());
    assert!(stage.compiled().join("README").exists());
    assert_eq!(stage.find("x").await.unwrap(), b"x");
}

#[tokio::test]
async fn links_in_the_folder_are_neither_followed_nor_written_through() {
    let stage = Stage::new();
    let precious = stage.root.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    // In place of an entry, and of one that is not there yet.
    stage.keep("x", b"x").await;
    fs::rename(stage.path("x"), stage.root.path().join("x")).unwrap();
    symlink(stage.root.path().join("x"), stage.path("x")).unwrap();
    symlink(&precious, stage.path("y")).unwrap();
    assert_eq!(stage.find("x").await, None);
    stage.keep("y", b"y").await;
    assert_eq!(stage.find("y").await.unwrap(), b"y");
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    // At the start too.
    symlink(&precious, stage.path("z")).unwrap();
    symlink(&precious, stage.compiled().join("1-1.new")).unwrap();
    let stage = stage.restart(Bounds::of_bytes(1 << 20));
    assert_eq!(stage.find("z").await, None);
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    let outside = stage.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(stage.compiled()).unwrap();
    symlink(&outside, stage.compiled()).unwrap();
    let stage = stage.restart(Bounds::of_bytes(1 << 20));
    stage.keep("x", b"x").await;
    assert_eq!(stage.find("x").await.unwrap(), b"x", "the folder itself may be anywhere");
}

#[tokio::test]
async fn whoever_clears_it_may_do_so_at_any_time() {
    let stage = Stage::new();
    stage.keep("x", b"x").await;
    fs::remove_file(stage.path("x")).unwrap();
    assert_eq!(stage.find("x").await, None);
    fs::remove_dir_all(stage.compiled()).unwrap();
    stage.keep("x", b"x").await;
    assert_eq!(stage.find("x").await.unwrap(), b"x");
}

#[tokio::test]
async fn nothing_is_kept_where_nothing_may_be_and_what_was_kept_goes() {
    let stage = Stage::new();
    stage.keep("x", b"x").await;
    fs::write(stage.compiled().join("17-0.new"), "half").unwrap();
    fs::write(stage.compiled().join("README"), "somebody's").unwrap();
    let stage = stage.restart(Bounds::of_bytes(0));
    assert_eq!(stage.count(), 1);
    stage.keep("x", b"x").await;
    assert_eq!((stage.count(), stage.find("x").await), (1, None));
    assert!(!stage.work.compiled.is_on());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_costs_nothing_but_the_keeping() {
    let stage = Stage::new();
    stage.keep("x", b"x").await;
    fs::remove_dir_all(stage.compiled()).unwrap();
    fs::write(stage.compiled(), "a file").unwrap();
    stage.keep("x", b"x").await;
    assert_eq!(stage.find("x").await, None);
    fs::remove_file(stage.compiled()).unwrap();
    stage.keep("x", b"x").await;
    assert_eq!(stage.find("x").await.unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_keep_and_find_and_give_way_and_nobody_gets_what_is_not_right() {
    let one = Stage::size_of(5_000).await;
    let stage = Stage::with(Bounds::of_bytes(4 * one));
    let worker = async |number: usize| {
        for round in 0..60 {
            // Each name has one content, and several of them want the same.
            let name = format!("{}", (number + round) % 7);
            let content = name.repeat(5_000);
            match stage.find(&name).await {
                Some(found) => assert_eq!(found, content.as_bytes()),
                None => stage.keep(&name, content.as_bytes()).await,
            }
            if round % 10 == 9 {
                stage.work.compiled.give_way(stage.root.path());
            }
            assert!(stage.bytes() <= 5 * one, "the bound, and one that is being written");
        }
    };
    futures_util::future::join_all((0..8).map(worker)).await;
    // All may have given way at the end.
    stage.keep("one more", "x".repeat(5_000).as_bytes()).await;
    let kept = stage.work.compiled.kept.as_ref().unwrap();
    let counted = stage.bytes();
    assert!(kept.lock().fits(0, Bounds { bytes: counted, entries: stage.count() }), "no more");
    assert!(!kept.lock().fits(0, Bounds { bytes: counted - 1, entries: 9 }), "and no less");
}
