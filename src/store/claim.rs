//! Step 4: the next submissions to run, in fair order.
//!
//! The owner with the fewest in flight goes first, and of those who are equal the one who was
//! served longest ago; within an owner priority decides, then age. Each choice is one step into
//! an index, however long the queue is.

use futures_util::future::BoxFuture;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Store, StoreError, codec, writer::Write};
use crate::submission::{Lease, Owner, SubmissionId, SubmissionRequest, Timestamp};

/// A claimed attempt: the right to act for it, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its row.
    pub(super) pk: i64,
    /// Which submission.
    pub id: SubmissionId,
    /// Whose.
    pub owner: Owner,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The right to act for it.
    pub lease: Lease,
    /// When the submission was accepted.
    pub created_at: Timestamp,
    /// Since when it waits for this attempt.
    pub queued_at: Timestamp,
    /// How often in a row a start found the backend away.
    pub tries: u32,
    /// How often the daemon restarted under it.
    pub restarts: u32,
    /// Why earlier attempts were lost, oldest first.
    pub losses: Vec<String>,
}

#[cfg(test)]
impl Claim {
    /// A first attempt at a submission that no store knows.
    pub(crate) fn example(millis: i64) -> Claim {
        let at = Timestamp::from_millis(millis);
        Claim {
            pk: 0,
            id: SubmissionId::new(at),
            owner: Owner::anonymous(),
            attempt: 1,
            lease: Lease(codec::random()),
            created_at: at,
            queued_at: at,
            tries: 0,
            restarts: 0,
            losses: Vec::new(),
        }
    }
}

/// A claim with what to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The claim.
    pub claim: Claim,
    /// What was sent, or why it cannot be read.
    pub request: Result<SubmissionRequest, StoreError>,
}

/// What there is to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// How many are ready.
    pub ready: u64,
    /// When something in backoff becomes ready, if something is in backoff.
    pub next: Option<Timestamp>,
}

/// The columns that [`claim`] reads, beside the losses.
macro_rules! claim_columns {
    () => {
        "pk, id, owner, attempt, lease, created_ms, queued_ms, tries, restarts, lost_attempts"
    };
}
pub(super) use claim_columns;

/// A claim from the columns of [`claim_columns`].
pub(super) async fn claim(
    conn: &mut SqliteConnection,
    row: &SqliteRow,
) -> Result<Claim, StoreError> {
    let pk = row.try_get("pk")?;
    let lost: i64 = row.try_get("lost_attempts")?;
    let losses = if lost == 0 { Vec::new() } else { losses(conn, pk).await? };
    Ok(Claim {
        pk,
        id: codec::id_from(row.try_get("id")?)?,
        owner: Owner(row.try_get("owner")?),
        attempt: row.try_get("attempt")?,
        lease: Lease(row.try_get("lease")?),
        created_at: Timestamp::from_millis(row.try_get("created_ms")?),
        queued_at: Timestamp::from_millis(row.try_get("queued_ms")?),
        tries: row.try_get("tries")?,
        restarts: row.try_get("restarts")?,
        losses,
    })
}

async fn losses(conn: &mut SqliteConnection, pk: i64) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT reason FROM attempt_losses WHERE submission = ? ORDER BY attempt",
    )
    .bind(pk)
    .fetch_all(conn)
    .await?)
}

struct ClaimNext {
    leases: Vec<Lease>,
    now: Timestamp,
    trace: Trace,
}

/// What a claim leaves behind if nobody finishes what it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// Something may be placed that outlives the machine's fall, so the claim is on disk first.
    Outlasting,
    /// Nothing outlives the machine. A claim that only reached the kernel is found by the next process;
    /// one that was lost with the machine is a submission that still waits.
    None,
}

impl Store {
    /// Claims up to `limit` submissions that are ready. On disk when it returns, together with the
    /// note that a placement may exist.
    ///
    /// # Errors
    /// The database failed; nothing is claimed.
    pub async fn claim_next(
        &self,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Claimed>, StoreError> {
        self.claim(limit, now, Trace::Outlasting).await
    }

    /// [`Store::claim_next`], which waits for the disk only where the claim's trace asks for it.
    ///
    /// # Errors
    /// The database failed; nothing is claimed.
    pub async fn claim(
        &self,
        limit: usize,
        now: Timestamp,
        trace: Trace,
    ) -> Result<Vec<Claimed>, StoreError> {
        let leases = (0..limit).map(|_| Lease(codec::random())).collect();
        let claims = self.inner.writer.write(ClaimNext { leases, now, trace }).await?;
        let unpack =
            |(claim, request): (_, Vec<u8>)| Claimed { claim, request: codec::unpack(&request) };
        Ok(claims.into_iter().map(unpack).collect())
    }

    /// Whether there is something to claim, or when there will be; without a write.
    ///
    /// # Errors
    /// The database failed.
    pub async fn outlook(&self) -> Result<Outlook, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT coalesce(sum(ready), 0) FROM owners WHERE ready > 0) AS ready,
                    (SELECT min(not_before_ms) FROM submissions
                     WHERE state = 'queued' AND not_before_ms > 0) AS next",
        )
        .fetch_one(&self.inner.readers)
        .await?;
        let ready: i64 = row.try_get("ready")?;
        Ok(Outlook { ready: ready.max(0) as u64, next: codec::timestamp(&row, "next")? })
    }
}

struct Rouse {
    most: usize,
}

impl Store {
    /// Makes ready, before their time, up to so many of those that wait for something that may be there
    /// now. Those that were lost, and wait for that, are none of them.
    ///
    /// # Errors
    /// The database failed.
    pub async fn rouse(&self, most: usize) -> Result<(), StoreError> {
        self.inner.writer.write(Rouse { most }).await
    }
}

impl Write for Rouse {
    type Answer = ();

    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            sqlx::query(
                "UPDATE submissions SET not_before_ms = 0
                 WHERE pk IN (
                     SELECT pk FROM submissions
                     WHERE state = 'queued' AND not_before_ms > 0 AND waiting_for IS NOT NULL
                     ORDER BY not_before_ms LIMIT ?
                 )",
            )
            .bind(i64::try_from(self.most).unwrap_or(i64::MAX))
            .execute(tx)
            .await?;
            Ok(())
        })
    }
}

impl Write for ClaimNext {
    type Answer = Vec<(Claim, Vec<u8>)>;

    fn run<'a>(
        &'a self,
        tx: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<Self::Answer, StoreError>> {
        Box::pin(async move {
            let mut claims = Vec::new();
            for lease in &self.leases {
                let Some(row) = claim_one(tx, *lease, self.now).await? else { break };
                let claim = claim(tx, &row).await?;
                let request = row.try_get("request")?;
                expect_placement(tx, &claim).await?;
                claims.push((claim, request));
            }
            Ok(claims)
        })
    }

    fn waits_for_disk(&self) -> bool {
        self.trace == Trace::Outlasting
    }
}

/// Queued to dispatching: the SQL twin of [`crate::submission::State::claim`]. Before that it makes those
/// ready whose backoff is over; all in one call, since each is a change of threads.
async fn claim_one(
    tx: &mut SqliteConnection,
    lease: Lease,
    now: Timestamp,
) -> Result<Option<SqliteRow>, StoreError> {
    Ok(sqlx::query(concat!(
        "UPDATE submissions SET not_before_ms = 0
         WHERE state = 'queued' AND not_before_ms > 0 AND not_before_ms <= ?1;
         UPDATE submissions
         SET state = 'dispatching', attempt = attempt + 1, lease = ?2, waiting_for = NULL
         WHERE pk = (
             SELECT pk FROM submissions
             WHERE owner = (
                 SELECT owner FROM owners WHERE ready > 0 ORDER BY in_flight, last_claim LIMIT 1
             ) AND state = 'queued' AND not_before_ms = 0
             ORDER BY priority DESC, pk LIMIT 1
         )
         RETURNING (SELECT request FROM requests WHERE submission = pk) AS request, ",
        claim_columns!()
    ))
    .bind(now.as_millis())
    .bind(lease.0)
    .fetch_optional(tx)
    .await?)
}

pub(super) async fn request(conn: &mut SqliteConnection, pk: i64) -> Result<Vec<u8>, StoreError> {
    Ok(sqlx::query_scalar("SELECT request FROM requests WHERE submission = ?")
        .bind(pk)
        .fetch_one(conn)
        .await?)
}

/// Notes that the attempt may be placed somewhere from now on.
async fn expect_placement(tx: &mut SqliteConnection, claim: &Claim) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO placements (submission, attempt) VALUES (?, ?)")
        .bind(claim.pk)
        .bind(claim.attempt)
        .execute(tx)
        .await?;
    Ok(())
}
