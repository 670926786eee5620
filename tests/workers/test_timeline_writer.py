import json
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.leads.timeline_text import MAX_LENGTH, describe_event
from tests.harness.worker_harness import WorkerHarness
from workers.scorer import Scorer
from workers.timeline_writer import TimelineWriter


def changed(**changes: tuple[Any, Any]) -> str:
    return json.dumps({"changes": {name: {"from": a, "to": b} for name, (a, b) in changes.items()}})


@pytest.mark.parametrize(
    ("kind", "data", "summary"),
    [
        ("lead.created", '{"lead": {"source": "api"}}', "Created from api"),
        ("lead.updated", changed(status=("new", "qualified")), "status: new → qualified"),
        ("lead.updated", changed(score=(0, 34)), "score 0 → 34"),
        ("lead.updated", changed(phone=(None, "+1-555-0142")), "phone: none → +1-555-0142"),
        ("lead.updated", changed(name=("A", "B"), title=("C", None)),
         "name: A → B; title: C → none"),
        ("lead.updated", changed(tags=(["a", "b"], ["b", "c"])), "tags: +c, -a"),
        ("lead.updated", changed(tags=(["a", "b"], ["b", "a"])), "tags: in another order"),
        ("lead.updated", changed(customFields=({"a": 1, "b": 2, "n": 3}, {"a": 1, "b": 3})),
         "customFields: b, n"),
        ("lead.updated", changed(customFields=({}, {"x": None})), "customFields: x"),
        ("lead.qualified", "{}", "Qualified"),
        ("lead.converted", "{}", "Converted"),
        ("lead.deleted", "{}", "Deleted"),
        ("conversation.started", "{}", "Conversation started"),
        ("intent.high_value", "{}", "Intent high value"),
        ("lead.updated", "not json", "Updated"),
        ("lead.created", '{"lead": {"source": "a\\u0000b"}}', "Created from ab"),
    ],
)  # fmt: skip
def test_an_event_is_described_in_one_line(kind: str, data: str, summary: str) -> None:
    assert describe_event(kind, data) == summary


values = st.none() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.integers())
fields = st.sampled_from(["name", "tags", "score", "customFields"])
changes = st.dictionaries(fields, st.tuples(values, values))


@given(
    st.sampled_from(["lead.created", "lead.updated", "lead.deleted", "x"]),
    st.text() | changes.map(lambda found: changed(**found)),
)
def test_any_data_gives_a_line_that_the_table_can_store(kind: str, data: str) -> None:
    summary = describe_event(kind, data)
    assert len(summary) <= MAX_LENGTH
    assert "\0" not in summary


async def read_timeline(harness: WorkerHarness, lead_id: str) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await harness.pool.fetch(
        "SELECT version, event_id, type, at, summary, actor FROM timeline "
        "WHERE lead_id = $1 ORDER BY version",
        lead_id,
    )
    return found


async def test_every_event_is_in_the_timeline_of_its_lead(harness: WorkerHarness) -> None:
    lead_id = await harness.capture('{"email": "a@acme.com", "title": "CEO"}')
    await harness.patch(lead_id, '{"status": "qualified", "name": "Ann"}')
    scorers = [Scorer(harness.context)]
    await harness.drain(*scorers, TimelineWriter(harness.context))
    timeline = await read_timeline(harness, lead_id)
    events = await harness.events(lead_id)

    assert [entry["summary"] for entry in timeline] == [
        "Created from api",
        "name: none → Ann; status: new → qualified",
        "Qualified",
        "score 0 → 39",
    ]
    assert [entry["actor"] for entry in timeline] == ["key_test"] * 3 + ["scorer"]
    for name in ("version", "event_id", "type", "at"):
        assert [entry[name] for entry in timeline] == [event[name] for event in events]


async def test_the_timeline_is_in_the_response_newest_first(harness: WorkerHarness) -> None:
    lead_id = await harness.capture('{"email": "a@acme.com"}')
    for number in range(25):
        await harness.patch(lead_id, f'{{"name": "{number}"}}')
    await harness.drain(TimelineWriter(harness.context))
    shown = json.loads((await harness.leads.get(harness.principal, lead_id)).body or "")["timeline"]

    assert len(shown) == 20
    assert shown[0]["summary"] == "name: 23 → 24"
    assert list(shown[0]) == ["id", "type", "at", "summary", "actor"]


async def test_the_timeline_of_a_deleted_lead_is_deleted(harness: WorkerHarness) -> None:
    timeline_writer = TimelineWriter(harness.context)
    early, late, kept = [await harness.capture(f'{{"email": "{n}@acme.com"}}') for n in range(3)]
    await harness.delete(early)  # in the window of its creation
    await harness.drain(timeline_writer)
    await harness.delete(late)
    await harness.drain(timeline_writer)

    assert await read_timeline(harness, early) == []
    assert await read_timeline(harness, late) == []
    assert len(await read_timeline(harness, kept)) == 1


async def test_a_second_reading_of_the_log_changes_nothing(harness: WorkerHarness) -> None:
    kept, deleted = [await harness.capture(f'{{"email": "{n}@acme.com"}}') for n in range(2)]
    await harness.drain(TimelineWriter(harness.context))
    await harness.delete(deleted)
    await harness.drain(TimelineWriter(harness.context))
    before = await read_timeline(harness, kept)
    await harness.pool.execute(
        "UPDATE reader SET tick = 1, event_id = 0 WHERE name = 'timeline_writer'"
    )
    await harness.drain(TimelineWriter(harness.context))

    assert await read_timeline(harness, kept) == before
    assert await read_timeline(harness, deleted) == []


async def test_a_deletion_in_one_mode_keeps_the_timeline_in_the_other_mode(
    harness: WorkerHarness,
) -> None:
    lead_id = await harness.capture('{"email": "a@acme.com"}')
    await harness.drain(TimelineWriter(harness.context))
    await harness.pool.execute(
        "INSERT INTO timeline SELECT tenant_id, NOT live, lead_id, version, event_id, type, at, "
        "summary, actor FROM timeline"
    )
    await harness.delete(lead_id)
    await harness.drain(TimelineWriter(harness.context))

    assert [row["live"] for row in await harness.pool.fetch("SELECT live FROM timeline")] == [False]
