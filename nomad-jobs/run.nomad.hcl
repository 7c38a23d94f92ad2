# One attempt at one submission: dispatched by the daemon, run by `braindrill runner`.
#
# The daemon registers this job by itself, as braindrill-run-<instance>, where its token may. Where it
# may not, or several daemons share one job, an operator does:
#
#     braindrill jobs render --nomad-job judges | nomad job run -
#     braindrill serve --backend nomad --nomad-job judges
#
# A shared job is used as it is, so it may be changed to taste. One that is a daemon's own is not: the
# daemon replaces it as soon as it differs from what it would register itself.
#
# Nodes need the plugin `raw_exec` and the braindrill executable, which builds a jail of its own: as
# root with a uid for each run, else in a user namespace. Every run's limits are the jail's to keep.
#
# Why not the driver `exec`: for every dispatch it copies (or links) the whole of /usr, /bin, /lib and
# /etc into a chroot, unless `chroot_env` of the client says otherwise, and the jail keeps programs from
# more than that chroot does.

variable "runner_path" {
  type        = string
  default     = "/usr/local/bin/braindrill"
  description = "Where braindrill is on every node."
}

variable "datacenters" {
  type        = list(string)
  default     = ["dc1"]
  description = "Where it may run."
}

variable "digest" {
  type        = string
  default     = ""
  description = "Filled in by braindrill, which knows by it what the job was made from."
}

job "braindrill-run" {
  type        = "batch"
  datacenters = var.datacenters

  meta {
    braindrill_digest = var.digest
  }

  parameterized {
    # The execution request, as a line of JSON compressed with zstd. One that is longer than 16 KiB
    # stays with the daemon: then there is no payload, and the runner fetches it from
    # braindrill_request_url.
    payload = "optional"

    # Which submission of which daemon, and which attempt, so that a daemon finds its children again.
    meta_optional = [
      "braindrill_submission",
      "braindrill_attempt",
      "braindrill_instance",
      "braindrill_request_url",
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
      # The runner builds a sandbox of its own; raw_exec starts fastest and leaves it the rights
      # that takes.
      driver = "raw_exec"

      config {
        command = var.runner_path
        args    = ["runner"]
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

      # What the scheduler sets aside. raw_exec enforces neither; the sandbox enforces the limits
      # of the submission.
      resources {
        cpu    = 100
        memory = 256
      }
    }
  }
}
