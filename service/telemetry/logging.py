"""Structured logs: one wide JSON line per completed action, with an event named noun.past.

Keys, secrets and bodies are never passed to a logger; `mask_secrets` is a second line of defence.
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

_SECRET = re.compile(rb"\b(sk_(?:live|test)_|whsec_)[A-Za-z0-9+/=_-]+")
FLUSH_AFTER_S = 0.01


class LineOutput:
    """Standard output that writes the lines of ten milliseconds at once.

    A write per line takes as long as encoding the line. SIGKILL loses the lines of that time.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._lines: list[bytes] = []
        self._is_scheduled = False
        atexit.register(self.send)

    def write(self, line: bytes) -> None:
        """Add a line, with its line break."""
        self._lines.append(line)

    def flush(self) -> None:
        """Send the lines after FLUSH_AFTER_S, or at once if no event loop is running."""
        if self._is_scheduled:
            return
        try:
            asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self.send)
        except RuntimeError:
            self.send()
        else:
            self._is_scheduled = True

    def send(self) -> None:
        """Write all lines; they are dropped if the output is closed."""
        self._is_scheduled = False
        lines, self._lines = self._lines, []
        with suppress(OSError, ValueError):  # ValueError: the file object is closed
            self._raw.write(b"".join(lines))
            self._raw.flush()


_info_output: LineOutput | None = None
"""The output of `write_info`; None unless the format is JSON and the level info."""


def set_up_logging(settings: Settings) -> None:
    """Send all log lines, of libraries too, to standard output in the chosen format."""
    global _info_output  # noqa: PLW0603  # global, as is the configuration of structlog
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    _info_output = None
    processors: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
    ]
    factory: Any
    if settings.log_format == "json":
        processors += [add_time, structlog.processors.JSONRenderer(serializer=encode_line)]
        output = LineOutput(sys.stdout.buffer)
        factory = structlog.BytesLoggerFactory(cast(BinaryIO, output))
        _info_output = output if level == logging.INFO else None
    else:
        processors += [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False, key="timestamp"),
            structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty()),
            _mask_console_line,
        ]
        factory = structlog.PrintLoggerFactory(sys.stdout)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=max(level, logging.WARNING), force=True)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines have the field `part=name`."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(part=name))


def write_info(line: msgspec.Struct) -> bool:
    """Write a complete line of level info, such as that of each request.

    It bypasses structlog's processors: 2.8 µs instead of 7.0 µs per line, with the same encoder.
    Returns False and writes nothing unless the format is JSON and the level info.
    """
    if _info_output is None:
        return False
    _info_output.write(encode_line(line) + b"\n")
    _info_output.flush()
    return True


def encode_line(line: Any, **_: Any) -> bytes:
    """Encode a line, a struct or a dict, as JSON without secrets."""
    return mask_secrets(msgspec.json.encode(line, enc_hook=str))


def mask_secrets(text: bytes) -> bytes:
    """Remove the API keys and webhook secrets of an encoded line, except for their prefix."""
    if b"sk_" in text or b"whsec_" in text:
        return _SECRET.sub("\\1…".encode(), text)
    return text


def add_time(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add `at` as a datetime, which msgspec encodes faster than `isoformat`."""
    line["at"] = datetime.now(UTC)
    return line


def _mask_console_line(_: object, __: str, line: Any) -> str:
    text = cast(str, line)  # as ConsoleRenderer returns it
    return mask_secrets(text.encode("utf-8", "replace")).decode()


class _ToStructlog(logging.Handler):
    """Passes log records of libraries (uvicorn, arq, asyncio) to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(part=record.name)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info)
