//! What a task asks to have fetched before it starts: Nomad asks with HEAD first, then with GET.

use std::{collections::BTreeMap, path::Path, time::Duration};

use reqwest::{Client, Method, StatusCode, Url};
use serde_json::Value;

use super::environment::replaced;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fetches all of a task's.
///
/// # Errors
/// Nomad's words for the first that failed.
pub(super) async fn fetch_all(
    task: &Value,
    variables: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<(), String> {
    for artifact in task["Artifacts"].as_array().into_iter().flatten() {
        let source = replaced(artifact["GetterSource"].as_str().unwrap_or_default(), variables);
        fetch(artifact, &source, variables, folder)
            .await
            .map_err(|what| format!("failed to download artifact {source:?}: {what}"))?;
    }
    Ok(())
}

async fn fetch(
    artifact: &Value,
    source: &str,
    variables: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<(), String> {
    let mut url = Url::parse(source).map_err(|error| error.to_string())?;
    // These are for the getter, and are not sent.
    let own = ["archive", "checksum", "filename"];
    let pairs: Vec<_> = url.query_pairs().into_owned().collect();
    let sent: Vec<_> = pairs.iter().filter(|(name, _)| !own.contains(&name.as_str())).collect();
    url.set_query(None);
    if !sent.is_empty() {
        url.query_pairs_mut().extend_pairs(sent);
    }
    // The program installs one when it starts; a second try is refused, and that is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().timeout(PATIENCE).no_proxy().build();
    let client = client.map_err(|error| error.to_string())?;
    let ask = async |method: Method| {
        let mut request = client.request(method.clone(), url.clone());
        for (name, value) in artifact["GetterHeaders"].as_object().into_iter().flatten() {
            request = request.header(name, replaced(value.as_str().unwrap_or_default(), variables));
        }
        request.send().await.map_err(|error| {
            let root = std::iter::successors(Some(&error as &dyn std::error::Error), |error| {
                error.source()
            });
            let verb = if method == Method::HEAD { "Head" } else { "Get" };
            format!("{verb} \"{url}\": {}", root.last().expect("there is one"))
        })
    };
    // Only to learn the size: what it answers is no reason to fail.
    let _ = ask(Method::HEAD).await;
    let answer = ask(Method::GET).await?;
    if answer.status() != StatusCode::OK {
        return Err(format!("bad response code: {}", answer.status().as_u16()));
    }
    let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
    let target = folder.join(artifact["RelativeDest"].as_str().unwrap_or("local/"));
    let file = match artifact["GetterMode"].as_str() {
        Some("file") => target,
        _ => {
            let name = url.path_segments().and_then(Iterator::last).unwrap_or("file");
            target.join(name)
        }
    };
    let written = file.parent().map_or(Ok(()), std::fs::create_dir_all);
    written.and_then(|()| std::fs::write(file, bytes)).map_err(|error| error.to_string())
}
