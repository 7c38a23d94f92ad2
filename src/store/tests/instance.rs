//! What names an installation, and who may read it.

use std::collections::BTreeSet;

use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use super::*;

#[tokio::test]
async fn an_installation_keeps_its_name_and_its_secret() {
    let (folder, store) = open().await;
    let (name, secret) = (store.instance().to_owned(), store.request_secret().clone());
    store.close().await;
    let again = Store::open(folder.path(), StoreOptions::default()).await.unwrap();
    assert_eq!((again.instance(), again.request_secret()), (name.as_str(), &secret));
    let (_elsewhere, other) = open().await;
    assert_ne!(other.request_secret(), &secret);
}

#[tokio::test]
async fn the_secret_is_random_all_along() {
    let (_folder, store) = open().await;
    let sql = "SELECT secret FROM instance";
    let secret: Vec<u8> = sqlx::query_scalar(sql).fetch_one(&store.inner.readers).await.unwrap();
    // 16 different ones among 32 random bytes are missed once in 10^15 times.
    assert!(secret.iter().collect::<BTreeSet<_>>().len() >= 16, "{secret:?}");
}

#[tokio::test]
async fn a_database_from_before_there_was_a_secret_is_given_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(crate::store::DATABASE_FILE);
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let mut conn = options.connect().await.unwrap();
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.migrations = migrator.migrations.iter().take(1).cloned().collect();
    migrator.run(&mut conn).await.unwrap();
    sqlx::query("INSERT INTO instance (one, id) VALUES (1, '0123abcd')")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();

    let store = Store::open(folder.path(), StoreOptions::default()).await.unwrap();
    assert_eq!(store.instance(), "0123abcd");
    assert_ne!(store.request_secret(), &crate::protocol::RequestSecret::new([0; 32]));
}

#[tokio::test]
async fn the_name_is_read_from_under_a_running_daemon_and_from_one_that_ended() {
    let folder = tempfile::tempdir().unwrap();
    let peek = || Store::peek_instance(folder.path());
    assert_eq!(peek().await.unwrap(), None);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made");

    let store = Store::open(folder.path(), StoreOptions::default()).await.unwrap();
    let name = Some(store.instance().to_owned());
    assert_eq!(peek().await.unwrap(), name);
    store.close().await;
    let names = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>()
    };
    let before = names();
    assert_eq!(peek().await.unwrap(), name);
    assert_eq!(names(), before);
}

#[tokio::test]
async fn a_request_can_be_had_for_the_attempt_in_flight_alone() {
    let (_folder, store) = open().await;
    let submission = insert(&store).await;
    let id = submission.id;
    assert_eq!(store.request_in_flight(id, 0).await.unwrap(), None, "queued");
    assert_eq!(store.request_in_flight(id, 1).await.unwrap(), None, "queued");

    let claim = claim(&store).await;
    let sent = Some(submission.request);
    assert_eq!(store.request_in_flight(id, claim.attempt).await.unwrap(), sent);
    assert_eq!(store.request_in_flight(id, claim.attempt + 1).await.unwrap(), None);

    store.cancel(&Owner::anonymous(), id, at(3)).await.unwrap();
    assert_eq!(store.request_in_flight(id, claim.attempt).await.unwrap(), None, "cancelled");
}
