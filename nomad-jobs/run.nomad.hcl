# One attempt at one submission: dispatched by the daemon, run by `braindrill runner`.
#
# The daemon registers this file by itself, as braindrill-run-<instance>, with its own values for
# the job's id and the variables below. A job of that id that is there already is used as it is
# where the daemon's token may only dispatch.

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

job "braindrill-run" {
  type        = "batch"
  datacenters = var.datacenters

  parameterized {
    # The execution request, as a line of JSON compressed with zstd.
    payload = "required"

    # Which submission and which attempt, so that a daemon finds its children again.
    meta_optional = ["braindrill_submission", "braindrill_attempt"]
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

    # Two logs of 40 MB at the most, and a copy of the events.
    ephemeral_disk {
      size = 150
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

      # A submission's kept output is at most 16 MiB, 22 MB as events. Nomad drops the head of a
      # log that outgrows its files, without a mark, so they hold nearly twice that.
      logs {
        max_files     = 4
        max_file_size = 10
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
