"""A lead's score as the API explains it: the factors that add up to it, and its band."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from service.models import Moment, Wire

Band = Literal["cold", "warm", "hot"]
WARM_FROM = 30
HOT_FROM = 70


class Factor(msgspec.Struct, frozen=True):
    """What one feature of a lead gave or took, and why. `value` is the lead's, cut if long."""

    feature: str
    value: Any
    contribution: int
    note: str


class LeadScore(Wire):
    """`factors` sum exactly to `score`. Until the first computation: 0, null and no factors."""

    lead_id: str
    score: Annotated[int, Meta(ge=0, le=100)]
    band: Band
    method: Literal["rules"]
    rules_version: str | None
    computed_at: Moment | None
    factors: list[Factor]


def find_band(score: int) -> Band:
    """The score in a word."""
    if score >= HOT_FROM:
        return "hot"
    return "warm" if score >= WARM_FROM else "cold"


def encode_factors(factors: list[Factor]) -> str:
    """The factors as the table keeps them: JSON without the names of fields, half as long."""
    return msgspec.json.encode([msgspec.structs.astuple(factor) for factor in factors]).decode()


def decode_factors(text: str) -> list[Factor]:
    """The factors that a table row keeps."""
    return [Factor(*row) for row in msgspec.json.decode(text)]
