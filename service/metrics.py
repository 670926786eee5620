"""Every counter and histogram, declared here; units are in the names."""

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

REQUESTS = Counter("leadlog_requests_total", "Requests served.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "leadlog_request_seconds",
    "Time from the request's head to the last byte of its answer.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
REQUESTS_SHED = Counter(
    "leadlog_requests_shed_total",
    "Requests refused with 503 because the process is asked for too much.",
    ["by"],
)
REQUESTS_LIMITED = Counter(
    "leadlog_requests_limited_total",
    "Requests refused with 429, by the limit of the plan: minute, day, concurrent, or a route.",
    ["by"],
)
LOOP_LAG_SECONDS = Histogram(
    "leadlog_loop_lag_seconds",
    "How late the event loop of an API process is, measured 40 times a second.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
)
IDEMPOTENT_REPLAYS = Counter(
    "leadlog_idempotent_replays_total", "Answers sent again under their Idempotency-Key."
)
EVENTS_READ = Counter("leadlog_events_read_total", "Events a reader has applied.", ["reader"])
WINDOW_LAG_SECONDS = Histogram(
    "leadlog_window_lag_seconds",
    "Age of a window when its reader had applied it.",
    ["reader"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300),
)
TICKS = Counter("leadlog_ticks_total", "Windows cut.")
SLICE_FAILURES = Counter("leadlog_slice_failures_total", "Slices that raised.", ["slice"])
SLICE_STARTS = Counter("leadlog_slice_starts_total", "Slices started.", ["slice", "by"])
LEADS_SCORED = Counter("leadlog_leads_scored_total", "Leads whose score was written.")
DELIVERY_ATTEMPTS = Counter(
    "leadlog_delivery_attempts_total", "Webhook attempts by their end.", ["outcome"]
)
DELIVERY_SECONDS = Histogram(
    "leadlog_delivery_seconds",
    "Time of a webhook attempt.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
)
STALE_SETTLEMENTS = Counter(
    "leadlog_stale_settlements_total", "Attempts that ended after their lease had been lost."
)
DELIVERIES_MISSING = Gauge(
    "leadlog_deliveries_missing",
    "Deliveries found missing, double, or of no event in the last day.",
    multiprocess_mode="mostrecent",
)
DELIVERIES_UNPROVEN_SECONDS = Gauge(
    "leadlog_deliveries_unproven_seconds",
    "For how long it has not been shown that every event became its deliveries.",
    multiprocess_mode="mostrecent",
)
DELIVERY_LATENESS_SECONDS = Gauge(
    "leadlog_delivery_lateness_seconds",
    "How long ago the oldest delivery was due whose webhook is active and not paused.",
    multiprocess_mode="mostrecent",
)
DELIVERIES_EXPIRED = Counter(
    "leadlog_deliveries_expired_total",
    "Deliveries given up unsent because their events are no longer kept.",
)
LOST_LEASES = Counter("leadlog_lost_leases_total", "Deliveries taken back from a dead dispatcher.")
STREAM_ENTRIES = Counter("leadlog_stream_entries_total", "Events appended to the CRM streams.")
STREAM_LENGTH = Gauge(
    "leadlog_stream_length",
    "Entries of a shard's CRM stream.",
    ["shard"],
    multiprocess_mode="mostrecent",
)
STREAM_REBUILDS = Counter(
    "leadlog_stream_rebuilds_total", "CRM streams that were built anew.", ["damage"]
)
PARTITIONS_DROPPED = Counter("leadlog_partitions_dropped_total", "Partitions past their keep.")
JANITOR_WARNINGS = Counter(
    "leadlog_janitor_warnings_total",
    "What the janitor found amiss: partition.missing, reader.late, transaction.old, count.wrong.",
    ["warning"],
)
READER_LAG_SECONDS = Gauge(
    "leadlog_reader_lag_seconds",
    "How far a reader is behind the newest tick.",
    ["reader"],
    multiprocess_mode="mostrecent",
)


def render_metrics() -> bytes:
    """The Prometheus text of this process, or of all where PROMETHEUS_MULTIPROC_DIR is set."""
    if not _multiprocess():
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # no annotations there
    return generate_latest(registry)


def _multiprocess() -> bool:

    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
