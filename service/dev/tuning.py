"""PostgreSQL's settings for the machine that the embedded server finds itself on."""

from pathlib import Path

import psutil

MIB = 1024 * 1024
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def measure_memory() -> int:
    """Bytes that we may use: the machine's, or less where a container is limited."""
    total = psutil.virtual_memory().total
    try:
        return min(total, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or "max"
        return total


def choose_settings(memory_bytes: int, *, durable: bool) -> dict[str, str]:
    """Settings by name; `durable=False` gives up safety against power cuts, for tests.

    Even so, what was committed survives the death of the server.
    """

    def share(part: int, least_mib: int, most_mib: int) -> str:
        return f"{min(max(memory_bytes // part // MIB, least_mib), most_mib)}MB"

    return {
        "listen_addresses": "",
        "unix_socket_permissions": "0600",
        "max_connections": "100",
        # An eighth: the machine is not the database's alone.
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
        # Solid-state disks, and small statements that never repay compiling.
        "random_page_cost": "1.1",
        "jit": "off",
        # Queue-like tables and a log that is only appended to: clean early and often.
        "autovacuum_naptime": "15s",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.05",
        "autovacuum_vacuum_insert_scale_factor": "0.1",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Neither statements nor values: they are people's data.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_checkpoints": "off",
        "cluster_name": "leadlog",
    }
