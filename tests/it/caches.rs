//! What compiling needs once is made once, and shown to every compile.

use std::time::SystemTime;

use braindrill::{
    language::{Catalog, Status},
    runner::self_test,
    submission::Verdict,
};
use tokio_util::sync::CancellationToken;

use crate::local::Local;

/// A language whose compile step says what it found in its cache, and tries to write there.
const LANGUAGE: &str = r#"
[[language]]
id = "lua"
name = "Cached"
extension = "lua"
source_file = "main.lua"
tools.bash = ["/usr/bin/bash"]
version = { command = ["{tool:bash}", "--version"], after = "version" }
self_test = { source = "", stdout = "MADE\n" }
compile.command = ["{tool:bash}", "-c", "cat {cache}/made > {out}/program 2>/dev/null || echo none > {out}/program; (echo x > {cache}/x) 2>/dev/null; rm -f {cache}/made 2>/dev/null; true"]
cache = { command = ["{tool:bash}", "-c", "CACHE"] }
run.command = ["{tool:bash}", "-c", "cat {program}/program"]
"#;

fn catalog(folder: &std::path::Path, made: &str, cache: &str) -> Catalog {
    let file = folder.join("more.toml");
    let text = LANGUAGE.replace("MADE", made).replace("CACHE", cache);
    std::fs::write(&file, text).expect("write");
    let catalog = Catalog::load(Some(&file)).expect("sound");
    catalog.find_tool_chains();
    catalog
}

async fn check(local: &Local, catalog: &Catalog, folder: &std::path::Path) -> Status {
    // The other languages are somebody else's.
    for entry in catalog.list() {
        if entry.definition.id != "lua" {
            catalog.set(&entry.definition.id, Status::Ready, None);
        }
    }
    let (file, cancel) = (self_test::file_in(folder), CancellationToken::new());
    self_test::check_all(catalog, &local.runner, file, local.backend.demand(), &cancel).await;
    catalog.get("lua").expect("it is there").status
}

#[tokio::test]
async fn what_compiling_needs_once_is_made_once_and_no_compile_can_change_it() {
    let local = Local::start(1).await;
    let folder = tempfile::tempdir().expect("tempdir");
    let once = "date +%N > {out}/made";
    let first = catalog(folder.path(), "none", once);
    let mut request = local.request("bash", "");
    request.request.language = "lua".to_owned();
    request.language = (*first.get("lua").expect("lua").definition).clone();
    let said = async |request: &braindrill::protocol::ExecutionRequest| {
        let executed = local.execute(request.clone()).await;
        assert_eq!(executed.report().verdict, Verdict::Accepted, "{}", executed.report().reason);
        String::from_utf8(executed.stdout(0).to_vec()).expect("text")
    };
    assert_eq!(said(&request).await, "none\n", "nothing was made yet, and compiling works");
    // What it says cannot be known before, so this fails; it is made all the same.
    assert!(matches!(check(&local, &first, folder.path()).await, Status::Unavailable(_)));
    let made = said(&request).await;
    assert!(made.trim().parse::<u64>().is_ok(), "{made}");
    assert_eq!(said(&request).await, made, "no compile could write there or remove it");

    // The same language passes now, and does not make it again.
    let again = catalog(folder.path(), made.trim(), once);
    request.language = (*again.get("lua").expect("lua").definition).clone();
    check(&local, &again, folder.path()).await;
    let anew = said(&request).await;
    assert_ne!(anew, made, "another definition has another cache");
    assert_eq!(local.caches().len(), 2, "somebody else may still use the first");

    for cache in local.caches() {
        let folder = std::fs::File::open(local.cache_dir().join(cache)).expect("open");
        folder.set_modified(SystemTime::UNIX_EPOCH).expect("set");
    }
    let third = catalog(folder.path(), anew.trim(), once);
    check(&local, &third, folder.path()).await;
    assert_eq!(local.caches().len(), 1, "what is old is gone: {:?}", local.caches());
}

#[tokio::test]
async fn a_cache_that_others_may_write_to_is_not_used() {
    let local = Local::start(1).await;
    let folder = tempfile::tempdir().expect("tempdir");
    let definition = catalog(folder.path(), "made", "echo made > {out}/made");
    assert_eq!(check(&local, &definition, folder.path()).await, Status::Ready);
    let mut request = local.request("bash", "");
    request.request.language = "lua".to_owned();
    request.language = (*definition.get("lua").expect("lua").definition).clone();
    for (mode, said) in [(0o700, "made\n"), (0o777, "none\n"), (0o720, "none\n"), (0o755, "made\n")]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(local.cache_dir(), mode).expect("chmod");
        assert_eq!(local.execute(request.clone()).await.stdout(0), said.as_bytes());
    }
}

#[tokio::test]
async fn a_language_whose_cache_cannot_be_made_works_without() {
    let local = Local::start(1).await;
    let folder = tempfile::tempdir().expect("tempdir");
    let broken = catalog(folder.path(), "none", "echo x > {out}/made; exit 3");
    assert_eq!(check(&local, &broken, folder.path()).await, Status::Ready);
    assert_eq!(local.caches(), Vec::<String>::new());
}
