//! What the runner promises about whole requests, shown in real jails.
