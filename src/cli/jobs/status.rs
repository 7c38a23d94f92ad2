//! `braindrill jobs status`: how the jobs stand, in lines for people.

use crate::{
    backend::nomad::{JobSettings, Standing},
    cli::say,
    nomad::{Client, JobStub, Node, NomadError, child_prefix},
};

/// Prints how all jobs stand, and says whether all are up to date.
///
/// # Errors
/// Nomad could not be asked.
pub(super) async fn print(client: &Client, jobs: &JobSettings) -> Result<bool, NomadError> {
    let mut all_well = true;
    for file in jobs.files() {
        let id = jobs.id(*file);
        let job = client.job(&id).await?;
        let standing = jobs.standing(*file, job.as_ref());
        all_well &= standing == Standing::UpToDate;
        say(format_args!("{id}  {}", words(&standing)));
        if let Some(job) = job {
            // A job's own summary goes on to count those that were purged.
            let children = client.jobs(&child_prefix(&id)).await?.value;
            say(format_args!("  version   {}", job.version));
            say(children_line(&children));
        }
    }
    say(nodes_line(&client.nodes().await?, jobs));
    Ok(all_well)
}

fn words(standing: &Standing) -> &'static str {
    match standing {
        Standing::Missing => "is not registered",
        Standing::Unusable => "cannot be dispatched from: it is stopped, or not parameterized",
        Standing::Differs => "is registered, and differs from what would be registered here",
        Standing::UpToDate => "is registered and up to date",
    }
}

/// How far the children are that Nomad has now.
fn children_line(children: &[JobStub]) -> String {
    let count = |status: &str| children.iter().filter(|child| child.status == status).count();
    let [pending, running, dead] = ["pending", "running", "dead"].map(count);
    format!("  children  {pending} pending, {running} running, {dead} dead")
}

/// Which of the cluster's nodes can take the jobs.
fn nodes_line(nodes: &[Node], jobs: &JobSettings) -> String {
    let driver = jobs.driver.name();
    let takes = |node: &&Node| node.takes(driver) && jobs.datacenters.contains(&node.datacenter);
    let names: Vec<_> = nodes.iter().filter(takes).map(|node| node.name.as_str()).collect();
    let places = jobs.datacenters.join(", ");
    if names.is_empty() {
        return format!("nodes       none of {} has {driver} ready in {places}", nodes.len());
    }
    format!("nodes       {} of {} ({})", names.len(), nodes.len(), names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_count_by_their_status() {
        let stub = |status: &str| JobStub {
            id: "run/dispatch-1".to_owned(),
            status: status.to_owned(),
            ..JobStub::default()
        };
        let children = ["running", "dead", "running", "pending"].map(stub);
        assert_eq!(children_line(&children), "  children  1 pending, 2 running, 1 dead");
    }

    #[test]
    fn nodes_count_by_driver_and_datacenter() {
        let text = include_str!("../../../tests/data/nomad-1.1.0/nodes.json");
        let mut nodes: Vec<Node> = serde_json::from_str(text).unwrap();
        nodes[0].name = "here".to_owned();
        let elsewhere = Node { datacenter: "eu".to_owned(), ..nodes[0].clone() };
        let down = Node { status: "down".to_owned(), ..nodes[0].clone() };
        nodes.extend([elsewhere, down]);
        let jobs = JobSettings::own("0123abcd", "/braindrill".into());
        assert_eq!(nodes_line(&nodes, &jobs), "nodes       1 of 3 (here)");
        let nowhere = JobSettings { datacenters: vec!["us".to_owned()], ..jobs };
        assert_eq!(nodes_line(&nodes, &nowhere), "nodes       none of 3 has raw_exec ready in us");
    }
}
