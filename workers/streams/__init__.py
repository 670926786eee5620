"""The CRM streams in Redis: writing, rebuilding and bounding them, for the publisher."""
