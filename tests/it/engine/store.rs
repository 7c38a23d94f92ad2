//! The database file: opened, locked, damaged, listed.

use std::os::unix::fs::FileExt as _;

use braindrill::{
    dispatcher::{Filter, Page},
    store::{DATABASE_FILE, Inserted, Store, StoreError, StoreOptions},
    submission::{StateName, SubmissionId, Verdict},
};

use super::support::{Engine, at, eventually, new, owner};

async fn open(folder: &std::path::Path) -> Result<Store, StoreError> {
    Store::open(folder, StoreOptions::default()).await
}

#[tokio::test]
async fn an_installation_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let name = store.instance().to_owned();
    assert!(name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    store.close().await;
    let store = open(folder.path()).await.unwrap();
    assert_eq!(store.instance(), name);
    store.close().await;
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_told_who_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let refused = open(folder.path()).await.unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }));
    let message = refused.to_string();
    assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
    assert!(message.contains("--data-dir"), "{message}");
    store.close().await;
    open(folder.path()).await.unwrap().close().await;
}

#[tokio::test]
async fn a_store_that_is_dropped_gives_the_folder_free() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await.unwrap());
    eventually("it can be opened", async || match open(folder.path()).await {
        Ok(store) => {
            store.close().await;
            true
        }
        Err(_) => false,
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_as_damaged() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(DATABASE_FILE), vec![b'x'; 8192]).unwrap();
    let refused = open(folder.path()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Damaged(_)), "{refused:?}");
    assert!(refused.to_string().contains("restore it from a backup"), "{refused}");
}

#[tokio::test]
async fn a_database_with_overwritten_pages_is_named_as_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    for _ in 0..50 {
        store.insert(new("x"), at(1)).await.unwrap();
    }
    store.close().await;
    let file =
        std::fs::OpenOptions::new().write(true).open(folder.path().join(DATABASE_FILE)).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(&vec![0xa5; length as usize - 4096], 4096).unwrap();
    let refused = open(folder.path()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Damaged(_)), "{refused:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = open(&file.join("data")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Folder { .. }), "{refused:?}");
    assert!(refused.to_string().contains("--data-dir"), "{refused}");
}

#[tokio::test]
async fn calls_after_the_close_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    store.close().await;
    assert_eq!(store.insert(new("x"), at(1)).await.unwrap_err(), StoreError::Closed);
    assert_eq!(store.counts().await.unwrap_err(), StoreError::Closed);
}

#[tokio::test]
async fn requests_of_any_size_come_back_as_they_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let noise: String =
        (0..20_000u32).map(|n| blake3::hash(&n.to_le_bytes()).to_hex().to_string()).collect();
    for source in ["", "x", &"spaces ".repeat(100_000), &noise] {
        let Inserted::New(stored) = store.insert(new(source), at(1)).await.unwrap() else {
            panic!("not new");
        };
        let (read, outputs) = store.get(&owner(), stored.id).await.unwrap().unwrap();
        assert_eq!((read, outputs.len()), (*stored, 0));
    }
    store.close().await;
}

#[tokio::test]
async fn lists_are_newest_first_in_pages_and_by_filter() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let mut new = new(if number == 3 { "refuse" } else { "succeed" });
        if number % 2 == 1 {
            new.request.language = "c".to_owned();
        }
        let id = engine.handle.submit(new).await.unwrap().view.submission.id;
        engine.finished(id).await;
        ids.push(id);
    }
    let hangs = engine.submit("hang").await;
    let newest_first = async |filter: Filter| -> Vec<SubmissionId> {
        let mut all = Vec::new();
        let mut before = None;
        loop {
            let filter = Filter { before, limit: 2, ..filter.clone() };
            let Page { items, next } = engine.handle.list(&owner(), &filter).await.unwrap();
            assert!(items.len() == 2 || next.is_none());
            all.extend(items.into_iter().map(|item| item.id));
            before = next;
            if before.is_none() {
                return all;
            }
        }
    };
    // Ids of one millisecond are in no order among themselves.
    ids.sort();
    ids.reverse();
    let mut all = vec![hangs];
    all.extend(&ids);
    all.sort();
    all.reverse();
    assert_eq!(newest_first(Filter::default()).await, all);
    let finished = Filter { state: Some(StateName::Finished), ..Filter::default() };
    assert_eq!(newest_first(finished).await, ids);
    let c = Filter { language: Some("c".to_owned()), ..Filter::default() };
    assert_eq!(newest_first(c.clone()).await.len(), 3);
    let failed = Filter { verdict: Some(Verdict::InternalError), ..Filter::default() };
    assert_eq!(newest_first(failed.clone()).await.len(), 1);
    assert_eq!(newest_first(Filter { language: c.language, ..failed }).await.len(), 1);
    eventually("the last one runs", async || {
        let running = Filter { state: Some(StateName::Running), ..Filter::default() };
        newest_first(running).await == [hangs]
    })
    .await;
    let queued = Filter { state: Some(StateName::Queued), ..Filter::default() };
    assert!(newest_first(queued).await.is_empty());
    engine.stop().await;
}
