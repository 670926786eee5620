"""The explanation of a lead's score: its band, and the factors that add up to it."""

import zlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from service.validation.field_types import ApiStruct, Moment

Band = Literal["cold", "warm", "hot"]
WARM_FROM = 30
HOT_FROM = 70


class Factor(msgspec.Struct, frozen=True):
    """The contribution of one feature of a lead, and the reason. A long `value` is cut."""

    feature: str
    value: Any
    contribution: int
    note: str


class LeadScore(ApiStruct):
    """`factors` sum exactly to `score`. Until the first computation: 0, null and no factors."""

    lead_id: str
    score: Annotated[int, Meta(ge=0, le=100)]
    band: Band
    method: Literal["rules"]
    rules_version: str | None
    computed_at: Moment | None
    factors: list[Factor]


def find_band(score: int) -> Band:
    """The band that a score lies in."""
    if score >= HOT_FROM:
        return "hot"
    return "warm" if score >= WARM_FROM else "cold"


_COMMON = (
    b',"free address","disposable address","vp","manager","staff","junior",'
    b'"the minimum is 0"],["limit",104,-4,"the maximum is 100"],["conversationCount",2,6,'
    b'"conversations so far"],["lastIntent","pricing",8,"latest intent"],["status",'
    b'"converted",4,"status of the lead"],"within 30 days","within 90 days",'
    b'"at most 12 for tags","webinar, partner, referral, hot-lead","import","chat","phone"],'
    b'"1 of 4 known","2 of 4 known","name, company, title",6,"3 of 4 known"],'
    b'["customFields.budget","$5k-$10k/mo",8,"budget of about 60,000"],'
    b'["customFields.teamSize","10-25",3,"team of 10 or more"],["title","Head of",12,'
    b'"director"],["title","CEO",16,"executive"],["tags","enterprise, trial, inbound",10,'
    b'"tags with points"],["completeness","name, company, title, phone",8,"4 of 4 known"],'
    b'["email","company.com",6,"company address"],["lastActiveAt","within 7 days",6,'
    b'"recently active"],["source","form",3,"source of the lead"]]'
)
"""The preset dictionary of zlib. It must never change: stored factors need it to be decoded."""


def encode_factors(factors: list[Factor]) -> bytes:
    """Compresses factors to a sixth of their JSON, which would be half of a lead's row."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS, zdict=_COMMON)
    rows = msgspec.json.encode([msgspec.structs.astuple(factor) for factor in factors])
    return compressor.compress(rows) + compressor.flush()


def decode_factors(stored: bytes) -> list[Factor]:
    """Decodes factors from the database; nothing is stored before the first score."""
    if not stored:
        return []
    text = zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=_COMMON).decompress(stored)
    return [Factor(*row) for row in msgspec.json.decode(text)]
