//! The job files in `nomad-jobs/`, and how settings are put into them: as text, so that what an
//! operator registers by Nomad's own command is what a daemon would register.

use serde_json::{Value, json};

/// One of the job files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobFile {
    /// The runner as a plain process.
    Run,
    /// The runner in a container.
    RunDocker,
    /// The same, for requests that are too long for a payload.
    RunDockerFetch,
}

impl JobFile {
    /// As it is in the repository.
    pub fn text(self) -> &'static str {
        match self {
            JobFile::Run => include_str!("../../../../nomad-jobs/run.nomad.hcl"),
            JobFile::RunDocker => include_str!("../../../../nomad-jobs/run-docker.nomad.hcl"),
            JobFile::RunDockerFetch => {
                include_str!("../../../../nomad-jobs/run-docker-fetch.nomad.hcl")
            }
        }
    }

    /// What is behind the id that the settings name.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            JobFile::Run | JobFile::RunDocker => "",
            JobFile::RunDockerFetch => "-fetch",
        }
    }

    /// The file with this id for its job, and these values in place of its variables' defaults.
    /// Values of variables that it does not have are passed over.
    pub(super) fn fill_in(self, id: &str, values: &[(&str, Value)]) -> String {
        let mut text = String::new();
        let mut variable = None;
        for line in self.text().lines() {
            if let Some(name) = between(line, "variable \"", "\" {") {
                variable = Some(name);
            }
            let value = values.iter().find(|(name, _)| variable == Some(*name));
            if between(line, "job \"", "\" {").is_some() {
                text += &format!("job {} {{", literal(&json!(id)));
            } else if let (Some((_, value)), true) = (value, line.starts_with("  default ")) {
                text += &format!("  default     = {}", literal(value));
                variable = None;
            } else {
                text += line;
            }
            text.push('\n');
        }
        text
    }
}

fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    line.strip_prefix(before)?.strip_suffix(after)
}

/// A value as HCL writes it: as JSON does, but that `${` and `%{` would begin a template.
fn literal(value: &Value) -> String {
    value.to_string().replace("${", "$${").replace("%{", "%%{")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [JobFile; 3] = [JobFile::Run, JobFile::RunDocker, JobFile::RunDockerFetch];

    fn changed(file: JobFile, values: &[(&str, Value)]) -> Vec<String> {
        let filled = file.fill_in("judges", values);
        assert_eq!(filled.lines().count(), file.text().lines().count());
        let lines = filled.lines().zip(file.text().lines());
        lines.filter(|(new, old)| new != old).map(|(new, _)| new.trim().to_owned()).collect()
    }

    #[test]
    fn the_id_and_the_named_defaults_are_all_that_changes() {
        let values = [("datacenters", json!(["eu", "us"])), ("digest", json!("77"))];
        for file in ALL {
            let expected =
                [r#"default     = ["eu","us"]"#, r#"default     = "77""#, r#"job "judges" {"#];
            assert_eq!(changed(file, &values), expected, "{file:?}");
        }
        assert_eq!(changed(JobFile::Run, &[("image", json!("none here"))]), [r#"job "judges" {"#]);
    }

    #[test]
    fn no_value_can_become_anything_but_a_string() {
        let odd = "a\"b\\c\n${d}%{e}";
        let expected = r#"default     = "a\"b\\c\n$${d}%%{e}""#;
        let changed = changed(JobFile::Run, &[("runner_path", json!(odd))]);
        assert_eq!(changed[0], expected);
    }
}
