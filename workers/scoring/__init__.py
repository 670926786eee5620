"""From a lead to a score, without a database."""
