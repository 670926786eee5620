"""Decoding of request bodies and query strings into structs, with all faults at once."""
