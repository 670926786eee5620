"""Leads are written while workers, Valkey and PostgreSQL are killed, stopped and wiped.

The receiver keeps a ledger of what it accepted; in the end it must hold every event of the log,
each lead's in their order, and little twice. `make faults` runs it all at full length.
"""

import asyncio
import os
import signal

import pytest
import redis.asyncio

from tests.faults.ledger import Outcome
from tests.faults.plant import Home, Plan, Plant, Say, run_faults
from tests.workbench import Workbench
from workers.delivery.settling import MAX_BATCH

UNSYNCED_S = 1.0
"""PostgreSQL writes a commit that nobody waits for within three times its wal_writer_delay."""
LONG = [pytest.mark.long, pytest.mark.timeout(1800)]


def plans(short: Plan, long: Plan) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "plan", [pytest.param(short, id="short"), pytest.param(long, id="long", marks=LONG)]
    )


async def kill_dispatchers(plant: Plant) -> int:
    """kill -9 of whichever worker dispatches; another is started in its place."""
    bound = 0
    for kill in range(plant.plan.faults):
        victim = await plant.find_dispatcher()
        await plant.progress(30)
        await asyncio.sleep(plant.plan.pause_s)
        victim.kill()
        await victim.wait()
        in_flight = await plant.expire_leases(victim.pid)
        bound += in_flight + MAX_BATCH
        await plant.start_worker()
        plant.say(f"kill {kill + 1} of {plant.plan.faults}: {in_flight} in flight, "
                  f"{len(plant.ledger.accepted):,} accepted")  # fmt: skip
    return bound


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "plan", [Plan(faults=20, hurry=False, away_s=0, pause_s=2, refuse=0.005, patience_s=300)]
)
async def test_kill_9_of_workers_under_load(
    home: Home, writer: Workbench, plan: Plan, say: Say, keep: list[Outcome]
) -> None:
    keep.append(
        await run_faults(home, writer, plan, "kill -9 of a dispatcher", kill_dispatchers, say)
    )
    keep[-1].check()


async def take_valkey_away(plant: Plant) -> int:
    """FLUSHALL a few times, then kill -9 and nothing there for a while: no reason to repeat."""
    valkey = plant.home.valkey
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        for _ in range(plant.plan.faults):
            await plant.progress(20)
            await client.flushall()
    os.kill(valkey.pid, signal.SIGKILL)
    await valkey.wait()
    before = len(plant.ledger.accepted)
    await asyncio.sleep(plant.plan.away_s)
    plant.say(f"{len(plant.ledger.accepted) - before:,} accepted in {plant.plan.away_s} s without")
    assert len(plant.ledger.accepted) - before > 10 * plant.plan.away_s
    await valkey.start()
    return 0


@plans(
    Plan(faults=3, hurry=True, away_s=1.5),
    Plan(faults=20, hurry=False, away_s=60, patience_s=300),
)
async def test_valkey_flushed_and_away(
    home: Home, writer: Workbench, plan: Plan, say: Say, keep: list[Outcome]
) -> None:
    title = f"FLUSHALL, then Valkey away for {plan.away_s:g} s"
    keep.append(await run_faults(home, writer, plan, title, take_valkey_away, say))
    keep[-1].check()


async def crash_postgres(plant: Plant) -> int:
    """As `pg_ctl restart -m immediate` does it, a moment away in between."""
    bound = 0
    for crash in range(plant.plan.faults):
        await plant.progress(30)
        await asyncio.sleep(plant.plan.pause_s)
        in_flight = await plant.count_in_flight()
        unsynced = plant.ledger.count_since(UNSYNCED_S)
        os.kill(plant.home.postgres.pid, signal.SIGQUIT)
        await plant.home.postgres.wait()
        bound += in_flight + max(unsynced, plant.ledger.count_since(UNSYNCED_S)) + MAX_BATCH
        await asyncio.sleep(plant.plan.away_s)
        await plant.home.postgres.start()
        await plant.progress(1)
        bound += await plant.expire_leases(0)  # those whose settlements were undone
        plant.say(f"crash {crash + 1} of {plant.plan.faults}: {in_flight} in flight, "
                  f"{len(plant.ledger.accepted):,} accepted")  # fmt: skip
    return bound


@plans(
    Plan(faults=1, hurry=True, away_s=0.5),
    Plan(faults=10, hurry=False, away_s=2, pause_s=3, patience_s=300),
)
async def test_postgres_crashes(
    home: Home, writer: Workbench, plan: Plan, say: Say, keep: list[Outcome]
) -> None:
    title = "PostgreSQL restart -m immediate"
    keep.append(await run_faults(home, writer, plan, title, crash_postgres, say))
    keep[-1].check()


async def freeze_dispatcher(plant: Plant) -> int:
    """SIGSTOP past all leases, SIGCONT when another has taken over and sent what was in flight."""
    bound = refused = 0
    for freeze in range(plant.plan.faults):
        victim = await plant.find_dispatcher()
        await plant.progress(30)
        plant.ledger.delay_s = 0.15
        await plant.progress(10)
        victim.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.4)  # its last requests are answered
        plant.ledger.delay_s = 0.02
        tokens = await plant.pool.fetch(
            "SELECT id, token FROM delivery WHERE leased_until IS NOT NULL"
        )
        assert tokens
        bound += await plant.expire_leases(victim.pid) + MAX_BATCH

        async def taken_over(ids: list[int] = [row["id"] for row in tokens]) -> bool:  # noqa: B006
            left: int = await plant.pool.fetchval(
                "SELECT count(*) FROM delivery WHERE id = ANY ($1)", ids
            )
            return left == 0

        await plant.wait_for(taken_over, "other dispatcher")
        victim.send_signal(signal.SIGCONT)

        async def told(pid: int = victim.pid) -> int:
            lines = plant.read_log(pid)
            return sum(line.get("outcome") == "stale" for line in lines)

        refused += await plant.wait_for(told, "late settlement")
        plant.say(f"freeze {freeze + 1} of {plant.plan.faults}: {len(tokens)} in flight, "
                  f"{refused} late settlements refused so far")  # fmt: skip
    assert refused
    return bound


@plans(
    Plan(faults=1, hurry=True, away_s=0),
    Plan(faults=5, hurry=False, away_s=0, patience_s=300),
)
async def test_a_frozen_dispatcher_that_thaws_settles_nothing(
    home: Home, writer: Workbench, plan: Plan, say: Say, keep: list[Outcome]
) -> None:
    title = "SIGSTOP past the lease, then SIGCONT"
    keep.append(await run_faults(home, writer, plan, title, freeze_dispatcher, say))
    keep[-1].check()
