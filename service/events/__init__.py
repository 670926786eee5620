"""The event log, its readers over HTTP, and the wake-ups between processes."""
