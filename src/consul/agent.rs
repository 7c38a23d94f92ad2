//! The services and checks of the agent itself.

use reqwest::Method;

use super::{Agent, Client, ConsulError, Problem, Registered, ServiceDefinition, model::AgentSelf};

impl Client {
    /// Which agent this is.
    ///
    /// # Errors
    /// See [`ConsulError`].
    pub async fn agent(&self) -> Result<Agent, ConsulError> {
        let agent: AgentSelf = self.json(self.request(Method::GET, &["agent", "self"])).await?;
        Ok(agent.config)
    }

    /// Registers a service with its check, or changes what is registered under its id.
    ///
    /// # Errors
    /// See [`ConsulError`].
    pub async fn register(&self, service: &ServiceDefinition) -> Result<(), ConsulError> {
        let request = self.request(Method::PUT, &["agent", "service", "register"]);
        // Else a check that an earlier version of us had would stay and turn critical.
        let request = request.query(&[("replace-existing-checks", "true")]);
        self.done(request.json(&service.body())).await
    }

    /// Takes a service out, with its checks. One that is not there is fine.
    ///
    /// # Errors
    /// See [`ConsulError`].
    pub async fn deregister(&self, id: &str) -> Result<(), ConsulError> {
        let request = self.request(Method::PUT, &["agent", "service", "deregister", id]);
        match self.done(request).await {
            Err(error) if error.problem() == Some(Problem::NotFound) => Ok(()),
            result => result,
        }
    }

    /// What the agent has under this id, if anything.
    ///
    /// # Errors
    /// See [`ConsulError`].
    pub async fn registered(&self, id: &str) -> Result<Option<Registered>, ConsulError> {
        match self.json(self.request(Method::GET, &["agent", "service", id])).await {
            Ok(service) => Ok(Some(service)),
            Err(error) if error.problem() == Some(Problem::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says that the service of a TTL check is well, and in a few words how.
    ///
    /// # Errors
    /// See [`ConsulError`]; [`Problem::NotFound`] when the agent has lost the check, and then its
    /// service is to be registered again.
    pub async fn pass_check(&self, check_id: &str, note: &str) -> Result<(), ConsulError> {
        let request = self.request(Method::PUT, &["agent", "check", "pass", check_id]);
        self.done(request.query(&[("note", note)])).await
    }
}
