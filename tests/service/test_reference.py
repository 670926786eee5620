"""The requests of the reference, replayed in order: a client written for it works unchanged."""

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.app import API
from service.database.connect import Pool
from tests.harness.api_client import Api, ApiResponse
from tests.harness.factories import Tenant, make_lead, make_tenant
from tests.service.reference import SOURCE, load_exchanges, parse_reference

REFERENCE = load_exchanges()
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ROUTES = {f"{op.method} {op.path}" for op in API}
OTHERS = 47
"""The list of the reference has 48 leads and shows only the first."""

Send = Callable[[Api, str], Awaitable[ApiResponse]]


async def send_by_client(api: Api, curl: str) -> ApiResponse:
    """Parses a command as curl would, and sends its request."""
    words = iter(shlex.split(curl.replace("\\\n", ""))[1:])
    method, url, body, headers = "", "", None, {}
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(words)
        else:
            url = word
    return await api.with_key(None).call(
        method or "GET", url.removeprefix(api.url), body, headers=headers
    )


async def send_by_shell(_: Api, curl: str) -> ApiResponse:
    """Runs a command in a shell."""
    command = f"curl() {{ command curl -sS -w '\\n%{{http_code}}' \"$@\"; }}\n{curl}"
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", command, stdout=asyncio.subprocess.PIPE
    )
    body, status = (await process.communicate())[0].rsplit(b"\n", 1)
    return ApiResponse(int(status), {}, body)


@dataclass(frozen=True)
class Replay:
    """A tenant with the leads of the reference, and a function that sends its commands."""

    api: Api
    send: Send

    async def run(self, name: str, old_id: str = "", new_id: str = "") -> ApiResponse:
        key = self.api.key
        assert key is not None
        curl = REFERENCE[name].make_curl(self.api.url, key)
        return await self.send(self.api, curl.replace(old_id, new_id) if old_id else curl)


@pytest.fixture(params=[send_by_client, send_by_shell], ids=["client", "shell"])
async def replay(request: pytest.FixtureRequest, api: Api, pool: Pool) -> Replay:
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    await seed_leads(pool, tenant)
    return Replay(api.of(tenant), request.param)


async def seed_leads(pool: Pool, tenant: Tenant) -> None:
    """Creates the lead of the examples, and others that the filtered list returns after it."""
    known = REFERENCE["get"].answer
    row = {re.sub("([A-Z])", lambda m: f"_{m[1].lower()}", name): v for name, v in known.items()}
    for name in ("first_seen_at", "last_active_at", "created_at", "updated_at"):
        row[name] = datetime.fromisoformat(row[name])
    await make_lead(pool, tenant.id, **row)
    for n in range(OTHERS):
        times = dict.fromkeys(
            ("first_seen_at", "last_active_at", "created_at", "updated_at"),
            row["created_at"] - timedelta(days=n),
        )
        await make_lead(pool, tenant.id, status="qualified", score=n, name=f"Someone {n}", **times)


def assert_alike(ours: Any, theirs: Any, *, made: bool = False) -> None:
    """Asserts equal fields, order and values; if `made`, times, ids and scores may differ."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            if made and name.endswith("At"):
                assert TIME.fullmatch(ours[name])
            elif made and name in ("id", "score"):
                assert type(ours[name]) is type(value)
            else:
                assert_alike(ours[name], value, made=made)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            assert_alike(our, their, made=made)
    else:
        assert (type(ours), ours) == (type(theirs), theirs)


async def test_the_list_shows_the_lead_first_and_counts_all(replay: Replay) -> None:
    answer = await replay.run("list")
    theirs = REFERENCE["list"].answer
    assert answer.status == 200
    assert len(answer.json["data"]) == 10
    assert_alike(answer.json["data"][:1], theirs["data"])
    pagination = answer.json["pagination"]
    assert list(pagination)[-1] == "nextCursor"  # our field, after the reference's
    del pagination["nextCursor"]
    assert_alike(pagination, theirs["pagination"])
    assert list(answer.json) == list(theirs)


async def test_one_lead_has_the_fields_of_the_reference_and_then_our_fields(replay: Replay) -> None:
    answer = await replay.run("get")
    assert answer.status == 200
    fields = answer.json
    assert list(fields)[-2:] == ["conversationSummary", "timeline"]
    del fields["conversationSummary"], fields["timeline"]
    assert_alike(fields, REFERENCE["get"].answer)


async def test_a_lead_is_created_and_changed_as_the_reference_shows(replay: Replay) -> None:
    created = await replay.run("create")
    assert created.status == 201
    lead = created.json
    assert_alike(lead, REFERENCE["create"].answer, made=True)
    assert (lead["score"], lead["id"][:5]) == (0, "lead_")
    assert lead["firstSeenAt"] == lead["lastActiveAt"] == lead["createdAt"] == lead["updatedAt"]

    changed = await replay.run("update", REFERENCE["update"].answer["id"], lead["id"])
    assert changed.status == 200
    assert_alike(changed.json, REFERENCE["update"].answer, made=True)
    assert changed.json["id"] == lead["id"]
    assert changed.json["createdAt"] == changed.json["firstSeenAt"] == lead["createdAt"]
    assert changed.json["updatedAt"] == changed.json["lastActiveAt"] > lead["updatedAt"]


async def test_the_search_finds_the_lead_and_its_matched_field(replay: Replay) -> None:
    answer = await replay.run("search")
    assert answer.status == 200
    assert_alike(answer.json, REFERENCE["search"].answer)


async def test_a_taken_email_address_gets_the_response_of_the_reference(replay: Replay) -> None:
    theirs = REFERENCE["conflict"].answer["error"]
    taken = {"email": REFERENCE["get"].answer["email"]}
    answer = await replay.api.post("/api/v1/leads", taken)
    assert answer.status == 409
    assert list(answer.error) == list(theirs)
    assert answer.error["code"] == theirs["code"]
    assert answer.error["existingLeadId"] == theirs["existingLeadId"]
    again = await replay.run("create")
    assert again.status == 201
    conflict = await replay.run("create")
    assert (conflict.status, conflict.error["existingLeadId"]) == (409, again.json["id"])


@pytest.mark.skipif(not SOURCE.exists(), reason=f"{SOURCE} lies beside the repository, not in it")
def test_the_data_file_equals_the_reference() -> None:
    parsed = parse_reference(SOURCE.read_text(encoding="utf-8"))
    assert parsed == [
        {"curl": exchange.curl, "answer": exchange.answer} for exchange in REFERENCE.values()
    ]
    assert [list(entry["answer"]) for entry in parsed] == [
        list(exchange.answer) for exchange in REFERENCE.values()
    ]
