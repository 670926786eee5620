import json
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workbench import Workbench
from workers.historian import Historian
from workers.scorer import Scorer
from workers.summaries import MAX_LENGTH, summarise


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
def test_an_event_is_said_in_a_line(kind: str, data: str, summary: str) -> None:
    assert summarise(kind, data) == summary


values = st.none() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.integers())
fields = st.sampled_from(["name", "tags", "score", "customFields"])
changes = st.dictionaries(fields, st.tuples(values, values))


@given(
    st.sampled_from(["lead.created", "lead.updated", "lead.deleted", "x"]),
    st.text() | changes.map(lambda found: changed(**found)),
)
def test_any_data_gives_a_line_that_the_table_can_hold(kind: str, data: str) -> None:
    summary = summarise(kind, data)
    assert len(summary) <= MAX_LENGTH
    assert "\0" not in summary


async def read_timeline(bench: Workbench, lead_id: str) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await bench.pool.fetch(
        "SELECT version, event_id, type, at, summary, actor FROM timeline "
        "WHERE lead_id = $1 ORDER BY version",
        lead_id,
    )
    return found


async def test_every_event_is_filed_under_its_lead(bench: Workbench) -> None:
    lead_id = await bench.capture('{"email": "a@acme.com", "title": "CEO"}')
    await bench.patch(lead_id, '{"status": "qualified", "name": "Ann"}')
    scorers = [Scorer(bench.shop, f"scorer/{n}") for n in range(2)]
    await bench.drain(*scorers, Historian(bench.shop, "historian/0"))
    timeline = await read_timeline(bench, lead_id)
    events = await bench.events(lead_id)

    assert [entry["summary"] for entry in timeline] == [
        "Created from api",
        "name: none → Ann; status: new → qualified",
        "Qualified",
        "score 0 → 39",
    ]
    assert [entry["actor"] for entry in timeline] == ["key_test"] * 3 + ["scorer"]
    for name in ("version", "event_id", "type", "at"):
        assert [entry[name] for entry in timeline] == [event[name] for event in events]


async def test_the_timeline_is_in_the_answer_newest_first(bench: Workbench) -> None:
    lead_id = await bench.capture('{"email": "a@acme.com"}')
    for number in range(25):
        await bench.patch(lead_id, f'{{"name": "{number}"}}')
    await bench.drain(Historian(bench.shop, "historian/0"))
    shown = json.loads((await bench.leads.get(bench.who, lead_id)).body or "")["timeline"]

    assert len(shown) == 20
    assert shown[0]["summary"] == "name: 23 → 24"
    assert list(shown[0]) == ["id", "type", "at", "summary", "actor"]


async def test_a_deleted_lead_takes_its_timeline_along(bench: Workbench) -> None:
    historian = Historian(bench.shop, "historian/0")
    early, late, kept = [await bench.capture(f'{{"email": "{n}@acme.com"}}') for n in range(3)]
    await bench.delete(early)  # in the window of its creation
    await bench.drain(historian)
    await bench.delete(late)
    await bench.drain(historian)

    assert await read_timeline(bench, early) == []
    assert await read_timeline(bench, late) == []
    assert len(await read_timeline(bench, kept)) == 1


async def test_reading_the_log_again_changes_nothing(bench: Workbench) -> None:
    kept, gone = [await bench.capture(f'{{"email": "{n}@acme.com"}}') for n in range(2)]
    await bench.drain(Historian(bench.shop, "historian/0"))
    await bench.delete(gone)
    await bench.drain(Historian(bench.shop, "historian/0"))
    before = await read_timeline(bench, kept)
    await bench.pool.execute("UPDATE reader SET tick = 1, event_id = 0 WHERE name = 'historian/0'")
    await bench.drain(Historian(bench.shop, "historian/0"))

    assert await read_timeline(bench, kept) == before
    assert await read_timeline(bench, gone) == []


async def test_one_tenants_deletion_leaves_anothers_timeline_alone(bench: Workbench) -> None:
    lead_id = await bench.capture('{"email": "a@acme.com"}')
    await bench.drain(Historian(bench.shop, "historian/0"))
    await bench.pool.execute(
        "INSERT INTO timeline SELECT tenant_id, NOT live, lead_id, version, event_id, type, at, "
        "summary, actor FROM timeline"
    )
    await bench.delete(lead_id)
    await bench.drain(Historian(bench.shop, "historian/0"))

    assert [row["live"] for row in await bench.pool.fetch("SELECT live FROM timeline")] == [False]
