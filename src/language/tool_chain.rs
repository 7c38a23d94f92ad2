//! Whether the programs that a language needs are on this machine.
//!
//! Only the fixed paths of the language's definition are looked at, never the daemon's PATH: what
//! a PATH finds may be somebody's own (a version manager's shim under a home), which no jail shows.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::LanguageDefinition;

/// Folders whose programs are never used: jails do not show them, and they are somebody's own.
const PRIVATE: [&str; 2] = ["/home", "/root"];

/// The tools of one language as found on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolChain {
    /// The path of each tool, by name; the candidate as it is named, not what it links to.
    pub tools: BTreeMap<String, PathBuf>,
}

/// What makes one tool the same as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolIdentity {
    /// The file, links followed.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in nanoseconds since the epoch.
    pub modified_ns: i128,
}

/// A tool that a language needs and that is not here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{tool} is not installed: {detail}{}", hint(.package))]
pub struct MissingTool {
    /// The tool's name in the definition.
    pub tool: String,
    /// Where it was looked for, and what was found there, for who runs this machine.
    pub detail: String,
    /// What to install, where the definition says.
    pub package: Option<String>,
}

fn hint(package: &Option<String>) -> String {
    package.as_ref().map_or_else(String::new, |package| format!("; install {package}"))
}

impl ToolChain {
    /// Looks for every tool of `language`.
    ///
    /// # Errors
    /// The first one that is at none of its places.
    pub fn find(language: &LanguageDefinition) -> Result<ToolChain, MissingTool> {
        let mut tools = BTreeMap::new();
        for (name, candidates) in &language.tools {
            let path = first_usable(candidates).map_err(|detail| MissingTool {
                tool: name.clone(),
                detail,
                package: language.package.clone(),
            })?;
            tools.insert(name.clone(), path);
        }
        Ok(ToolChain { tools })
    }

    /// What the tools are now; differs when one was replaced or updated.
    pub fn identity(&self) -> Vec<ToolIdentity> {
        self.tools
            .values()
            .filter_map(|path| {
                let path = path.canonicalize().ok()?;
                let data = path.metadata().ok()?;
                Some(ToolIdentity {
                    path,
                    size: data.size(),
                    modified_ns: i128::from(data.mtime()) * 1_000_000_000
                        + i128::from(data.mtime_nsec()),
                })
            })
            .collect()
    }
}

/// The first candidate that is a file outside of the private folders, else why there is none.
fn first_usable(candidates: &[PathBuf]) -> Result<PathBuf, String> {
    let mut refused = None;
    for candidate in candidates {
        let Ok(real) = candidate.canonicalize() else { continue };
        if let Some(home) = PRIVATE.iter().find(|home| real.starts_with(home)) {
            refused.get_or_insert_with(|| {
                format!(
                    "{} leads to {}, and what is under {home} is not used",
                    candidate.display(),
                    real.display()
                )
            });
        } else if real.is_file() {
            return Ok(candidate.clone());
        }
    }
    Err(refused.unwrap_or_else(|| {
        let places: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        format!("looked for {}", places.join(", "))
    }))
}

/// Whether a path is one that a definition may name: absolute, without `..`.
pub(super) fn is_fixed(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == std::path::Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(candidates: &[&Path]) -> LanguageDefinition {
        let mut language =
            super::super::Catalog::load(None).expect("embedded").get("c").expect("c").definition;
        let language = std::sync::Arc::make_mut(&mut language);
        language.package = Some("frob".to_owned());
        language.tools = BTreeMap::from([(
            "frob".to_owned(),
            candidates.iter().map(|path| path.to_path_buf()).collect(),
        )]);
        language.clone()
    }

    #[test]
    fn the_first_candidate_that_exists_is_taken_by_the_name_it_has() {
        let folder = tempfile::tempdir().expect("tempdir");
        let (absent, link) = (folder.path().join("absent"), folder.path().join("link"));
        std::os::unix::fs::symlink("/bin/sh", &link).expect("symlink");
        let chain = ToolChain::find(&language(&[&absent, folder.path(), &link])).expect("found");
        assert_eq!(chain.tools["frob"], link, "a folder is no tool, a link keeps its name");
        assert_eq!(chain.identity().len(), 1);
    }

    #[test]
    fn a_missing_tool_is_named_with_its_places_and_its_package() {
        let error = ToolChain::find(&language(&[Path::new("/nowhere/a"), Path::new("/nowhere/b")]))
            .expect_err("nothing is there");
        assert_eq!(
            error.to_string(),
            "frob is not installed: looked for /nowhere/a, /nowhere/b; install frob"
        );
    }

    #[test]
    fn a_tool_that_leads_into_a_home_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().expect("tempdir");
        let link = folder.path().join("frob");
        let Some(home) = PRIVATE.iter().map(Path::new).find(|home| home.is_dir()) else {
            panic!("neither /home nor /root exists here");
        };
        std::os::unix::fs::symlink(home, &link).expect("symlink");
        let error = ToolChain::find(&language(&[&link])).expect_err("it is private");
        assert!(error.detail.contains("is not used"), "{error}");
        assert!(error.detail.contains(&home.display().to_string()), "{error}");
    }
}
