"""Webhooks of the API: endpoints, deliveries, replays, and their reconciliation with the log."""
