"""What the dispatcher sends webhooks with: lanes, claims, connections, the wire, settling."""
