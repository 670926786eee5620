"""`leadlog dev`: servers of its own, the parts of Leadlog, and who keeps them all going."""
