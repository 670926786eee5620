"""Rate limits of API keys: fixed windows and concurrency slots, counted over all processes."""
