"""The base structs of requests and responses, and field types that several packages use."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, TypeAlias

import msgspec
from msgspec import Meta

from service.errors import Fault

Check: TypeAlias = Callable[[Any], Iterable[Fault]]
"""Yields the faults of a value that the type alone does not detect."""
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

# asyncpg writes datetime.min and datetime.max as -infinity and infinity.
_FIRST_MOMENT = datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC)  # shown as 00:00:00.000
_LAST_MOMENT = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


class ApiStruct(msgspec.Struct, rename="camel", kw_only=True):
    """A struct whose fields are camelCase in JSON."""


class Input(ApiStruct, forbid_unknown_fields=True):
    """A struct that a client sends; unknown fields are faults."""

    checks: ClassVar[Mapping[str, Check]] = {}
    """Checks by field name; the check under "" receives the whole struct."""
    read_only: ClassVar[frozenset[str]] = frozenset()
    """JSON names of fields that only the service sets."""
    may_be_absent: ClassVar[bool] = False
    """Whether an empty body counts as an empty object."""


def check_moment(field: str) -> Check:
    """Make a check that the value of `field` is an ISO 8601 date or time."""

    def check(text: str) -> Iterator[Fault]:
        try:
            parse_moment(text)
        except ValueError:
            message = f"{field} must be an ISO 8601 date or time such as 2026-04-05T15:08:42Z."
            if " " in text:
                message += " In a query string + is written %2B."
            yield Fault(field, "invalid_value", message)

    return check


def parse_moment(text: str) -> datetime:
    """Parse an ISO 8601 date (00:00Z) or time (UTC without a zone). Raises ValueError."""
    moment = datetime.fromisoformat(text.upper())  # RFC 3339 permits t and z
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error
    return min(max(moment, _FIRST_MOMENT), _LAST_MOMENT)
