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
from service.db import Pool, create_pool
from service.leads.scores import decode_factors
from service.log import Event
from service.settings import Settings
from tests.factories import make_lead
from tests.workbench import Workbench
from workers.scorer import ACTOR, Rescorer, Scorer, find_dirty_leads, rescore_lead, rescore_leads
from workers.scoring.score import Facts, Rules, Score, score_lead

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


def scorers(bench: Workbench) -> list[Scorer]:
    return [Scorer(bench.shop, f"scorer/{n}") for n in range(2)]


async def test_a_new_lead_gets_its_score_with_an_event_that_says_so(bench: Workbench) -> None:
    lead_id = await bench.capture(JAMES)
    before = await bench.row(lead_id)
    await bench.drain(*scorers(bench))
    after = await bench.row(lead_id)
    _, event = await bench.events(lead_id)
    data = json.loads(event["data"])

    assert (before["score"], after["score"]) == (0, 56)
    assert sum(f.contribution for f in decode_factors(after["score_factors"])) == 56
    assert after["score_rules"] == "builtin-1"
    assert after["score_stale_at"] == after["last_active_at"] + timedelta(days=7)
    assert (event["type"], event["actor"], event["version"]) == ("lead.updated", "scorer", 2)
    assert after["version"] == 2
    assert list(data) == ["lead", "version", "changes", "actor"]
    assert data["changes"] == {"score": {"from": 0, "to": 56}}
    assert (data["lead"]["score"], data["version"], data["actor"]) == (56, 2, "scorer")
    assert event["at"] == after["scored_at"]


async def test_a_score_moves_neither_updated_at_nor_last_active_at(bench: Workbench) -> None:
    lead_id = await bench.capture(JAMES)
    before = await bench.row(lead_id)
    await bench.drain(*scorers(bench))
    after = await bench.row(lead_id)

    assert after["score"] != before["score"]
    for column in ("updated_at", "last_active_at"):
        assert after[column] == before[column]


async def test_the_scorer_does_not_answer_its_own_events(bench: Workbench) -> None:
    lead_id = await bench.capture(JAMES)
    await bench.drain(*scorers(bench))
    settled = await bench.row(lead_id)
    await bench.drain(*scorers(bench))

    assert await bench.row(lead_id) == settled
    assert len(await bench.events(lead_id)) == 2


async def test_many_changes_in_one_window_are_one_rescoring(bench: Workbench) -> None:
    lead_id = await bench.capture(JAMES)
    for number in range(10):
        await bench.patch(lead_id, json.dumps({"company": f"TechStart {number}"}))
    await bench.patch(lead_id, QUALIFY)
    await bench.drain(*scorers(bench))

    kinds = [event["actor"] for event in await bench.events(lead_id)]
    assert kinds.count(ACTOR) == 1
    assert (await bench.row(lead_id))["score"] == 66


async def test_other_reasons_for_the_same_score_are_no_event(bench: Workbench) -> None:
    lead_id = await bench.capture(JAMES)
    await bench.drain(*scorers(bench))
    before = await bench.row(lead_id)
    await bench.patch(lead_id, '{"title": "Founder"}')
    await bench.drain(*scorers(bench))
    after = await bench.row(lead_id)

    assert after["score"] == before["score"]
    assert after["score_factors"] != before["score_factors"]
    assert after["scored_at"] > before["scored_at"]
    assert after["version"] == before["version"] + 1  # the title's
    assert [event["actor"] for event in await bench.events(lead_id)].count(ACTOR) == 1


async def test_a_change_that_means_nothing_to_the_score_writes_nothing(bench: Workbench) -> None:
    lead_id = await bench.capture(JAMES)
    await bench.drain(*scorers(bench))
    bench_row = await bench.row(lead_id)
    key = (bench.who.tenant_id, True, lead_id)
    async with bench.pool.acquire() as conn:
        assert (await rescore_leads(conn, [key])).written == 0
    assert await bench.row(lead_id) == bench_row


async def test_a_lead_that_changes_while_it_is_scored_is_left_to_its_newer_event(
    bench: Workbench,
) -> None:
    lead_id = await bench.capture(JAMES)
    key = (bench.who.tenant_id, True, lead_id)
    async with bench.pool.acquire() as conn:
        row = await conn.fetchrow(sql.score_read_many, *([part] for part in key))
        assert row is not None
        await bench.patch(lead_id, QUALIFY)
        late = msgspec.json.encode(rescore_lead(row, score_lead)).decode()
        assert await conn.fetch(sql.score_write_many, late) == []
    assert (await bench.row(lead_id))["score"] == 0

    await bench.drain(*scorers(bench))
    assert (await bench.row(lead_id))["score"] == 66


async def test_a_lead_deleted_before_its_turn_is_passed_over(bench: Workbench) -> None:
    gone, kept = await bench.capture(JAMES), await bench.capture('{"email": "b@acme.com"}')
    await bench.delete(gone)
    await bench.drain(*scorers(bench))

    assert [event["type"] for event in await bench.events(gone)] == ["lead.created", "lead.deleted"]
    assert (await bench.row(kept))["scored_at"] is not None


async def test_time_alone_lowers_a_score_once_at_each_step(bench: Workbench) -> None:
    rescorer = Rescorer(bench.shop)
    lead_id = await bench.capture(JAMES)
    await bench.drain(*scorers(bench), rescorer)
    found = []
    for days in (8, 31, 91):
        await make_older(bench.pool, lead_id, days)
        await bench.drain(*scorers(bench), rescorer)
        found.append((await bench.row(lead_id))["score"])

    assert found == [54, 52, 50]
    assert (await bench.row(lead_id))["score_stale_at"] is None
    assert [event["actor"] for event in await bench.events(lead_id)].count(ACTOR) == 4
    assert await rescorer.once() == 0


async def make_older(pool: Pool, lead_id: str, days: int) -> None:
    await pool.execute(
        "UPDATE lead SET last_active_at = now() - make_interval(days => $2), "
        "score_stale_at = now() - interval '1 second' WHERE id = $1",
        lead_id,
        days,
    )


async def test_a_lead_that_cannot_be_scored_does_not_hold_up_the_others(bench: Workbench) -> None:
    def refuse_james(facts: Facts, rules: Rules, now: datetime) -> Score:
        if facts.name == "James Rodriguez":
            raise ArithmeticError("a fault in the rules")
        return score_lead(facts, rules, now)

    james, other = await bench.capture(JAMES), await bench.capture('{"email": "b@acme.com"}')
    await bench.drain(*(Scorer(bench.shop, f"scorer/{n}", refuse_james) for n in range(2)))

    assert (await bench.row(james))["scored_at"] is None
    assert (await bench.row(other))["scored_at"] is not None


@pytest.mark.parametrize(
    "custom_fields",
    [
        '{"budget": 1e400}',
        '{"budget": "\\ud800"}',
        '{"budget": "\\u0000"}',
        '{"a":' * 900 + "1" + "}" * 900,
    ],
)
async def test_what_json_bears_and_python_does_not_is_scored_without_it(
    bench: Workbench, custom_fields: str
) -> None:
    lead_id = await make_lead(bench.pool, bench.who.tenant_id, title="CEO")
    await bench.pool.execute(
        "UPDATE lead SET custom_fields = $2 WHERE id = $1", lead_id, custom_fields
    )
    async with bench.pool.acquire() as conn:
        rescored = await rescore_leads(conn, [(bench.who.tenant_id, True, lead_id)])

    assert rescored.changed == 1


async def test_scorers_and_the_api_never_deadlock_over_the_same_leads(
    bench: Workbench, settings: Settings
) -> None:
    ids = [await bench.capture(f'{{"email": "{n}@acme.com"}}') for n in range(40)]
    keys = [(bench.who.tenant_id, True, lead_id) for lead_id in ids]

    async def rescore(seed: int) -> None:
        for number in range(15):

            def scoring(_: Facts, __: Rules, ___: datetime, n: int = number) -> Score:
                return Score((seed * 15 + n) % 100, [], None)

            shuffled = random.Random(seed * 100 + number).sample(keys, len(keys))
            async with pool.acquire() as conn:
                await rescore_leads(conn, shuffled, scoring)

    async def patch(seed: int) -> None:
        for number in range(60):
            await bench.patch(random.Random(seed + number).choice(ids), f'{{"name": "{number}"}}')

    async with await create_pool(settings, "tests", 8) as pool:
        await asyncio.gather(*(rescore(n) for n in range(4)), *(patch(n) for n in range(4)))
    versions = await bench.pool.fetch("SELECT lead_id, version FROM outbox ORDER BY lead_id, id")
    by_lead: defaultdict[str, list[int]] = defaultdict(list)
    for row in versions:
        by_lead[row["lead_id"]].append(row["version"])
    assert all(found == list(range(1, len(found) + 1)) for found in by_lead.values())
    assert len(versions) > 300


@given(st.lists(st.tuples(st.integers(1, 2), st.booleans(), st.sampled_from("ab"),
                          st.sampled_from([ACTOR, "key_1"]))))  # fmt: skip
def test_dirty_are_the_leads_that_others_have_touched_each_once_in_key_order(
    touches: list[tuple[int, bool, str, str]],
) -> None:
    events = [
        Event(n, 0, tenant_id, live, lead_id, n, "evt", "lead.updated", actor, "", "{}", 1)
        for n, (tenant_id, live, lead_id, actor) in enumerate(touches)
    ]
    dirty = find_dirty_leads(events)

    assert dirty == sorted(set(dirty))
    assert set(dirty) == {touch[:3] for touch in touches if touch[3] != ACTOR}
