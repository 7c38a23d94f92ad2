# What a warm worker needs of Consul's ACLs: to be listed.
#
#     consul acl policy create -name braindrill-worker -rules @consul/acl-worker.hcl
#     consul acl token create -description braindrill-worker -policy-name braindrill-worker

service "braindrill-worker" {
  policy = "write"
}
