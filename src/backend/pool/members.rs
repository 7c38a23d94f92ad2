//! The workers that are known: what Consul says of them, or what they say of themselves where their
//! addresses are given.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Url;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    consul::Instance,
    error_chain::error_chain,
    worker::{Facts, WorkerClient},
};

/// How often workers whose addresses were given are asked how they are.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// More slots than that no worker has, whatever it says.
const MOST_SLOTS: usize = 1024;

/// A worker as daemons see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Names it; another after a restart.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where it is.
    pub url: Url,
    /// What it is of; see [`crate::worker::RELEASE`].
    pub release: String,
    /// Attempts at once.
    pub slots: usize,
    /// The languages whose tool chains it has.
    pub languages: Vec<String>,
    /// The job of Nomad that it runs as, where it is one.
    pub job: Option<String>,
}

impl Member {
    /// What a worker tells Consul of itself, and of the job of Nomad that it runs as; [`Member::of`] reads
    /// it.
    pub fn meta(facts: &Facts, job: Option<&str>) -> BTreeMap<String, String> {
        let mut meta = BTreeMap::from([
            ("release".to_owned(), facts.release.clone()),
            ("slots".to_owned(), facts.slots.to_string()),
            ("languages".to_owned(), facts.languages.join(",")),
            ("name".to_owned(), facts.name.clone()),
        ]);
        meta.extend(job.map(|job| ("nomad_job".to_owned(), job.to_owned())));
        meta
    }

    /// A worker that Consul knows; none where it does not say all that is needed.
    pub fn of(instance: &Instance) -> Option<Member> {
        let say = |key: &str| instance.meta.get(key);
        let languages = say("languages")?.split(',').filter(|each| !each.is_empty());
        Some(Member {
            id: instance.id.clone(),
            name: say("name").unwrap_or(&instance.node).clone(),
            url: Url::parse(&format!("http://{}", instance.authority())).ok()?,
            release: say("release")?.clone(),
            slots: say("slots")?.parse::<usize>().ok()?.min(MOST_SLOTS),
            languages: languages.map(str::to_owned).collect(),
            job: say("nomad_job").cloned(),
        })
    }

    fn at(url: &Url, facts: Facts) -> Member {
        Member {
            id: facts.id,
            name: facts.name,
            url: url.clone(),
            release: facts.release,
            // A worker that is about to end takes nothing.
            slots: if facts.draining { 0 } else { facts.slots.min(MOST_SLOTS) },
            languages: facts.languages,
            job: None,
        }
    }
}

/// The workers among these instances, in the order of their ids.
pub fn members_of(instances: &[Instance]) -> Vec<Member> {
    let mut members: Vec<_> = instances.iter().filter_map(Member::of).collect();
    members.sort_by(|one, other| one.id.cmp(&other.id));
    members
}

/// Asks the workers at these addresses how they are, again and again until dropped, and says who is
/// there.
pub async fn watch_addresses(
    client: WorkerClient,
    urls: Vec<Url>,
    members: watch::Sender<Vec<Member>>,
) {
    let mut known: Vec<Option<bool>> = vec![None; urls.len()];
    loop {
        let asked = urls.iter().map(|url| client.facts(url));
        let answers = futures_util::future::join_all(asked).await;
        let mut there = Vec::new();
        for ((url, answer), known) in urls.iter().zip(answers).zip(&mut known) {
            let news = *known != Some(answer.is_ok());
            *known = Some(answer.is_ok());
            match answer {
                Ok(facts) => {
                    if news {
                        info!(worker.id = facts.id, worker.url = %url, "a warm worker is there");
                    }
                    there.push(Member::at(url, facts));
                }
                Err(error) if news => {
                    let reason = error_chain(&error);
                    warn!(worker.url = %url, reason, "a warm worker is not to be had");
                }
                Err(_) => {}
            }
        }
        members.send_if_modified(|last| {
            let is_news = *last != there;
            *last = there;
            is_news
        });
        tokio::time::sleep(ASK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(meta: BTreeMap<String, String>) -> Instance {
        Instance {
            id: "braindrill-worker-0123abcd".to_owned(),
            service: "braindrill-worker".to_owned(),
            node: "n1".to_owned(),
            node_address: "10.0.0.1".to_owned(),
            address: "fd00::1".to_owned(),
            port: 8081,
            tags: Vec::new(),
            meta,
        }
    }

    #[test]
    fn what_a_worker_tells_consul_is_what_daemons_read() {
        let facts = Facts {
            id: "0123abcd".to_owned(),
            name: "judge1".to_owned(),
            release: "1.2.3/1".to_owned(),
            slots: 8,
            busy: 3,
            draining: false,
            languages: vec!["c".to_owned(), "python".to_owned()],
            layers: Vec::new(),
        };
        let leased = Member::meta(&facts, Some("w/dispatch-1-a"));
        assert_eq!(Member::of(&instance(leased)).unwrap().job.as_deref(), Some("w/dispatch-1-a"));
        let member = Member::of(&instance(Member::meta(&facts, None))).unwrap();
        assert_eq!((member.name.as_str(), member.slots, member.job), ("judge1", 8, None));
        assert_eq!((member.release, member.languages), (facts.release, facts.languages));
        assert_eq!(member.url.as_str(), "http://[fd00::1]:8081/");
        assert_eq!(members_of(&[instance(BTreeMap::new())]), [], "no worker of ours");
    }
}
