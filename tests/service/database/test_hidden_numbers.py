"""Ids and cursors tell no tenant how much all tenants do, and are of no use to another tenant."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.database.connect import Pool
from service.database.hidden_numbers import HiddenNumbers, NumberCipher
from tests.harness.api_client import Api
from tests.harness.factories import Tenant
from tests.service.webhooks.test_webhooks import make

CIPHER = NumberCipher(bytes(32))
TENANTS = st.integers(1, 2**62)
NUMBERS = st.integers(0, 2**63 - 1)


@given(TENANTS, st.booleans(), NUMBERS)
def test_a_hidden_number_is_found_again_by_its_tenant_and_mode_only(
    tenant_id: int, live: bool, number: int
) -> None:
    text = CIPHER.hide(tenant_id, live, number)
    assert len(text) == 32
    assert CIPHER.find(tenant_id, live, text) == number
    assert CIPHER.find(tenant_id, not live, text) is None
    assert CIPHER.find(tenant_id + 1, live, text) is None
    assert NumberCipher(bytes([1] * 32)).find(tenant_id, live, text) is None
    assert CIPHER.find(tenant_id, live, text.upper().replace("0", "0 ")) is None


@given(st.text(max_size=40))
def test_no_other_text_is_a_number(text: str) -> None:
    assert CIPHER.find(1, True, text) is None


def test_neighbouring_numbers_have_nothing_in_common() -> None:
    hidden = [int(CIPHER.hide(1, True, number), 16) for number in range(2000)]
    differing = [(a ^ b).bit_count() for a, b in pairwise(hidden)]
    assert 62 < sum(differing) / len(differing) < 66  # of 128 bits, half differ
    assert min(differing) > 30


@given(st.binary(max_size=70))
def test_a_sealed_text_has_the_same_length_whatever_it_says(plain: bytes) -> None:
    sealed = CIPHER.seal(plain)
    assert len(sealed) == len(CIPHER.seal(b""))
    assert CIPHER.seal(plain) == sealed
    opened = CIPHER.open(sealed)
    assert opened is not None
    assert opened.startswith(plain)
    assert not opened[len(plain) :].strip(b" ")
    assert CIPHER.open(sealed[:-1]) is None
    assert CIPHER.open(bytes([sealed[0] ^ 1]) + sealed[1:]) is None
    assert CIPHER.open(plain) is None


async def test_each_database_has_a_key_of_its_own_which_never_changes(pool: Pool) -> None:
    keys = await pool.fetch("SELECT key FROM number_key")
    assert [len(row["key"]) for row in keys] == [32]
    first, second = HiddenNumbers(pool), HiddenNumbers(pool)
    hidden = (await first.open()).hide(1, True, 5)
    assert (await second.open()).find(1, True, hidden) == 5
    assert await first.open() is await first.open()


NUMBERED = {"txid", "tick", "shard", "tenantId", "number"}


def find_numbers(value: Any, path: str = "") -> list[str]:
    """The paths of all whole numbers above 9 in a response, and of names that count for all."""
    if isinstance(value, dict):
        found = [f"{path}.{name}" for name in value if name in NUMBERED]
        return found + [each for name, part in value.items() for each in find_numbers(part, name)]
    if isinstance(value, list):
        return [each for part in value for each in find_numbers(part, path)]
    is_number = isinstance(value, int) and not isinstance(value, bool) and value > 9
    return [path] if is_number else []


@pytest.fixture
async def busy(pool: Pool) -> None:
    """Others have done much: all sequences are far from their beginning."""
    for sequence in ("outbox_id_seq", "delivery_id_seq", "delivery_token_seq"):
        await pool.execute("SELECT setval($1, nextval($1) + 7000000)", sequence)


@pytest.mark.usefixtures("busy")
async def test_no_response_shows_a_number_that_counts_for_all_tenants(api: Api) -> None:
    endpoint = f"/v1/webhooks/{await make(api)}"
    lead = await api.post("/v1/leads", {"email": "numbers@example.com"})
    started = await api.post(f"{endpoint}/test", {})
    await api.post(f"{endpoint}/test", {})
    delivery = f"{endpoint}/deliveries/{started.json['deliveryId']}"
    paths = [
        lead.headers["location"], "/v1/leads?limit=1", "/v1/leads/search?q=numbers", "/v1/events",
        endpoint, "/v1/webhooks", f"{endpoint}/deliveries?limit=1", delivery, "/v1/api-keys",
        f"{endpoint}/replays",
    ]  # fmt: skip
    for response in [lead, started, *[await api.get(path) for path in paths]]:
        assert response.status < 300
        assert set(find_numbers(response.json)) <= {"limit", "total", "score"}, response.json
        assert "7000" not in json.dumps(response.json)
        assert "7000" not in json.dumps(response.headers | {"date": ""})


async def test_two_ids_of_neighbouring_deliveries_do_not_show_it(api: Api) -> None:
    path = f"/v1/webhooks/{await make(api)}/test"
    ids = [(await api.post(path, {})).json["deliveryId"] for _ in range(20)]
    assert len({each[:8] for each in ids}) > 10
    assert ids != sorted(ids)


async def test_the_ids_of_a_tenant_are_404_for_another_with_the_same_webhook_id(
    api: Api, other: Tenant, pool: Pool
) -> None:
    """Even if the other tenant had a delivery of the same number."""
    path = f"/v1/webhooks/{await make(api)}"
    mine = (await api.post(f"{path}/test", {})).json["deliveryId"]
    stranger = api.of(other)
    theirs = f"/v1/webhooks/{await make(stranger)}"
    cipher = await HiddenNumbers(pool).open()
    number = cipher.find(api.tenant.id, True, mine.removeprefix("dlv_"))
    assert number is not None
    own = f"dlv_{cipher.hide(other.id, True, number)}"
    for caller, where, delivery_id in (
        (stranger, path, mine), (stranger, theirs, mine), (stranger, theirs, own),
        (api.as_(live=False), path, mine), (api, path, f"dlv_{number}"), (api, path, own),
    ):  # fmt: skip
        for method, action in (("GET", ""), ("POST", "/resend")):
            response = await caller.call(method, f"{where}/deliveries/{delivery_id}{action}")
            assert response.status == 404
