"""API keys, authentication of callers, and the plans that limit them."""
