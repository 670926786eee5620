"""Leads: the store of single ones, lists, search, and what their rows mean."""
