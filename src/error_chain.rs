//! An error told with all that is behind it.

use std::error::Error;

/// An error and what caused it, in one line, from the outermost to the innermost: `the answer of
/// Nomad was lost: error sending request: connection reset`.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{1}")]
    struct Step(#[source] Option<Box<Step>>, &'static str);

    #[test]
    fn every_cause_is_named_once_from_the_outermost_on() {
        let error = Step(None, "no route");
        assert_eq!(error_chain(&error), "no route");
        let error = Step(Some(Box::new(Step(Some(Box::new(error)), "not sent"))), "lost");
        assert_eq!(error_chain(&error), "lost: not sent: no route");
    }
}
