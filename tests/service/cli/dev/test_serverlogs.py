"""The log line that tells why a server did not start."""

from pathlib import Path

import pytest

from service.cli.dev.server_logs import NO_OUTPUT, choose_reason, read_reason, was_killed

STAMP = "2026-11-30 16:13:36.123 UTC [77]"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            [
                f"{STAMP} LOG:  starting PostgreSQL 18.1",
                f"{STAMP} FATAL:  could not write lock file: No space left on device",
                f"{STAMP} FATAL:  the database system is starting up",
                f"{STAMP} LOG:  database system is shut down",
                f"{STAMP} WARNING:  you should not see this",
            ],
            "could not write lock file: No space left on device",
        ),
        (
            [
                f"{STAMP} FATAL:  the database system is starting up",
                f"{STAMP} PANIC:  could not locate a valid checkpoint record at 0/1",
                f"{STAMP} LOG:  startup process (PID 78) was terminated by signal 6: Aborted",
            ],
            "could not locate a valid checkpoint record at 0/1",
        ),
        (
            [
                "postgres: could not find …",
                'in the directory "/x",',
                "but could not open it: No such file",
            ],
            'postgres: could not find … in the directory "/x", but could not open it: No such file',
        ),
        (
            [
                "9:M 30 Nov 2026 16:13:36.123 # Can't open the append-only file: Permission denied",
                "9:M 30 Nov 2026 16:13:36.124 # WARNING Memory overcommit must be enabled!",
            ],
            "Can't open the append-only file: Permission denied",
        ),
        (["9:M 30 Nov 2026 16:13:36.124 # WARNING Memory overcommit"], "WARNING Memory overcommit"),
        (
            [
                "The files belonging to this database system will be owned by user x.",
                "creating configuration files ... ok",
                "running bootstrap script ... Killed",
                "child process exited with exit code 137",
                'initdb: removing contents of data directory "/x"',
            ],
            "child process exited with exit code 137",
        ),
        (["creating ... ok", "initdb: error: no room"], "initdb: error: no room"),
        (["word " * 100] * 3, f"{'word ' * 59}word…"),
        (["", "  "], NO_OUTPUT),
    ],
)
def test_the_reason_is_the_most_severe_line(lines: list[str], reason: str) -> None:
    assert choose_reason(lines) == reason


def test_the_output_of_an_earlier_start_is_ignored(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    earlier = f"{STAMP} PANIC:  of yesterday\n"
    log.write_text(f"{earlier}{STAMP} FATAL:  of today\n")
    assert read_reason(log, len(earlier)) == "of today"
    assert read_reason(log, 10**6) == "of yesterday"  # the log was renamed after the start
    assert "cannot be read" in read_reason(tmp_path / "none")


@pytest.mark.parametrize(
    ("line", "is_kill"),
    [
        (f"{STAMP} LOG:  startup process (PID 78) was terminated by signal 9: Killed", True),
        ("child process was terminated by signal 9: Killed", True),
        ("child process exited with exit code 137", True),
        (f"{STAMP} FATAL:  terminating connection due to administrator command", True),
        (f"{STAMP} LOG:  startup process (PID 78) was terminated by signal 6: Aborted", False),
        ("child process exited with exit code 1", False),
        (f"{STAMP} FATAL:  could not write lock file: No space left on device", False),
    ],
)
def test_a_kill_is_distinguished_from_a_failure(tmp_path: Path, line: str, is_kill: bool) -> None:
    log = tmp_path / "postgres.log"
    earlier = "child process exited with exit code 137\n"
    log.write_text(f"{earlier}{line}\n{STAMP} PANIC:  cannot abort transaction 1\n")
    assert was_killed(log, len(earlier)) is is_kill
    assert not was_killed(tmp_path / "none")
