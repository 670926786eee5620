"""The OpenAPI document: its schemas, descriptions and examples."""
