//! What an earlier process of the daemon left unfinished.

use sqlx::Row as _;

use super::{
    Claim, Claimed, Store, StoreError,
    claim::{self, claim_columns},
    codec, events,
};
use crate::submission::Placement;

/// An attempt that an earlier process had claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct Interrupted {
    /// The claim, which goes on, with what was sent.
    pub claimed: Claimed,
    /// Where it was placed, if that was saved.
    pub placement: Option<Placement>,
    /// The runner's number of the first event that is not stored.
    pub next_seq: u64,
    /// Whether the runner had begun.
    pub started: bool,
}

impl Store {
    /// All attempts that were dispatching or running, oldest first. To be asked once, at start:
    /// the folder's lock makes sure that nobody else acts for them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn interrupted(&self) -> Result<Vec<Interrupted>, StoreError> {
        // Of one instant, although nothing should change before the dispatcher runs.
        let mut conn = self.inner.readers.begin().await?;
        let rows = sqlx::query(concat!(
            "SELECT placement, ",
            claim_columns!(),
            " FROM submissions WHERE lease IS NOT NULL ORDER BY pk"
        ))
        .fetch_all(&mut *conn)
        .await?;
        let mut interrupted = Vec::with_capacity(rows.len());
        for row in rows {
            let claim: Claim = claim::claim(&mut conn, &row).await?;
            let placement: Option<&str> = row.try_get("placement")?;
            let placement = placement
                .map(|json| codec::from_json("a placement", json.as_bytes()))
                .transpose()?;
            let next_seq = events::next_seq(&mut conn, claim.pk, claim.attempt).await?;
            let request = codec::unpack(&claim::request(&mut conn, claim.pk).await?);
            interrupted.push(Interrupted {
                claimed: Claimed { claim, request },
                placement,
                next_seq,
                started: next_seq > 0,
            });
        }
        Ok(interrupted)
    }
}
