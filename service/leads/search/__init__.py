"""GET /v1/leads/search."""
