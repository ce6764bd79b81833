"""Methods side by side from one warm start, on equal rollouts: by lag, offline, on one set."""
