//! Ways to have a daemon on a machine that can run jails believe that it cannot.

use std::process::Command;

use super::skip;

/// What the daemon has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoFloor {
    /// An ordinary user, without user namespaces. No cgroup either.
    UserNamespaces,
    /// Root, without any capability but that to write to the cgroups that the machine has.
    Capabilities,
}

impl NoFloor {
    /// The words that the daemon's stand behind.
    fn words(self) -> Vec<&'static str> {
        /// The outer namespace allows one more, which the inner one is.
        const ONE_MORE: &str = "echo 1 > /proc/sys/user/max_user_namespaces; \
                                exec unshare --user --map-user=1000 --map-group=1000 \"$@\"";
        match self {
            NoFloor::UserNamespaces => {
                vec!["unshare", "--user", "--map-root-user", "sh", "-ec", ONE_MORE, "sh"]
            }
            NoFloor::Capabilities => {
                vec!["setpriv", "--bounding-set", "-all,+dac_override", "--inh-caps", "-all"]
            }
        }
    }

    /// A command that becomes the program in its arguments; `None`, and the test counts as skipped,
    /// when it cannot be had here.
    pub(crate) fn command(self) -> Option<Command> {
        let words = self.words();
        let command = || {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            command
        };
        let tried = command().arg("true").output();
        if !tried.is_ok_and(|output| output.status.success()) {
            skip(&format!("cannot take {self:?} away from a daemon here"));
            return None;
        }
        Some(command())
    }
}
