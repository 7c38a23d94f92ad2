# The daemon as a service with a check, for whoever registers it by hand:
#
#     consul services register consul/service.hcl
#     braindrill serve --no-consul-register
#
# or as a file in the configuration folder of the Consul agent on the daemon's machine. Usually neither is
# needed: the daemon registers itself, the same service by another id, and takes itself out at its end.

service {
  id   = "braindrill"
  name = "braindrill"
  tags = ["http"]
  port = 8080

  # Without an address of its own the service is where its agent is.

  check {
    name     = "braindrill answers"
    http     = "http://127.0.0.1:8080/healthz/live"
    interval = "10s"
    timeout  = "5s"

    # A daemon that was killed and did not come back is forgotten.
    deregister_critical_service_after = "10m"
  }
}
