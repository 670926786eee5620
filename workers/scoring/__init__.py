"""Computes the score of a lead: pure functions, without a database."""
