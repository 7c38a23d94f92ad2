# For a daemon whose token shall not be able to run anything but the job that an operator registered:
#
#     braindrill jobs render --nomad-job judges | nomad job run -
#     nomad acl policy apply braindrill-dispatch nomad-jobs/acl-dispatch-only.hcl
#     nomad acl token create -name=braindrill -policy=braindrill-dispatch
#     braindrill serve --backend nomad --nomad-job judges
#
# Nomad asks for `submit-job` to stop a job, so without it the daemon cannot end what it dispatched. See
# "A token that may only dispatch" in docs/nomad.md for what that means: a submission is not cancelled on
# the node, an attempt that was given up runs on to its own limits, and children stay in Nomad until its
# garbage collection (job_gc_threshold) takes them.
#
# The capability is for every parameterized job of the namespace: give braindrill one of its own.

namespace "default" {
  capabilities = [
    "dispatch-job",
    "read-job",
    "list-jobs",
    "read-logs",
    "read-fs",
  ]
}

node {
  policy = "read"
}

agent {
  policy = "read"
}
