# A warm worker on every node, for as long as the node is there.
#
#     nomad job run -var secret_file=/etc/braindrill/worker-secret nomad-jobs/worker-system.nomad.hcl
#     braindrill serve --backend pool
#
# worker.nomad.hcl is for workers that are wanted for a time, by dispatch.
#
# Nodes need the plugin `raw_exec`, the braindrill executable, which builds the sandbox, the tool chains, an
# agent of Consul, and the file with the secret that workers share with daemons. Daemons reach the workers at
# the node's address, on a port that Nomad chooses.

variable "executable" {
  type        = string
  default     = "/usr/local/bin/braindrill"
  description = "Where braindrill is on every node."
}

variable "secret_file" {
  type        = string
  default     = "/etc/braindrill/worker-secret"
  description = "Where the secret is on every node; for root alone."
}

variable "datacenters" {
  type        = list(string)
  default     = ["dc1"]
  description = "Where workers may run."
}

variable "arguments" {
  type        = list(string)
  default     = []
  description = "More arguments of `braindrill worker`, as --slots or --consul-addr and what they are to say."
}

variable "cpu" {
  type        = number
  default     = 1000
  description = "What the scheduler sets aside, in MHz. raw_exec does not enforce it."
}

variable "memory" {
  type        = number
  default     = 1024
  description = "Likewise, in MiB: what all slots together may use."
}

job "braindrill-worker-system" {
  type        = "system"
  datacenters = var.datacenters

  group "worker" {
    # For as long as it takes: a busy port or a full disk is somebody's to mend.
    restart {
      attempts = 3
      interval = "1m"
      delay    = "5s"
      mode     = "delay"
    }

    network {
      port "http" {}
    }

    # Logs, and the compiled programs of all slots.
    ephemeral_disk {
      size = 1024
    }

    task "worker" {
      driver = "raw_exec"

      config {
        command = var.executable
        args    = concat(["worker"], var.arguments)
      }

      env {
        BRAINDRILL_WORKER_LISTEN      = "${NOMAD_ADDR_http}"
        BRAINDRILL_WORKER_SECRET_FILE = var.secret_file
      }

      # It takes nothing new then, and finishes what it runs. More than 30 s takes a client whose
      # max_kill_timeout allows it; what has not ended by then runs again elsewhere.
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      logs {
        max_files     = 2
        max_file_size = 5
      }

      resources {
        cpu    = var.cpu
        memory = var.memory
      }
    }
  }
}
