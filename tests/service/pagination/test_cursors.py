"""Cursors: decoding inverts encoding, and a forged cursor is refused with 400."""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.database.connect import Pool
from service.errors import InvalidRequest
from service.pagination.cursor import ID, POSITION, SMALLINT, TIME, CursorCodec
from tests.harness.api_client import Api
from tests.harness.factories import Tenant, make_lead
from tests.harness.forging import forge, pack, unpack

CODEC = CursorCodec(TIME, SMALLINT, POSITION, ID)
MOMENT = datetime(2026, 11, 30, 12, 0, 0, 123_456, tzinfo=UTC)
GOOD = CODEC.encode("list", MOMENT, 7, 2**40, "lead_1")
# Forged cursors that former codecs accepted and that could cause a 500.
OLD_FORGERIES = [
    "MDAwMS0wMS0wMVQwMDowMDowMCsyMzo1OSAx", "OTk5OS0xMi0zMVQyMzo1OTo1OS0yMzo1OSAx",
    pack(b"1.4611686018427387904.0"), pack(b"99999.1.1"),
]  # fmt: skip
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=120),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(
    st.integers(-62_135_500_000, 253_402_000_000).map(lambda s: datetime.fromtimestamp(s, UTC)),
    st.integers(-(2**15), 2**15 - 1),
    st.integers(0, 2**62),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=100),
)
@settings(derandomize=True)
def test_an_encoded_cursor_decodes_to_the_same_values(
    at: datetime, small: int, position: int, text: str
) -> None:
    cursor = CODEC.encode(["any", 1], at, small, position, text)
    assert CODEC.decode(["any", 1], cursor) == (at, small, position, text)
    with pytest.raises(InvalidRequest, match="other filters"):
        CODEC.decode(["other", 1], cursor)


@given(st.lists(JSON, max_size=5) | JSON)
@settings(derandomize=True, max_examples=500)
def test_other_values_with_a_valid_digest_are_refused_or_within_bounds(values: Any) -> None:
    check_forged(pack(unpack(GOOD)[:8] + msgspec.json.encode(values)))


@given(st.randoms(use_true_random=False))
@settings(derandomize=True, max_examples=500)
def test_a_forged_cursor_is_refused_or_within_bounds(rng: random.Random) -> None:
    check_forged(forge(rng, GOOD))


def check_forged(cursor: str) -> None:
    with suppress(InvalidRequest):
        at, small, position, text = CODEC.decode("list", cursor)
        assert datetime(1, 1, 2, tzinfo=UTC) <= at <= datetime(9999, 12, 30, tzinfo=UTC)
        assert abs(small) <= 2**15
        assert 0 <= position <= 2**62
        assert "\0" not in text


@pytest.fixture(scope="module")
async def lists(api: Api, pool: Pool, tenant: Tenant) -> list[tuple[str, str, str]]:
    """The path of each list with cursors, the name of the parameter, and a real cursor."""
    for _ in range(4):
        await make_lead(pool, tenant.id, company="Acme")
    hook = {"url": "https://8.8.8.8/hook", "events": ["lead.created"]}
    webhook = (await api.post("/v1/webhooks", hook)).json["id"]
    for _ in range(3):
        assert (await api.post(f"/v1/webhooks/{webhook}/test", {})).status == 202
    paths = [
        "/v1/leads?limit=1", "/v1/leads?limit=1&sortBy=updatedAt&sortOrder=asc",
        "/v1/leads?limit=1&sortBy=score", "/v1/leads?limit=1&sortBy=score&sortOrder=asc&tag=x",
        "/v1/leads/search?limit=1&q=example", f"/v1/webhooks/{webhook}/deliveries?limit=1",
        "/v1/events?limit=1",
    ]  # fmt: skip
    found = []
    for path in paths:
        if path.endswith("tag=x"):
            await pool.execute("UPDATE lead SET tags = '{x}' WHERE tenant_id = $1", tenant.id)
        response = await api.get(path)
        cursor = response.json["pagination"]["nextCursor"]
        found.append((path, "after" if "/events" in path else "cursor", cursor))
    return found


async def test_a_real_cursor_is_accepted(api: Api, lists: list[tuple[str, str, str]]) -> None:
    for path, name, cursor in lists:
        assert (await api.get(f"{path}&{name}={cursor}")).status == 200, path


async def test_no_forged_cursor_is_a_500_on_any_route(
    api: Api, lists: list[tuple[str, str, str]]
) -> None:
    rng = random.Random(9)
    for path, name, cursor in lists:
        forged = [*OLD_FORGERIES, *(forge(rng, cursor) for _ in range(120))]
        for each in forged:
            await assert_refused(api.get, path, name, each)


async def assert_refused(
    get: Callable[..., Awaitable[Any]], path: str, name: str, cursor: str
) -> None:
    pairs = [pair.split("=") for pair in path.partition("?")[2].split("&")]
    response = await get(path.partition("?")[0], **dict(pairs), **{name: cursor})
    # A forged value within bounds is accepted: it is a position in the list like any other.
    assert response.status in {200, 400}, (path, cursor, response.body)
    if response.status == 400:
        assert [fault["field"] for fault in response.error["details"]] == [name]
        assert len(response.body) < 1000
