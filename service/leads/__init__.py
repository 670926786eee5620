"""Leads: the store of single leads, lists, search, scores and the text of timelines."""
