"""One run: warm up, load, wait until every reader has caught up; read all counters around it."""

import asyncio
import secrets
import shutil
import sys
import time

from service.cli.dev.supervisor import PROJECT
from tests.bench.load.wrk import TIMEOUT_S, Load, WrkResult, parse_wrk, run_wrk
from tests.bench.pipeline import probe
from tests.bench.pipeline.cpu import Meter, compute_percents, subtract
from tests.bench.pipeline.observers import Observers, watch
from tests.bench.pipeline.plan import LoadSpec, Step, Variant
from tests.bench.pipeline.probe import Latency
from tests.bench.pipeline.profile import record
from tests.bench.pipeline.run import Run
from tests.bench.pipeline.stage import Running, Side, run_processes
from tests.bench.programs import LoadError, run_program

WARM_UP = LoadSpec("warm-up", "closed", connections=16)
SECOND_WARM_UP = LoadSpec("warm-up", "paced", connections=1, rate=100)
"""After the vacuum, which voids plans; slow, because each lead may have ENDPOINTS deliveries."""
WARM_UP_S, SECOND_WARM_UP_S = 2.0, 1.0
POLL_S = 0.05
QUIET_S = 1.0
"""Without a statement of the lag: readers have finished if nothing arrived for this long."""
PATIENCE_S = 60.0
"""The least time that a run waits for readers; a longer load is given its own length."""
NOTHING = WrkResult(0, 0, 0, 0, 0, 0, 0)


async def measure(
    side: Side, step: Step, number: int, seconds: float, *, with_profile: bool = False
) -> Run:
    """Measures one load on one tree; `number` is the round's."""
    async with run_processes(side) as running:
        await warm_up(running, WARM_UP, "plain", WARM_UP_S)
        await running.conn.execute("VACUUM (ANALYZE)", timeout=300)
        async with watch(running, step.variant) as observers:
            await warm_up(running, SECOND_WARM_UP, step.variant, SECOND_WARM_UP_S)
            return await _measure(running, observers, step, number, seconds, with_profile)


async def warm_up(running: Running, load: LoadSpec, variant: Variant, seconds: float) -> None:
    """Brings caches, plans and statistics to the state of a service that has run for a while."""
    await run_load(running, load, variant, seconds)
    if not await catch_up(running, None, PATIENCE_S):
        raise LoadError(
            f"The readers of {running.side.tree.name} do not keep up with the warm-up: "
            f"see {running.side.stage.folder}/work.log."
        )


async def _measure(
    running: Running, observers: Observers, step: Step, number: int, seconds: float,
    with_profile: bool,
) -> Run:  # fmt: skip
    side, stage = running.side, running.side.stage
    pids = {
        "PostgreSQL": stage.postgres.pid, "Valkey": stage.valkey.pid,
        "API": running.api.child.pid, "worker": running.worker.pid,
    }  # fmt: skip
    meter = Meter(pids, [side.admin.get_server_pid(), running.conn.get_server_pid()])
    sizes, leads = await probe.read_sizes(running), await probe.count_leads(running)
    since, wal = await probe.read_clock(running), await probe.read_wal_position(running)
    await observers.take()
    await probe.reset_statements(running)
    begin = meter.read(time.perf_counter())
    profiled = {name: pids[name] for name in ("API", "worker") if with_profile}
    async with record(profiled, seconds) as profile:
        result = await run_load(running, step.load, step.variant, seconds)
        loaded = meter.read(time.perf_counter())
        lags = await probe.read_lags(running) or {}
    has_caught_up = await catch_up(running, observers, max(PATIENCE_S, seconds))
    end = meter.read(time.perf_counter())
    statements = await probe.read_statements(running)
    seen = await observers.take()
    changes = (
        result.requests - result.failures
        if step.variant == "mix"
        else await probe.count_leads(running) - leads
    )
    score = await probe.read_score_latency(running, since)
    latencies = {
        "request": Latency(result.p50_us / 1000, result.p99_us / 1000) if result.requests else None,
        "score": score, **seen.latencies,
    }  # fmt: skip
    return Run(
        tree=side.tree.name, round=number, load=step.load.name, variant=step.variant,
        seconds=loaded.at - begin.at, changes=changes, failures=result.failures,
        catch_up_s=end.at - loaded.at, has_caught_up=has_caught_up, lag_s=lags,
        cpu_s=subtract(end, begin), percents=compute_percents(loaded, begin),
        latencies={name: found for name, found in latencies.items() if found},
        statements=statements, sizes=probe.subtract_sizes(await probe.read_sizes(running), sizes),
        wal_bytes=await probe.read_wal_position(running) - wal,
        profile=profile, deliveries=seen.deliveries, entries=seen.entries,
    )  # fmt: skip


async def run_load(running: Running, load: LoadSpec, variant: Variant, seconds: float) -> WrkResult:
    """Runs the load generator in its own process; wrk for closed loads of creates."""
    server = running.api.server
    if load.kind == "idle":
        await asyncio.sleep(seconds)
        return NOTHING
    if load.kind == "closed" and variant != "mix" and shutil.which("wrk"):
        return await run_wrk(
            Load(
                url=server.url, key=server.key, kind="post", leads=server.leads, seconds=seconds,
                connections=load.connections,
            )
        )  # fmt: skip
    environ = {
        "PYTHONPATH": str(PROJECT),
        "LOAD_URL": server.url,
        "LOAD_KEY": server.key,
        "LOAD_KIND": "mix" if variant == "mix" else "post",
        "LOAD_RUN": secrets.token_hex(4),
        "LOAD_RATE": str(load.rate),
        "LOAD_CONNECTIONS": str(load.connections),
        "LOAD_SECONDS": str(seconds),
    }
    program = [sys.executable, "-P", "-m", "tests.bench.pipeline.generator"]
    return parse_wrk(await run_program(program, seconds + TIMEOUT_S, environ))


async def catch_up(running: Running, observers: Observers | None, patience_s: float) -> bool:
    """Waits until every reader and every delivery has finished; False if that takes too long."""
    end, quiet_since, arrived = time.monotonic() + patience_s, time.monotonic(), -1
    while time.monotonic() < end:
        lags = await probe.read_lags(running)
        if lags is None:
            count = await observers.count() if observers else 0
            if count != arrived:
                arrived, quiet_since = count, time.monotonic()
            is_done = time.monotonic() - quiet_since > QUIET_S
        else:
            is_done = not any(lags.values())
        if is_done and not await probe.has_pending_deliveries(running):
            return True
        await asyncio.sleep(POLL_S)
    return False
