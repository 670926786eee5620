"""Connections to PostgreSQL: connect, pool, batch."""
