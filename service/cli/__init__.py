"""The `leadlog` command and what it starts on this machine."""
