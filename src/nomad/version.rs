//! What the servers of a region can do, from their versions.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Client, NomadError, Problem};

/// The first version that honours an idempotency token; 1.1.0 to 1.1.2 ignore it silently.
const TOKENS_SINCE: [u32; 3] = [1, 1, 3];

/// How long an answer counts: a cluster is seldom upgraded, and less often downgraded.
const FRESH: Duration = Duration::from_secs(300);

/// How long no answer counts as "no", so that a cluster that is away is not asked at every dispatch.
const FRESH_FAILURE: Duration = Duration::from_secs(10);

/// How long the answer may take: a dispatch waits for it.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The servers that an agent knows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members {
    #[serde(default)]
    members: Option<Vec<Member>>,
    #[serde(default)]
    server_region: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    #[serde(default)]
    status: String,
    #[serde(default)]
    tags: Option<Tags>,
}

#[derive(Debug, Default, Deserialize)]
struct Tags {
    #[serde(default)]
    region: String,
    #[serde(default)]
    build: String,
}

/// Whether all servers of the region that are alive honour an idempotency token; the region is the
/// answering agent's own unless given. No when that cannot be seen.
fn honour_tokens(members: &Members, region: Option<&str>) -> bool {
    let region = region.unwrap_or(&members.server_region);
    let builds = members.members.iter().flatten().filter_map(|member| {
        let tags = member.tags.as_ref().filter(|_| member.status == "alive")?;
        (tags.region == region).then_some(tags.build.as_str())
    });
    let honour: Vec<bool> = builds.map(honours_tokens).collect();
    !honour.is_empty() && !honour.contains(&false)
}

/// Whether a version like `1.1.3`, `1.2.0-beta1` or `1.4.0+ent` is late enough. What comes before a
/// version itself (`1.1.3-rc1`) is not.
fn honours_tokens(build: &str) -> bool {
    let (core, rest) = match build.find(['-', '+']) {
        Some(at) => build.split_at(at),
        None => (build, ""),
    };
    let numbers: Result<Vec<u32>, _> = core.split('.').map(str::parse).collect();
    let Ok(numbers) = numbers else { return false };
    let Ok(version) = <[u32; 3]>::try_from(numbers) else { return false };
    version > TOKENS_SINCE || version == TOKENS_SINCE && !rest.starts_with('-')
}

/// What was last found out, and when it has to be found out anew. The lock is held while asking, so
/// that one asks and the others wait for its answer.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<(Instant, bool)>>);

impl Client {
    /// Whether a dispatch with an idempotency token may be repeated without making a second child.
    /// Asked once in some minutes. No when the servers do not say: they are away, or the token may
    /// not list them.
    pub async fn honours_idempotency_tokens(&self) -> bool {
        let mut known = self.shared.tokens.0.lock().await;
        if let Some((until, answer)) = *known
            && Instant::now() < until
        {
            return answer;
        }
        let (answer, fresh) = match self.members().await {
            Ok(members) => (honour_tokens(&members, self.shared.region.as_deref()), FRESH),
            Err(error) => {
                let refused = error.problem().is_some_and(Problem::is_final);
                tracing::debug!(%error, "the versions of Nomad's servers are not known");
                (false, if refused { FRESH } else { FRESH_FAILURE })
            }
        };
        *known = Some((Instant::now() + fresh, answer));
        answer
    }

    async fn members(&self) -> Result<Members, NomadError> {
        self.json(
            self.request(Method::GET, &["agent", "members"]).timeout(TIMEOUT).repeatable(false),
        )
        .await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const RECORDED: &str = include_str!("../../tests/data/nomad-1.1.0/agent-members.json");

    /// The recorded answer, with a member for each of these changes to it.
    fn members(changes: &[(&str, &str, &str)]) -> Members {
        let mut answer: Value = serde_json::from_str(RECORDED).unwrap();
        let recorded = answer["Members"][0].clone();
        let change = |(status, region, build): &(&str, &str, &str)| {
            let mut member = recorded.clone();
            member["Status"] = json!(status);
            member["Tags"]["region"] = json!(region);
            member["Tags"]["build"] = json!(build);
            member
        };
        answer["Members"] = changes.iter().map(change).collect();
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn the_recorded_cluster_does_not_honour_tokens() {
        let recorded: Members = serde_json::from_str(RECORDED).unwrap();
        assert_eq!(recorded.members.as_ref().unwrap()[0].tags.as_ref().unwrap().build, "1.1.0");
        assert!(!honour_tokens(&recorded, None));
    }

    #[test]
    fn every_living_server_of_the_region_has_to_honour_tokens() {
        let (new, old) = (("alive", "global", "1.4.0"), ("alive", "global", "1.1.2"));
        let (left, away) = (("left", "global", "1.1.0"), ("alive", "far", "1.1.0"));
        assert!(honour_tokens(&members(&[new]), None));
        assert!(honour_tokens(&members(&[new, left, away]), None));
        assert!(!honour_tokens(&members(&[new, old]), None));
        assert!(!honour_tokens(&members(&[new, away]), Some("far")));
        assert!(!honour_tokens(&members(&[new]), Some("unknown")));
        assert!(!honour_tokens(&members(&[left]), None));
        let empty: Members = serde_json::from_str(r#"{"Members":null}"#).unwrap();
        assert!(!honour_tokens(&empty, None));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for late in ["1.1.3", "1.1.3+ent", "1.1.10", "1.2.0-beta1", "1.10.4", "2.0.5"] {
            assert!(honours_tokens(late), "{late}");
        }
        for early in ["1.1.2", "1.1.3-rc1", "1.0.14", "0.12.0", "1.1", "", "v1.2.0", "1.2.0.1"] {
            assert!(!honours_tokens(early), "{early}");
        }
    }
}
