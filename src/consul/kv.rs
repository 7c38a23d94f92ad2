//! Single keys of Consul's store.

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, StatusCode};

use super::{Blocking, Client, ConsulError, Indexed, blocking, decode, index_of, refusal};

impl Client {
    /// The value of a key, `None` when there is no such key. A blocking query also waits for a key
    /// to appear.
    ///
    /// # Errors
    /// See [`ConsulError`].
    pub async fn get_key(
        &self,
        key: &str,
        after: Option<Blocking>,
    ) -> Result<Indexed<Option<Bytes>>, ConsulError> {
        let request = self.key_request(Method::GET, key).query(&[("raw", "true")]);
        let response = blocking(request, after).send().await.map_err(ConsulError::sending)?;
        let (status, index) = (response.status(), index_of(&response));
        match index {
            // Without an index it was somebody else who does not know the path.
            Some(index) if status == StatusCode::NOT_FOUND => Ok(Indexed { value: None, index }),
            _ if !status.is_success() => Err(refusal(response).await),
            index => {
                let value = response.bytes().await.map_err(ConsulError::Interrupted)?;
                Ok(Indexed { value: Some(value), index: index.unwrap_or(0) })
            }
        }
    }

    /// Sets a key; at most 512 KiB.
    ///
    /// # Errors
    /// See [`ConsulError`].
    pub async fn put_key(&self, key: &str, value: impl Into<Bytes>) -> Result<(), ConsulError> {
        self.write(self.key_request(Method::PUT, key).body(value.into())).await
    }

    /// Removes a key. One that is not there is fine.
    ///
    /// # Errors
    /// See [`ConsulError`].
    pub async fn delete_key(&self, key: &str) -> Result<(), ConsulError> {
        self.write(self.key_request(Method::DELETE, key)).await
    }

    /// Slashes in a key are slashes of the path.
    fn key_request(&self, method: Method, key: &str) -> RequestBuilder {
        let segments: Vec<&str> = std::iter::once("kv").chain(key.split('/')).collect();
        self.cluster_request(method, &segments)
    }

    async fn write(&self, request: RequestBuilder) -> Result<(), ConsulError> {
        let done: bool = decode(self.send(request.timeout(super::ANSWER_TIMEOUT)).await?).await?;
        if done { Ok(()) } else { Err(ConsulError::Declined) }
    }
}
