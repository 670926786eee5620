"""Leads are written while workers, Valkey and PostgreSQL are killed, stopped and wiped.

The receiver keeps a ledger of the events that it accepted. In the end it must hold every event of
the log, the events of each lead in order, and few duplicates. `make faults` runs all tests at full
length.
"""

import asyncio
import os
import signal

import pytest
import redis.asyncio

from tests.faults.fault_harness import FaultHarness, FaultServers, Plan, Say, run_faults
from tests.faults.ledger import Outcome
from tests.harness.worker_harness import WorkerHarness
from workers.delivery.settlement import MAX_BATCH

UNSYNCED_S = 1.0
"""PostgreSQL writes an asynchronous commit within three times its wal_writer_delay."""
LONG = [pytest.mark.long, pytest.mark.timeout(1800)]


def plans(short: Plan, long: Plan) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "plan", [pytest.param(short, id="short"), pytest.param(long, id="long", marks=LONG)]
    )


async def kill_dispatchers(harness: FaultHarness) -> int:
    """Kills the worker that dispatches with kill -9 and starts another one, again and again."""
    bound = 0
    for kill in range(harness.plan.faults):
        victim = await harness.find_dispatcher()
        await harness.progress(30)
        await asyncio.sleep(harness.plan.pause_s)
        victim.kill()
        await victim.wait()
        in_flight = await harness.expire_leases(victim.pid)
        bound += in_flight + MAX_BATCH
        await harness.start_worker()
        harness.say(f"kill {kill + 1} of {harness.plan.faults}: {in_flight} in flight, "
                  f"{len(harness.ledger.accepted):,} accepted")  # fmt: skip
    return bound


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "plan", [Plan(faults=20, hurry=False, away_s=0, pause_s=2, refuse=0.005, patience_s=300)]
)
async def test_kill_9_of_workers_under_load_loses_nothing(
    servers: FaultServers, writer: WorkerHarness, plan: Plan, say: Say, keep: list[Outcome]
) -> None:
    keep.append(
        await run_faults(servers, writer, plan, "kill -9 of a dispatcher", kill_dispatchers, say)
    )
    keep[-1].check()


async def take_valkey_away(harness: FaultHarness) -> int:
    """FLUSHALL a few times, then kill -9 and a time without Valkey; this permits no duplicates."""
    valkey = harness.servers.valkey
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        for _ in range(harness.plan.faults):
            await harness.progress(20)
            await client.flushall()
    os.kill(valkey.pid, signal.SIGKILL)
    await valkey.wait()
    before = len(harness.ledger.accepted)
    await asyncio.sleep(harness.plan.away_s)
    harness.say(
        f"{len(harness.ledger.accepted) - before:,} accepted in {harness.plan.away_s} s without"
    )
    assert len(harness.ledger.accepted) - before > 10 * harness.plan.away_s
    await valkey.start()
    return 0


@plans(
    Plan(faults=3, hurry=True, away_s=1.5),
    Plan(faults=20, hurry=False, away_s=60, patience_s=300),
)
async def test_flushing_and_stopping_valkey_loses_nothing(
    servers: FaultServers, writer: WorkerHarness, plan: Plan, say: Say, keep: list[Outcome]
) -> None:
    title = f"FLUSHALL, then Valkey away for {plan.away_s:g} s"
    keep.append(await run_faults(servers, writer, plan, title, take_valkey_away, say))
    keep[-1].check()


async def crash_postgres(harness: FaultHarness) -> int:
    """Crashes PostgreSQL like `pg_ctl restart -m immediate`, with a pause before its start."""
    bound = 0
    for crash in range(harness.plan.faults):
        await harness.progress(30)
        await asyncio.sleep(harness.plan.pause_s)
        in_flight = await harness.count_in_flight()
        unsynced = harness.ledger.count_since(UNSYNCED_S)
        os.kill(harness.servers.postgres.pid, signal.SIGQUIT)
        await harness.servers.postgres.wait()
        bound += in_flight + max(unsynced, harness.ledger.count_since(UNSYNCED_S)) + MAX_BATCH
        await asyncio.sleep(harness.plan.away_s)
        await harness.servers.postgres.start()
        await harness.progress(1)
        bound += await harness.expire_leases(0)  # of deliveries whose settlement was undone
        harness.say(f"crash {crash + 1} of {harness.plan.faults}: {in_flight} in flight, "
                  f"{len(harness.ledger.accepted):,} accepted")  # fmt: skip
    return bound


@plans(
    Plan(faults=1, hurry=True, away_s=0.5),
    Plan(faults=10, hurry=False, away_s=2, pause_s=3, patience_s=300),
)
async def test_crashes_of_postgres_lose_nothing(
    servers: FaultServers, writer: WorkerHarness, plan: Plan, say: Say, keep: list[Outcome]
) -> None:
    title = "PostgreSQL restart -m immediate"
    keep.append(await run_faults(servers, writer, plan, title, crash_postgres, say))
    keep[-1].check()


async def freeze_dispatcher(harness: FaultHarness) -> int:
    """SIGSTOP past all leases; SIGCONT after another dispatcher has sent what was in flight."""
    bound = refused = 0
    for freeze in range(harness.plan.faults):
        victim = await harness.find_dispatcher()
        await harness.progress(30)
        harness.ledger.delay_s = 0.15
        await harness.progress(10)
        victim.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.4)  # its last requests get responses
        harness.ledger.delay_s = 0.02
        tokens = await harness.pool.fetch(
            "SELECT id, token FROM delivery WHERE leased_until IS NOT NULL"
        )
        assert tokens
        bound += await harness.expire_leases(victim.pid) + MAX_BATCH

        async def taken_over(ids: list[int] = [row["id"] for row in tokens]) -> bool:  # noqa: B006
            left: int = await harness.pool.fetchval(
                "SELECT count(*) FROM delivery WHERE id = ANY ($1)", ids
            )
            return left == 0

        await harness.wait_for(taken_over, "other dispatcher")
        victim.send_signal(signal.SIGCONT)

        async def told(pid: int = victim.pid) -> int:
            lines = harness.read_log(pid)
            return sum(line.get("outcome") == "stale" for line in lines)

        refused += await harness.wait_for(told, "late settlement")
        harness.say(f"freeze {freeze + 1} of {harness.plan.faults}: {len(tokens)} in flight, "
                  f"{refused} late settlements refused so far")  # fmt: skip
    assert refused
    return bound


@plans(
    Plan(faults=1, hurry=True, away_s=0),
    Plan(faults=5, hurry=False, away_s=0, patience_s=300),
)
async def test_a_frozen_dispatcher_settles_nothing_after_it_resumes(
    servers: FaultServers, writer: WorkerHarness, plan: Plan, say: Say, keep: list[Outcome]
) -> None:
    title = "SIGSTOP past the lease, then SIGCONT"
    keep.append(await run_faults(servers, writer, plan, title, freeze_dispatcher, say))
    keep[-1].check()
