"""Finds the log line with the reason why a server did not start; often not the last line."""

import re
from pathlib import Path

NO_OUTPUT = "it printed nothing"
_TAIL_BYTES = 64 * 1024
_MAX_REASON = 300
_POSTGRES = re.compile(r"[\d-]+ [\d:.]+ \S+ \[\d+\] +(?P<level>[A-Z]+\d?): +(?P<text>.*)")
_VALKEY = re.compile(r"\d+:[A-Z] \d+ \w+ \d+ [\d:.]+ (?P<level>[.*#-]) (?P<text>.*)")
# PostgreSQL's errors for clients that connect too early, logged as FATAL.
_TOO_EARLY = re.compile(r"the database system is (?!shut down)")
_RANKS = {"PANIC": 4, "FATAL": 3, "ERROR": 3, "#": 3, "*": 1, "-": 0, ".": 0, "LOG": 0}
_CHILD_FAILED = re.compile(r"initdb: error: .*|child process (exited|was terminated) .*")
OUTSIDE_SIGNALS = frozenset({1, 2, 3, 9, 15})
"""Signals from outside; others, such as SIGABRT after a PANIC, come from the server itself."""
_KILLED = re.compile(
    rf"terminated by signal ({'|'.join(map(str, OUTSIDE_SIGNALS))})\b"
    rf"|exited with exit code ({'|'.join(str(128 + each) for each in OUTSIDE_SIGNALS)})\b"
    r"|terminating connection due to administrator command|caught signal"
    r"|received (smart|fast|immediate) shutdown request"
    r"|Received SIG(TERM|INT)|User requested shutdown"
)
"""Messages of servers and of initdb about a signal from outside."""
_PLAIN_RANK = 2  # printed before the log starts, such as `postgres: could not find …`


def read_reason(log: Path, since: int = 0) -> str:
    """The log line with the reason; `since`: the length of the log before the start."""
    try:
        text = _read_tail(log, since)
    except OSError as error:
        return f"its log cannot be read ({error.strerror})"
    return choose_reason(text.splitlines())


def was_killed(log: Path, since: int = 0) -> bool:
    """Whether the log, from position `since` on, shows a process ended by a signal from outside."""
    try:
        return _KILLED.search(_read_tail(log, since)) is not None
    except OSError:
        return False


def _read_tail(log: Path, since: int) -> str:
    with log.open("rb") as file:
        size = file.seek(0, 2)
        begin = since if since <= size else 0  # the log was renamed in between
        file.seek(max(begin, size - _TAIL_BYTES))
        return file.read().decode(errors="replace")


def choose_reason(lines: list[str]) -> str:
    """The first of the most severe lines: its consequences are logged after it."""
    ranked: list[tuple[int, str]] = []
    for line in filter(None, map(str.strip, lines)):
        rank, text = _rank(line)
        if rank == _PLAIN_RANK and ranked and ranked[-1][0] == _PLAIN_RANK:  # it continues
            text = f"{ranked.pop()[1]} {text}"
        ranked.append((rank, text))
    if not ranked:
        return NO_OUTPUT
    reason = max(ranked, key=lambda each: each[0])[1].rstrip(".")
    return reason if len(reason) <= _MAX_REASON else f"{reason[: _MAX_REASON - 1]}…"


def _rank(line: str) -> tuple[int, str]:
    match = _POSTGRES.fullmatch(line) or _VALKEY.fullmatch(line)
    if match is None:
        return (3 if _CHILD_FAILED.fullmatch(line) else _PLAIN_RANK), line
    text = match["text"]
    if text.startswith("WARNING") or _TOO_EARLY.match(text):
        return 0, text
    return _RANKS.get(match["level"], 0), text
