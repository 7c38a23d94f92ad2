# The daemon itself, kept running by Nomad:
#
#     nomad job run -var node=NAME nomad-jobs/service.nomad.hcl
#
# NAME is the name of the node, as `nomad node status` has it. There is one daemon, with its data in a
# folder of that node: it is not moved elsewhere when the node is away, since elsewhere there is no data.
# Nomad starts it again where it ended; what it had dispatched runs on meanwhile, and it finds it again.
#
# The node needs the plugin `raw_exec`, which runs it as the agent's user, and the braindrill executable.
# A second daemon on the same folder refuses to start, so an update cannot make two of one.

variable "node" {
  type        = string
  description = "The name of the node that has the data."
}

variable "datacenters" {
  type        = list(string)
  default     = ["dc1"]
  description = "The node's among them."
}

variable "executable" {
  type        = string
  default     = "/usr/local/bin/braindrill"
  description = "Where braindrill is on that node."
}

variable "data_dir" {
  type        = string
  default     = "/var/lib/braindrill"
  description = "Where everything is kept. Made if it is not there."
}

variable "port" {
  type        = number
  default     = 8080
  description = "Where it listens."
}

variable "host" {
  type        = string
  default     = "127.0.0.1"
  description = "Likewise. On another address than loopback it wants --allow-anonymous in `arguments`."
}

variable "arguments" {
  type        = list(string)
  default     = []
  description = "More arguments of `braindrill serve`, as --advertise-url and what it is to say."
}

variable "environment" {
  type        = string
  default     = "/etc/braindrill/environment"
  description = "A file of lines NAME=VALUE on that node, which may be missing: NOMAD_TOKEN, CONSUL_HTTP_TOKEN. For the agent's user alone."
}

job "braindrill" {
  type        = "service"
  datacenters = var.datacenters

  constraint {
    attribute = "${node.unique.name}"
    value     = var.node
  }

  group "daemon" {
    count = 1

    # For as long as it takes: a full disk or a busy port is somebody's to mend, and submissions wait.
    restart {
      attempts = 3
      interval = "1m"
      delay    = "5s"
      mode     = "delay"
    }

    network {
      # So that Nomad places nothing else there.
      port "http" {
        static = var.port
      }
    }

    task "braindrill" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"

        # By way of a shell, so that tokens are in a file of the node and not in the job, which many
        # may read. `exec` has Nomad's signals reach the daemon.
        args = concat([
          "-c",
          "set -a; if [ -r \"$BRAINDRILL_ENVIRONMENT_FILE\" ]; then . \"$BRAINDRILL_ENVIRONMENT_FILE\"; fi; set +a; unset BRAINDRILL_ENVIRONMENT_FILE; exec \"$@\"",
          "braindrill",
          var.executable, "serve",
          "--backend", "nomad",
          "--listen", "${var.host}:${var.port}",
          "--data-dir", var.data_dir,
        ], var.arguments)
      }

      env {
        BRAINDRILL_ENVIRONMENT_FILE = var.environment
      }

      # Running programs are left to Nomad; what remains is to answer open requests and close the file.
      kill_signal  = "SIGTERM"
      kill_timeout = "20s"

      logs {
        max_files     = 5
        max_file_size = 10
      }

      # What the scheduler sets aside. raw_exec enforces neither.
      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
