"""`leadlog demo`: realistic leads over HTTP, then a reckoning of what became of them."""
