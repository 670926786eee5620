"""Pages and cursors of lists."""
