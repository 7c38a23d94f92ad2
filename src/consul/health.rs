//! Which instances of a service are healthy.

use reqwest::Method;

use super::{
    Blocking, Client, ConsulError, Indexed, Instance, blocking, decode, index_of,
    model::HealthEntry,
};

impl Client {
    /// The instances of a service whose checks all pass, those of its node included, in a fixed
    /// order. None at all when there is no such service, and also when ACLs are on and the token
    /// may not read it: Consul filters lists instead of refusing.
    ///
    /// Nomad registers several ports under one name, so for those the tag is a must: `http`.
    ///
    /// # Errors
    /// See [`ConsulError`].
    pub async fn healthy_instances(
        &self,
        service: &str,
        tag: Option<&str>,
        after: Option<Blocking>,
    ) -> Result<Indexed<Vec<Instance>>, ConsulError> {
        let request = self.cluster_request(Method::GET, &["health", "service", service]);
        let request = request.query(&[("passing", "true")]);
        let request = match tag {
            Some(tag) => request.query(&[("tag", tag)]),
            None => request,
        };
        let response = self.send(blocking(request, after)).await?;
        let index = index_of(&response).unwrap_or(0);
        let entries: Vec<HealthEntry> = decode(response).await?;
        let mut value: Vec<_> = entries.into_iter().map(Instance::from).collect();
        value.sort_by(|a, b| (&a.node, &a.id).cmp(&(&b.node, &b.id)));
        Ok(Indexed { value, index })
    }
}
