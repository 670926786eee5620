"""Webhooks as the API sees them: endpoints, deliveries, replays, and the proof of both."""
