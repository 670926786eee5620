"""GET /v1/leads: query parameters, access paths, statements, pages."""
