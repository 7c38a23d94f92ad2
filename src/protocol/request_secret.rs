//! The address of a request that a node fetches from the daemon: who may make one, and who may ask. And
//! what stands for an owner in a request, which is made of the same secret.
//!
//! The daemon remembers no address. What tells a right one is a keyed hash over what it names, so
//! that an address that was given out before a crash is good after it.

use blake3::Hash;
use serde::{Deserialize, Serialize};

use crate::submission::{Owner, SubmissionId};

/// The path on the daemon that all addresses begin with.
pub const REQUESTS_PATH: &str = "/internal/requests";

/// What the names of cache owners are made for; tells their key from others of the same secret.
const CACHE_OWNERS: &str = "braindrill 2026-11 owners of compiled programs";

/// An owner to whoever keeps compiled programs: 32 hex digits, the same for the same owner of the same
/// installation. They tell nothing of the owner, and nobody can make those of another installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheOwner(pub String);

/// What this installation's tokens are made from: 32 random bytes, kept in its database.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestSecret([u8; 32]);

impl RequestSecret {
    /// From the bytes that were kept.
    pub const fn new(bytes: [u8; 32]) -> Self {
        RequestSecret(bytes)
    }

    /// The path of the request of an attempt, its token included: like a password, it stands in no
    /// log.
    pub fn path(&self, submission: SubmissionId, attempt: u32) -> String {
        let token = self.token(submission, attempt).to_hex();
        format!("{REQUESTS_PATH}/{submission}/{attempt}/{token}")
    }

    /// Whether `token` is the one of this attempt. Takes as long for a wrong one as for a right one.
    pub fn admits(&self, submission: SubmissionId, attempt: u32, token: &str) -> bool {
        // Hashes compare in constant time.
        Hash::from_hex(token).is_ok_and(|given| given == self.token(submission, attempt))
    }

    /// What stands for an owner where compiled programs are kept.
    pub fn cache_owner(&self, owner: &Owner) -> CacheOwner {
        // Under a key of its own, so that it has nothing to do with any token.
        let key = blake3::derive_key(CACHE_OWNERS, &self.0);
        CacheOwner(blake3::keyed_hash(&key, owner.0.as_bytes()).to_hex()[..32].to_owned())
    }

    /// 256 bits; both parts have a fixed length, so no two attempts are hashed alike.
    fn token(&self, submission: SubmissionId, attempt: u32) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(submission.as_uuid().as_bytes()).update(&attempt.to_be_bytes());
        hasher.finalize()
    }
}

impl std::fmt::Debug for RequestSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn token(secret: &RequestSecret, id: SubmissionId, attempt: u32) -> String {
        secret.path(id, attempt).rsplit('/').next().unwrap().to_owned()
    }

    #[test]
    fn a_path_names_its_attempt_and_ends_with_256_bits() {
        let id = ID.parse().unwrap();
        let path = RequestSecret::new([7; 32]).path(id, 3);
        let (named, token) = path.rsplit_once('/').unwrap();
        assert_eq!(named, format!("/internal/requests/{ID}/3"));
        assert_eq!(token.len(), 64);
        assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn a_token_is_good_for_its_attempt_and_installation_alone() {
        let (ours, theirs) = (RequestSecret::new([7; 32]), RequestSecret::new([8; 32]));
        let id = ID.parse().unwrap();
        let other = "01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap();
        let right = token(&ours, id, 1);
        assert!(ours.admits(id, 1, &right));
        assert!(RequestSecret::new([7; 32]).admits(id, 1, &right), "after a restart too");
        assert!(!ours.admits(id, 2, &right));
        assert!(!ours.admits(other, 1, &right));
        assert!(!theirs.admits(id, 1, &right));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let secret = RequestSecret::new([7; 32]);
        let id = ID.parse().unwrap();
        let right = token(&secret, id, 1);
        let longer = format!("{right}0");
        for wrong in ["", "0", &right[1..], &longer, &"0".repeat(64), &"é".repeat(32)] {
            assert!(!secret.admits(id, 1, wrong), "{wrong:?}");
        }
    }

    #[test]
    fn an_owner_is_the_same_in_one_installation_and_another_in_the_next() {
        let owner = |secret, name: &str| {
            RequestSecret::new([secret; 32]).cache_owner(&Owner(name.to_owned())).0
        };
        let anonymous = owner(7, "anonymous");
        assert_eq!(anonymous, owner(7, "anonymous"));
        assert_eq!(anonymous.len(), 32);
        assert_ne!(anonymous, owner(7, "somebody"));
        assert_ne!(anonymous, owner(8, "anonymous"));
    }

    #[test]
    fn the_secret_is_never_shown() {
        assert_eq!(format!("{:?}", RequestSecret::new([7; 32])), "RequestSecret(..)");
    }
}
