//! What daemon and workers share, and nobody else knows.

/// The fewest characters of a secret: what is shorter is guessed.
const SHORTEST: usize = 16;

/// The secret that a daemon shows and its workers ask for. Kept as its hash; shown by nothing.
#[derive(Clone)]
pub struct WorkerSecret {
    header: String,
    hash: blake3::Hash,
}

/// A secret that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It is too short.
    #[error("the workers' secret has {0} characters, of which there must be {SHORTEST} at least")]
    Short(usize),
    /// It cannot stand in a header.
    #[error("the workers' secret has characters other than printable ones of ASCII")]
    Unprintable,
}

impl WorkerSecret {
    /// From its text, white space around it left out.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn new(text: &str) -> Result<WorkerSecret, SecretError> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SecretError::Unprintable);
        }
        if text.len() < SHORTEST {
            return Err(SecretError::Short(text.len()));
        }
        let header = format!("Bearer {text}");
        let hash = blake3::hash(header.as_bytes());
        Ok(WorkerSecret { header, hash })
    }

    /// The `Authorization` header that shows it.
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// Whether a header shows it. Takes as long for a wrong one as for a right one.
    pub(super) fn admits(&self, header: Option<&str>) -> bool {
        // Hashes compare in constant time.
        header.is_some_and(|header| blake3::hash(header.as_bytes()) == self.hash)
    }
}

impl std::fmt::Debug for WorkerSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WorkerSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_header_with_the_secret_is_let_in() {
        let secret = WorkerSecret::new(" 0123456789abcdef\n").unwrap();
        assert!(secret.admits(Some(secret.header())));
        assert!(secret.admits(Some("Bearer 0123456789abcdef")));
        for wrong in ["", "Bearer ", "0123456789abcdef", "Bearer 0123456789abcdeF"] {
            assert!(!secret.admits(Some(wrong)), "{wrong}");
        }
        assert!(!secret.admits(None));
        assert!(!format!("{secret:?}").contains("0123"));
    }

    #[test]
    fn what_is_easily_guessed_or_cannot_be_sent_is_refused() {
        assert_eq!(WorkerSecret::new("secret\n").unwrap_err(), SecretError::Short(6));
        let odd = WorkerSecret::new("0123456789 abcdefgh").unwrap_err();
        assert_eq!(odd, SecretError::Unprintable);
    }
}
