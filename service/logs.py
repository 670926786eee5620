"""Structured logs: one wide JSON line per thing done, named noun.past.

Keys, secrets and bodies are never passed to a logger; `mask_keys` is the net under that rule.
"""

import asyncio
import atexit
import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

import msgspec
import structlog

from service.settings import Settings

_SECRET = re.compile(r"\b(sk_(?:live|test)_|whsec_)[A-Za-z0-9+/=_-]+")
_SECRET_BYTES = re.compile(_SECRET.pattern.encode())
GATHER_S = 0.01


class LineOutput:
    """Standard output, which takes the lines of ten milliseconds in one write.

    A write for each line was as dear as making it. A kill -9 costs the lines of these milliseconds.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._unsent: list[bytes] = []
        self._is_due = False
        atexit.register(self.send)

    def write(self, line: bytes) -> None:
        """Takes a line, with its end."""
        self._unsent.append(line)

    def flush(self) -> None:
        """Sends in a moment; at once where no event loop runs."""
        if self._is_due:
            return
        try:
            asyncio.get_running_loop().call_later(GATHER_S, self.send)
        except RuntimeError:
            self.send()
        else:
            self._is_due = True

    def send(self) -> None:
        """Sends what there is. Nobody reads any more: then nobody misses it."""
        self._is_due = False
        lines, self._unsent = self._unsent, []
        with suppress(OSError, ValueError):  # the latter: it is closed
            self._raw.write(b"".join(lines))
            self._raw.flush()


_plain: LineOutput | None = None
"""Where lines of level info go as JSON; None: they go through structlog, or nowhere."""


def set_up_logging(settings: Settings) -> None:
    """Sends every log line, those of libraries too, to standard output in the chosen format."""
    global _plain  # noqa: PLW0603  # as structlog keeps what it is told below
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    _plain = None
    shared: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        add_time,
        structlog.processors.format_exc_info,
        mask_keys,
    ]
    render: list[structlog.types.Processor]
    factory: Any
    if settings.log_format == "json":
        render = [structlog.processors.JSONRenderer(serializer=_encode)]
        output = LineOutput(sys.stdout.buffer)
        factory = structlog.BytesLoggerFactory(cast(BinaryIO, output))
        _plain = output if level == logging.INFO else None
    else:
        render = [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False, key="timestamp"),
            _drop_time,
            structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty()),
        ]
        factory = structlog.PrintLoggerFactory(sys.stdout)
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=max(level, logging.WARNING), force=True)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `part=name`."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(part=name))


def write_info(line: msgspec.Struct) -> bool:
    """Writes a line that comes with every request, in a fifth of structlog's time.

    It has all its fields. False if the settings ask for another way.
    """
    if _plain is None:
        return False
    text = msgspec.json.encode(line)
    if b"sk_" in text or b"whsec_" in text:
        text = _SECRET_BYTES.sub("\\1…".encode(), text)
    _plain.write(text + b"\n")
    _plain.flush()
    return True


def add_time(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds `at`; a datetime, which the encoder prints faster than we could."""
    line["at"] = datetime.now(UTC)
    return line


def mask_keys(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cuts API keys and webhook secrets out of every string of a line."""
    for field, value in line.items():
        if isinstance(value, str) and ("sk_" in value or "whsec_" in value):
            line[field] = _SECRET.sub(r"\1…", value)
    return line


def _drop_time(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """On a terminal the time of day stands in front; `at` would say it twice."""
    del line["at"]
    return line


def _encode(line: Any, **_: Any) -> bytes:
    return msgspec.json.encode(line, enc_hook=str)


class _ToStructlog(logging.Handler):
    """Lets the lines of uvicorn, arq and asyncio come out like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(part=record.name)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info)
