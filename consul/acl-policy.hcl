# What the daemon needs of Consul's ACLs:
#
#     consul acl policy create -name braindrill -rules @consul/acl-policy.hcl
#     consul acl token create -description braindrill -policy-name braindrill
#
# The token goes into CONSUL_HTTP_TOKEN, or into a file that CONSUL_HTTP_TOKEN_FILE names.

# To find Nomad's servers and nodes: `nomad` and `nomad-client`, unless --nomad-service says otherwise.
service_prefix "nomad" {
  policy = "read"
}

# An instance is only shown together with its node.
node_prefix "" {
  policy = "read"
}

# To find warm workers, with --backend pool. The workers themselves have acl-worker.hcl.
service "braindrill-worker" {
  policy = "read"
}

# To be listed itself. Not needed with --no-consul-register.
service "braindrill" {
  policy = "write"
}

# Settings that may change while the daemon runs. It only reads them; see README.md for who writes.
key "braindrill/settings" {
  policy = "read"
}
