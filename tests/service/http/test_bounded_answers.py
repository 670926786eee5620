"""An invalid request costs little and gets a short response, however many faults it has."""

import gc
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from service.app import API
from service.database.connect import Pool
from service.errors import MOST_LISTED, Problem, encode_problem
from service.http.request import MAX_PARAMETERS
from service.idempotency_keys import MAX_STORED_BYTES
from service.validation.decoding import decode_body
from tests.harness.api_client import Api

EMAIL = {"email": "a@b.co"}
HOOK = {"url": "https://8.8.8.8/hook", "events": ["lead.created"]}
ZEROS = [0] * 125_000
KEYS = {f"k{n}": 0 for n in range(25_000)}
LONG = "x" * 100_000
CPU_S = 0.3
"""The limit of processor time for one decode, which takes about 5 ms."""

# Route whose body type is used, body, fields of the first faults, number of faults left out.
HOSTILE: list[tuple[str, dict[str, Any], list[str], int]] = [
    ("POST /leads", {**EMAIL, "tags": ZEROS}, ["tags"], 0),
    ("POST /leads", {**EMAIL, "customFields": KEYS}, ["customFields"], 0),
    ("POST /leads", {**EMAIL, "customFields": {"a": ZEROS}}, ["customFields"], 0),
    ("POST /leads", {**EMAIL, "customFields": {"a": [[]] * 80_000}}, ["customFields"], 0),
    ("POST /leads", {**EMAIL, "customFields": {"a": "\0" * 40_000}}, ["customFields"], 0),
    ("POST /leads", {**EMAIL, "name": ZEROS}, ["name"], 0),
    ("POST /leads", {**EMAIL, "name": LONG, "status": LONG}, ["name", "status"], 0),
    ("POST /leads", {"email": LONG}, ["email"], 0),
    ("POST /leads", {**EMAIL, **KEYS}, list(KEYS)[:MOST_LISTED], 25_000 - MOST_LISTED),
    ("POST /leads", {**KEYS}, ["email", *list(KEYS)[: MOST_LISTED - 1]], 25_001 - MOST_LISTED),
    ("POST /leads", {**EMAIL, LONG: 1}, ["x" * 64], 0),
    ("POST /leads", {**EMAIL, "tags": [LONG]}, ["tags.0"], 0),
    ("PATCH /leads/{id}", {"tags": ZEROS, **KEYS}, ["tags"], 25_001 - MOST_LISTED),
    ("POST /webhooks", {**HOOK, "events": ZEROS}, ["events"], 0),
    ("POST /webhooks", {**HOOK, "events": [0] * 100}, ["events.0", "events.1"], 50),
    ("POST /webhooks", {**HOOK, "events": [LONG]}, ["events.0"], 0),
    ("POST /webhooks", {**HOOK, "secret": LONG}, ["secret"], 0),
    ("POST /webhooks", {**HOOK, "url": LONG}, ["url"], 0),
    ("POST /webhooks", {**HOOK, "url": f"https://{'x' * 2000}"}, ["url"], 0),
    ("PATCH /webhooks/{id}", {"headers": dict.fromkeys(KEYS, "\n")}, ["headers"], 0),
    ("PATCH /webhooks/{id}", {"headers": {LONG: LONG}}, ["headers"], 0),
    ("PATCH /webhooks/{id}", {"resume": LONG}, ["resume"], 0),
    ("POST /api-keys", {"name": LONG, "scope": LONG}, ["name", "scope"], 0),
    ("POST /api-keys", {"name": "n", "scope": "read", "expiresAt": LONG}, ["expiresAt"], 0),
    ("POST /webhooks/{id}/replay", {"since": LONG, "until": ZEROS}, ["since", "until"], 0),
]


@pytest.fixture
def frozen_heap() -> Iterator[None]:
    """Collections leave out what exists, as in the service after its start."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen_heap")
@pytest.mark.parametrize(("route", "body", "fields", "more"), HOSTILE)
def test_a_response_is_short_and_fast_however_many_faults_there_are(
    route: str, body: dict[str, Any], fields: list[str], more: int
) -> None:
    [kind] = [operation.body for operation in API if operation.route == route]
    raw = json.dumps(body).encode()
    cpu_s = []
    for _ in range(3):  # the fastest counts: a run may include a full garbage collection
        begun = time.thread_time()
        with pytest.raises(Problem) as caught:
            decode_body(raw, kind)
        answer = encode_problem(caught.value, "/docs")
        cpu_s.append(time.thread_time() - begun)
    assert min(cpu_s) < CPU_S
    error = json.loads(answer)["error"]
    assert [fault["field"] for fault in error["details"]][: len(fields)] == fields
    assert len(error["details"]) <= MOST_LISTED
    assert error.get("moreFaults", 0) == more
    assert len(answer) < 10_000


async def test_a_response_states_how_many_faults_it_leaves_out(api: Api) -> None:
    answer = await api.post("/v1/leads", {**EMAIL, **{f"k{n}": 0 for n in range(1000)}})
    assert answer.status == 400
    assert len(answer.error["details"]) == 50
    assert answer.error["moreFaults"] == 950
    expected = "The request body has 1000 faults; details lists the first 50."
    assert answer.error["message"] == expected


async def test_lists_are_counted_before_their_entries_are_checked(api: Api) -> None:
    answer = await api.post("/v1/leads", {**EMAIL, "tags": [0] * 80_000})
    assert answer.status == 400
    sentence = "tags must have at most 50 entries."
    assert answer.error["details"] == [{"field": "tags", "code": "too_long", "message": sentence}]


@pytest.mark.parametrize(
    "path", ["/health/live", "/v1/leads", "/v1/leads/search", "/v1/events", "/v1/api-keys"]
)
async def test_parameters_are_counted_before_they_are_read(api: Api, path: str) -> None:
    for query in ("a&" * 5_000, "&" * 5_000, "limit=1&" * 51, "customFields[a]=1&" * 60):
        answer = await api.call("GET", f"{path}?{query}")
        assert answer.status == 400
        assert [fault["code"] for fault in answer.error["details"]] == ["too_many"]
        assert len(answer.body) < 500
    fair = "&".join(f"a{n}" for n in range(MAX_PARAMETERS))
    answer = await api.call("GET", f"{path}?{fair}")
    assert {fault["code"] for fault in answer.error["details"]} >= {"unknown_field"}


@pytest.mark.parametrize(
    "query",
    [f"{LONG[:15_000]}=1", f"a={LONG[:15_000]}", f"limit={'9' * 15_000}", f"{'a' * 7_500}&" * 2,
     f"customFields[{LONG[:15_000]}]=1", f"status={LONG[:15_000]}", f"tag={LONG[:15_000]}",
     f"createdAfter={LONG[:15_000]}", f"email={LONG[:15_000]}", f"cursor={LONG[:15_000]}"],
    ids=lambda query: query[:12],
)  # fmt: skip
async def test_a_long_name_or_value_of_a_parameter_is_not_echoed(api: Api, query: str) -> None:
    answer = await api.call("GET", f"/v1/leads?{query}")
    assert len(answer.body) < 1500
    assert answer.status == 400


async def test_no_stored_response_exceeds_the_limit(api: Api, pool: Pool) -> None:
    worst = {
        "email": "kept@example.com", "name": "\x01" * 200, "company": "\x01" * 200,
        "title": "\x01" * 200, "assignedTo": "\x01" * 200, "tags": ["\x01" * 64] * 50,
        "customFields": {f"{n}": "\x01" * 24 for n in range(100)},
    }  # fmt: skip
    bodies = [worst, {"tags": [9] * 50, "x": 1}, {"\x01" * 60 + str(n): 0 for n in range(200)}]
    for number, body in enumerate(bodies):
        headers = {"Idempotency-Key": f"largest {number}"}
        first = await api.call("POST", "/v1/leads", json.dumps(body), headers=headers)
        assert first.status == (400 if number else 201)
        again = await api.call("POST", "/v1/leads", json.dumps(body), headers=headers)
        assert again.body == first.body
        assert again.headers["idempotency-replayed"] == "true"
    largest = await pool.fetchval(
        "SELECT max(octet_length(body)) FROM idempotent_response WHERE tenant_id = $1",
        api.tenant.id,
    )
    assert 25_000 < largest < MAX_STORED_BYTES


async def test_a_refusal_above_the_limit_is_not_stored(
    api: Api, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.idempotency.MAX_STORED_BYTES", 100)
    headers = {"Idempotency-Key": "too large to keep"}
    before = await pool.fetchval("SELECT count(*) FROM idempotent_response")
    for _ in range(2):
        answer = await api.call("POST", "/v1/leads", b'{"email": 1}', headers=headers)
        assert answer.status == 400
        assert "idempotency-replayed" not in answer.headers
    assert await pool.fetchval("SELECT count(*) FROM idempotent_response") == before
