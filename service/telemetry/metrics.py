"""All metrics, with their units in the names."""

import os
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    values,
)

from service.telemetry.metric_files import ReservedFile

# Before the first metric, so that all metrics are stored in such files.
vars(values)["MmapedDict"] = ReservedFile

REQUESTS = Counter("leadlog_requests_total", "Requests served.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "leadlog_request_seconds",
    "Time from the head of a request to the last byte of its response.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
REQUESTS_SHED = Counter(
    "leadlog_requests_shed_total",
    "Requests refused with 503 because the process is overloaded.",
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
    "leadlog_idempotent_replays_total", "Stored responses sent again for their Idempotency-Key."
)
EVENTS_READ = Counter("leadlog_events_read_total", "Events applied by a reader.", ["reader"])
WINDOW_LAG_SECONDS = Histogram(
    "leadlog_window_lag_seconds",
    "Age of a window when a reader has applied it.",
    ["reader"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300),
)
TICKS = Counter("leadlog_ticks_total", "Ticks: windows that were closed.")
# Not "job", the name of a label that Prometheus adds.
JOB_FAILURES = Counter("leadlog_job_failures_total", "Runs of a job that raised.", ["job_name"])
JOB_STARTS = Counter("leadlog_job_starts_total", "Runs of a job that started.", ["job_name", "by"])
LEADS_SCORED = Counter("leadlog_leads_scored_total", "Leads whose score was stored.")
DELIVERY_ATTEMPTS = Counter(
    "leadlog_delivery_attempts_total", "Webhook attempts by outcome.", ["outcome"]
)
DELIVERY_SECONDS = Histogram(
    "leadlog_delivery_seconds",
    "Duration of a webhook attempt.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
)
STALE_SETTLEMENTS = Counter(
    "leadlog_stale_settlements_total", "Attempts that finished after their lease was lost."
)
DELIVERIES_MISSING = Gauge(
    "leadlog_deliveries_missing",
    "Deliveries of the last day that are missing, duplicate or without an event.",
    multiprocess_mode="mostrecent",
)
DELIVERIES_UNPROVEN_SECONDS = Gauge(
    "leadlog_deliveries_unproven_seconds",
    "Time since reconciliation last proved that every event has its deliveries.",
    multiprocess_mode="mostrecent",
)
DELIVERY_LATENESS_SECONDS = Gauge(
    "leadlog_delivery_lateness_seconds",
    "Time since the oldest waiting delivery of an active webhook was due.",
    multiprocess_mode="mostrecent",
)
DELIVERIES_EXPIRED = Counter(
    "leadlog_deliveries_expired_total",
    "Deliveries dropped unsent because their events are no longer kept.",
)
LOST_LEASES = Counter(
    "leadlog_lost_leases_total",
    "Leases of deliveries that expired: the dispatcher died, stalled, or could not store a result.",
)
STREAM_ENTRIES = Counter("leadlog_stream_entries_total", "Events appended to the CRM streams.")
STREAM_LENGTH = Gauge(
    "leadlog_stream_length",
    "Entries in the CRM stream of a shard.",
    ["shard"],
    multiprocess_mode="mostrecent",
)
STREAM_BYTES = Gauge(
    "leadlog_stream_bytes",
    "Bytes of the entries in the CRM stream of a shard.",
    ["shard"],
    multiprocess_mode="mostrecent",
)
STREAM_FILL_RATIO = Gauge(
    "leadlog_stream_fill_ratio",
    "Part of its bound that a shard's CRM stream uses; at 1 nothing is appended.",
    ["shard"],
    multiprocess_mode="mostrecent",
)
STREAM_REBUILDS = Counter(
    "leadlog_stream_rebuilds_total", "CRM streams that were rebuilt.", ["damage"]
)
PARTITIONS_DROPPED = Counter(
    "leadlog_partitions_dropped_total", "Partitions dropped after their retention."
)
_WARNINGS = ("partition.missing", "reader.late", "transaction.old", "clock.wrong", "count.wrong")
JANITOR_WARNINGS = Counter(
    "leadlog_janitor_warnings_total",
    f"Problems found by the janitor: {', '.join(_WARNINGS)}.",
    ["warning"],
)
for _warning in _WARNINGS:
    JANITOR_WARNINGS.labels(_warning)  # exported as 0, so that alerts see the first increase
READER_LAG_SECONDS = Gauge(
    "leadlog_reader_lag_seconds",
    "Age of the oldest event that a reader has not applied; read from the database by the API.",
    ["reader"],
    multiprocess_mode="mostrecent",
)
WORKERS_ALIVE = Gauge(
    "leadlog_workers_alive",
    "Worker processes that run a job; read from the database by the API, 0 elsewhere.",
    multiprocess_mode="mostrecent",
)
CLOCK_SKEW_SECONDS = Gauge(
    "leadlog_clock_skew_seconds",
    "How far the clock of the database is ahead of the clock of the process.",
    multiprocess_mode="mostrecent",
)


def render_metrics() -> bytes:
    """Render the metrics as Prometheus text, of all processes in multiprocess mode."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder or not any(Path(folder).glob("*.db")):  # moved away, or emptied
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
