"""Settings of the embedded PostgreSQL, chosen by the memory of the machine."""

from pathlib import Path

import psutil

MIB = 1024 * 1024
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def measure_memory() -> int:
    """The usable memory in bytes: that of the machine, or the limit of the container."""
    total = psutil.virtual_memory().total
    try:
        return min(total, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or "max"
        return total


def choose_settings(memory_bytes: int, *, durable: bool) -> dict[str, str]:
    """Settings by name. `durable=False`, for tests, is not safe against power cuts.

    Committed data still survive a crash of the server.
    """

    def share(part: int, min_mib: int, max_mib: int) -> str:
        return f"{min(max(memory_bytes // part // MIB, min_mib), max_mib)}MB"

    return {
        "listen_addresses": "",
        "unix_socket_permissions": "0600",
        "max_connections": "100",
        # An eighth: other programs run on the machine as well.
        "shared_buffers": share(8, 64, 2048) if durable else "128MB",
        "effective_cache_size": share(2, 256, 65536),
        "maintenance_work_mem": share(32, 64, 512),
        "work_mem": "8MB",
        "synchronous_commit": "on",
        "fsync": "on" if durable else "off",
        "full_page_writes": "on" if durable else "off",
        "min_wal_size": "256MB",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        # For solid-state disks, and for small statements, which JIT compilation makes slower.
        "random_page_cost": "1.1",
        "jit": "off",
        # For queue-like tables and an append-only log: vacuum early and often.
        "autovacuum_naptime": "15s",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.05",
        "autovacuum_vacuum_insert_scale_factor": "0.1",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Statements and values are not logged: they contain personal data.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_checkpoints": "off",
        "cluster_name": "leadlog",
    }
