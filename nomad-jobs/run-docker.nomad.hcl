# One attempt at one submission, in a container: dispatched by the daemon, run by `braindrill runner`.
#
# For nodes with the driver `docker`, in place of run.nomad.hcl: --nomad-driver docker. Registered by
# the daemon, or by an operator, in the same way. Requests of more than 16 KiB go to its companion,
# run-docker-fetch.nomad.hcl, whose id is the id of this one with -fetch behind it.
#
# The image is the target `worker` of the Dockerfile, or any other with braindrill as its entry point
# and the tool chains beside it. Every node has to have it, or be able to pull it.
#
# The container is the jail: no network, a root that cannot be written, no capability, nothing of the
# machine but this allocation's folders. Docker's own profiles forbid the namespaces and mounts that a
# jail inside of it would take, so the runner does without one (--outer-jail) and says on stderr which
# layers are missing. What the container does not do is keep a program from its own runner, which is
# the same user: a program that means to can read the folders of its allocation and change what is said
# of it. It reaches no other attempt and not the node. Where verdicts must be safe from the programs
# they are on, use run.nomad.hcl.

variable "image" {
  type        = string
  default     = "braindrill-worker:local"
  description = "Holds the tool chains, and braindrill as its entry point."
}

variable "datacenters" {
  type        = list(string)
  default     = ["dc1"]
  description = "Where it may run."
}

variable "memory" {
  type        = number
  default     = 2048
  description = "MB for the whole container: as much as the largest limit of a run or a compile step (1.5 GiB for Kotlin and Scala), and what is in /tmp."
}

variable "digest" {
  type        = string
  default     = ""
  description = "Filled in by braindrill, which knows by it what the job was made from."
}

job "braindrill-run-docker" {
  type        = "batch"
  datacenters = var.datacenters

  meta {
    braindrill_digest = var.digest
  }

  parameterized {
    # The execution request, as a line of JSON compressed with zstd.
    payload = "required"

    # Which submission of which daemon, and which attempt, so that a daemon finds its children again.
    meta_optional = [
      "braindrill_submission",
      "braindrill_attempt",
      "braindrill_instance",
    ]
  }

  group "run" {
    # Whether to try again is the daemon's to decide: Nomad's defaults would run a failing
    # program up to eight times.
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }

    # Two logs of 48 MB, a second copy of the events, and 192 MiB of compiled programs.
    ephemeral_disk {
      size = 350
    }

    task "runner" {
      driver = "docker"

      config {
        image = var.image
        # Without a command these are for the image's entry point.
        args = ["runner", "--outer-jail"]

        network_mode    = "none"
        readonly_rootfs = true
        cap_drop        = ["ALL"]
        security_opt    = ["no-new-privileges"]

        # The most that a submission may ask for is 256.
        pids_limit = 512

        # What programs write goes here, and counts as memory of the container. Docker mounts it
        # noexec; compiled programs are in the allocation's folder.
        mount {
          type     = "tmpfs"
          target   = "/tmp"
          readonly = false
          tmpfs_options {
            size = 671088640
          }
        }
      }

      dispatch_payload {
        file = "request"
      }

      # The runner gets SIGINT and ends its program at once; this is for one that hangs.
      kill_timeout = "5s"

      # A submission's kept output is at most 16 MiB, 23 MB as events, and twice that where single
      # bytes were written to both streams in turn. Nomad drops the head of a log that outgrows its
      # files, without a mark, so they hold that.
      logs {
        max_files     = 4
        max_file_size = 12
      }

      resources {
        cpu    = 500
        memory = var.memory
      }
    }
  }
}
