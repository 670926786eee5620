"""`leadlog listen`: the subscriber's side of webhooks, on one's own machine."""
