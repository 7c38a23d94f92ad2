//! The agents of Nomad to ask, and the order to ask them in.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Url;
use tokio::sync::watch;

/// Where Nomad is: a list that stays, or one that somebody keeps up to date.
///
/// Clones share the preference for the agent that answered last.
#[derive(Debug, Clone)]
pub struct Servers {
    source: Source,
    /// The agent that answered last.
    preferred: Arc<Mutex<Option<Url>>>,
}

#[derive(Debug, Clone)]
enum Source {
    Fixed(Arc<[Url]>),
    Watched(watch::Receiver<Vec<Url>>),
}

impl Servers {
    /// These and no others; see [`super::addresses`].
    pub fn fixed(urls: Vec<Url>) -> Servers {
        Servers::new(Source::Fixed(urls.into()))
    }

    /// Those that the list holds at the time of each request; an empty one means that none is known
    /// now. When its sender is dropped, the last list stays.
    pub fn watched(urls: watch::Receiver<Vec<Url>>) -> Servers {
        Servers::new(Source::Watched(urls))
    }

    fn new(source: Source) -> Servers {
        Servers { source, preferred: Arc::default() }
    }

    /// All that are known now, the one that answered last first.
    pub fn in_order(&self) -> Vec<Url> {
        let urls = match &self.source {
            Source::Fixed(urls) => urls.to_vec(),
            Source::Watched(urls) => urls.borrow().clone(),
        };
        let preferred = self.preferred.lock().unwrap_or_else(PoisonError::into_inner);
        begin_with(urls, preferred.as_ref())
    }

    /// Notes that this agent answered.
    pub(super) fn prefer(&self, url: &Url) {
        let mut preferred = self.preferred.lock().unwrap_or_else(PoisonError::into_inner);
        if preferred.as_ref() != Some(url) {
            *preferred = Some(url.clone());
        }
    }
}

/// The same round of agents, begun at this one when it is among them.
fn begin_with(mut urls: Vec<Url>, first: Option<&Url>) -> Vec<Url> {
    if let Some(at) = urls.iter().position(|url| Some(url) == first) {
        urls.rotate_left(at);
    }
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(ports: &[u16]) -> Vec<Url> {
        let url = |port| Url::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        ports.iter().map(url).collect()
    }

    #[test]
    fn the_round_begins_at_the_agent_that_answered_last() {
        let servers = Servers::fixed(urls(&[1, 2, 3]));
        assert_eq!(servers.in_order(), urls(&[1, 2, 3]));
        servers.clone().prefer(&urls(&[2])[0]);
        assert_eq!(servers.in_order(), urls(&[2, 3, 1]));
    }

    #[test]
    fn a_list_that_changes_is_followed() {
        let (sender, receiver) = watch::channel(Vec::new());
        let servers = Servers::watched(receiver);
        assert!(servers.in_order().is_empty());
        sender.send_replace(urls(&[1, 2]));
        servers.prefer(&urls(&[2])[0]);
        assert_eq!(servers.in_order(), urls(&[2, 1]));
        sender.send_replace(urls(&[3, 1]));
        assert_eq!(servers.in_order(), urls(&[3, 1]));
        drop(sender);
        assert_eq!(servers.in_order(), urls(&[3, 1]));
    }
}
