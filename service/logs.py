"""Structured logs: one wide JSON line per thing done, named noun.past.

Keys, secrets and bodies are never passed to a logger; `mask_keys` is the net under that rule.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import structlog

from service.settings import Settings

_SECRET = re.compile(r"\b(sk_(?:live|test)_|whsec_)[A-Za-z0-9+/=_-]+")


def set_up_logging(settings: Settings) -> None:
    """Sends every log line, those of libraries too, to standard output in the chosen format."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
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
        factory = structlog.BytesLoggerFactory(sys.stdout.buffer)
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
