import asyncio
import json
import random
from collections import defaultdict
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sql
from service.database.connect import Pool, create_pool
from service.events.event_log import Event
from service.leads.scores import decode_factors
from service.settings import Settings
from tests.harness.factories import make_lead
from tests.harness.worker_harness import WorkerHarness
from workers.scorer import ACTOR, Rescorer, Scorer, find_dirty_leads, rescore_lead, rescore_leads
from workers.scoring.rules import Rules
from workers.scoring.score import Facts, Score, score_lead

NO_MOVE = (None,) * 5
JAMES = json.dumps(
    {
        "email": "james.rodriguez@techstart.io",
        "name": "James Rodriguez",
        "company": "TechStart",
        "title": "CTO",
        "phone": "+1-555-0198",
        "tags": ["inbound", "startup"],
        "customFields": {"industry": "FinTech", "teamSize": "10-25", "budget": "$5k-$10k/mo"},
    }
)
QUALIFY = '{"status": "qualified", "tags": ["inbound", "startup", "hot-lead"]}'


def scorers(harness: WorkerHarness) -> list[Scorer]:
    return [Scorer(harness.context)]


async def test_a_new_lead_gets_a_score_and_an_event(harness: WorkerHarness) -> None:
    lead_id = await harness.capture(JAMES)
    before = await harness.row(lead_id)
    await harness.drain(*scorers(harness))
    after = await harness.row(lead_id)
    _, event = await harness.events(lead_id)
    data = json.loads(event["data"])

    assert (before["score"], after["score"]) == (0, 56)
    assert sum(f.contribution for f in decode_factors(after["factors"])) == 56
    assert after["rules"] == "builtin-1"
    assert after["stale_at"] == after["last_active_at"] + timedelta(days=7)
    assert (event["type"], event["actor"], event["version"]) == ("lead.updated", "scorer", 2)
    assert after["version"] == 2
    assert list(data) == ["lead", "version", "changes", "actor"]
    assert data["changes"] == {"score": {"from": 0, "to": 56}}
    assert (data["lead"]["score"], data["version"], data["actor"]) == (56, 2, "scorer")
    assert event["at"] == after["scored_at"]


async def test_a_score_changes_neither_updated_at_nor_last_active_at(
    harness: WorkerHarness,
) -> None:
    lead_id = await harness.capture(JAMES)
    before = await harness.row(lead_id)
    await harness.drain(*scorers(harness))
    after = await harness.row(lead_id)

    assert after["score"] != before["score"]
    for column in ("updated_at", "last_active_at"):
        assert after[column] == before[column]


async def test_the_scorer_ignores_its_own_events(harness: WorkerHarness) -> None:
    lead_id = await harness.capture(JAMES)
    await harness.drain(*scorers(harness))
    settled = await harness.row(lead_id)
    await harness.drain(*scorers(harness))

    assert await harness.row(lead_id) == settled
    assert len(await harness.events(lead_id)) == 2


async def test_many_changes_in_one_window_cause_one_rescoring(harness: WorkerHarness) -> None:
    lead_id = await harness.capture(JAMES)
    for number in range(10):
        await harness.patch(lead_id, json.dumps({"company": f"TechStart {number}"}))
    await harness.patch(lead_id, QUALIFY)
    await harness.drain(*scorers(harness))

    kinds = [event["actor"] for event in await harness.events(lead_id)]
    assert kinds.count(ACTOR) == 1
    assert (await harness.row(lead_id))["score"] == 66


async def test_changed_factors_with_the_same_score_write_no_event(harness: WorkerHarness) -> None:
    lead_id = await harness.capture(JAMES)
    await harness.drain(*scorers(harness))
    before = await harness.row(lead_id)
    await harness.patch(lead_id, '{"title": "Founder"}')
    await harness.drain(*scorers(harness))
    after = await harness.row(lead_id)

    assert after["score"] == before["score"]
    assert after["factors"] != before["factors"]
    assert after["scored_at"] > before["scored_at"]
    assert after["version"] == before["version"] + 1  # of the change of title
    assert [event["actor"] for event in await harness.events(lead_id)].count(ACTOR) == 1


async def test_rescoring_an_unchanged_lead_writes_nothing(
    harness: WorkerHarness,
) -> None:
    lead_id = await harness.capture(JAMES)
    await harness.drain(*scorers(harness))
    before_rescoring = await harness.row(lead_id)
    key = (harness.principal.tenant_id, True, lead_id)
    assert (await rescore_leads(harness.pool, [key])).written == 0
    assert await harness.row(lead_id) == before_rescoring


async def test_a_late_score_of_a_changed_lead_is_not_written(
    harness: WorkerHarness,
) -> None:
    lead_id = await harness.capture(JAMES)
    key = (harness.principal.tenant_id, True, lead_id)
    async with harness.pool.acquire() as conn:
        row = await conn.fetchrow(sql.score_read_many, *([part] for part in key))
        assert row is not None
        await harness.patch(lead_id, QUALIFY)
        late = msgspec.json.encode(rescore_lead(row, score_lead)).decode()
        written = await conn.fetchrow(sql.score_write_many, *NO_MOVE, late)
        assert written is not None
        assert tuple(written) == (0, 0)
    assert (await harness.row(lead_id))["score"] == 0

    await harness.drain(*scorers(harness))
    assert (await harness.row(lead_id))["score"] == 66


async def test_a_lead_deleted_before_its_turn_is_skipped(harness: WorkerHarness) -> None:
    gone, kept = await harness.capture(JAMES), await harness.capture('{"email": "b@acme.com"}')
    await harness.delete(gone)
    await harness.drain(*scorers(harness))

    assert [event["type"] for event in await harness.events(gone)] == [
        "lead.created",
        "lead.deleted",
    ]
    assert (await harness.row(kept))["scored_at"] is not None


async def test_time_alone_lowers_a_score_once_at_each_step(harness: WorkerHarness) -> None:
    rescorer = Rescorer(harness.context)
    lead_id = await harness.capture(JAMES)
    await harness.drain(*scorers(harness), rescorer)
    found = []
    for days in (8, 31, 91):
        await make_older(harness.pool, lead_id, days)
        await harness.drain(*scorers(harness), rescorer)
        found.append((await harness.row(lead_id))["score"])

    assert found == [54, 52, 50]
    assert (await harness.row(lead_id))["stale_at"] is None
    assert [event["actor"] for event in await harness.events(lead_id)].count(ACTOR) == 4
    assert await rescorer.once() == 0


async def make_older(pool: Pool, lead_id: str, days: int) -> None:
    await pool.execute(
        "WITH aged AS ("
        "UPDATE lead SET last_active_at = now() - make_interval(days => $2) WHERE id = $1) "
        "UPDATE lead_score SET stale_at = now() - interval '1 second' WHERE id = $1",
        lead_id,
        days,
    )


async def test_a_lead_that_cannot_be_scored_does_not_delay_the_others(
    harness: WorkerHarness,
) -> None:
    def refuse_james(facts: Facts, rules: Rules, now: datetime) -> Score:
        if facts.name == "James Rodriguez":
            raise ArithmeticError("a fault in the rules")
        return score_lead(facts, rules, now)

    james, other = await harness.capture(JAMES), await harness.capture('{"email": "b@acme.com"}')
    await harness.drain(Scorer(harness.context, refuse_james))

    assert (await harness.row(james))["scored_at"] is None
    assert (await harness.row(other))["scored_at"] is not None


@pytest.mark.parametrize(
    "custom_fields",
    [
        '{"budget": 1e400}',
        '{"budget": "\\ud800"}',
        '{"budget": "\\u0000"}',
        '{"a":' * 900 + "1" + "}" * 900,
    ],
)
async def test_values_that_python_cannot_read_are_ignored_by_the_score(
    harness: WorkerHarness, custom_fields: str
) -> None:
    lead_id = await make_lead(harness.pool, harness.principal.tenant_id, title="CEO")
    await harness.pool.execute(
        "UPDATE lead SET custom_fields = $2 WHERE id = $1", lead_id, custom_fields
    )
    rescored = await rescore_leads(harness.pool, [(harness.principal.tenant_id, True, lead_id)])

    assert rescored.changed == 1


async def test_scorers_and_the_api_never_deadlock_over_the_same_leads(
    harness: WorkerHarness, settings: Settings
) -> None:
    ids = [await harness.capture(f'{{"email": "{n}@acme.com"}}') for n in range(40)]
    keys = [(harness.principal.tenant_id, True, lead_id) for lead_id in ids]

    async def rescore(seed: int) -> None:
        for number in range(15):

            def scoring(_: Facts, __: Rules, ___: datetime, n: int = number) -> Score:
                return Score((seed * 15 + n) % 100, [], None)

            shuffled = random.Random(seed * 100 + number).sample(keys, len(keys))
            await rescore_leads(pool, shuffled, scoring)

    async def patch(seed: int) -> None:
        for number in range(60):
            await harness.patch(random.Random(seed + number).choice(ids), f'{{"name": "{number}"}}')

    async with await create_pool(settings, "tests", 8) as pool:
        await asyncio.gather(*(rescore(n) for n in range(4)), *(patch(n) for n in range(4)))
    versions = await harness.pool.fetch("SELECT lead_id, version FROM outbox ORDER BY lead_id, id")
    by_lead: defaultdict[str, list[int]] = defaultdict(list)
    for row in versions:
        by_lead[row["lead_id"]].append(row["version"])
    assert all(found == list(range(1, len(found) + 1)) for found in by_lead.values())
    assert len(versions) > 300


@given(st.lists(st.tuples(st.integers(1, 2), st.booleans(), st.sampled_from("ab"),
                          st.sampled_from([ACTOR, "key_1"]))))  # fmt: skip
def test_each_lead_changed_by_other_actors_is_scored_once_in_key_order(
    touches: list[tuple[int, bool, str, str]],
) -> None:
    events = [
        Event(n, 0, tenant_id, live, lead_id, n, "evt", "lead.updated", actor, "", "{}", 1)
        for n, (tenant_id, live, lead_id, actor) in enumerate(touches)
    ]
    dirty = find_dirty_leads(events)

    assert dirty == sorted(set(dirty))
    assert set(dirty) == {touch[:3] for touch in touches if touch[3] != ACTOR}
