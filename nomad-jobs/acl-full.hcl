# What a daemon with a job of its own needs of Nomad's ACLs:
#
#     nomad acl policy apply braindrill nomad-jobs/acl-full.hcl
#     nomad acl token create -name=braindrill -policy=braindrill
#
# `submit-job` is the right to run anything on any node, as root where raw_exec is on: whoever has this
# token has the nodes. A namespace for braindrill alone keeps the rest of the cluster's jobs from it, not
# the nodes. acl-dispatch-only.hcl does without, at a price that it names.

namespace "default" {
  capabilities = [
    # Registers the job, and stops and purges children: cancel, delete, time limits, clearing away.
    "submit-job",
    "dispatch-job",
    # Allocations, evaluations, the event stream.
    "read-job",
    # Children, by the beginning of their names.
    "list-jobs",
    # Output.
    "read-logs",
    # The runner's second copy of it, where a log is not whole.
    "read-fs",
  ]
}

# The list of GET /v1/workers, and where a node is, to read output from it and not through a server.
node {
  policy = "read"
}

# The versions of the servers, which say whether a dispatch may be sent twice.
agent {
  policy = "read"
}
