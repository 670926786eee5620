"""`python -m tests.bench.flood`: how requests of one key slow the requests of another key.

A separate process floods the service with one key: reads, creates, lists, searches and patches of
one lead; each connection sends the next request as soon as it has the response. A client of another
tenant sends requests at a modest rate, first without the flood and then with it.
"""

import asyncio
import itertools
import multiprocessing
import secrets
import statistics
import time
from collections import defaultdict
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import asyncpg
import typer
import uvloop

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.supervisor import PROJECT
from tests.bench.__main__ import uvloop_runner
from tests.bench.output.report import make_console
from tests.bench.stage import set_stage
from tests.bench.targets import Target, start_targets
from tests.harness.factories import make_lead, make_tenant

LEADS = 10_000
WANTED_FACTOR = 3.0
PROBE_EVERY_S = 0.03
KINDS = ("get", "post", "list", "search", "patch")
Answers = dict[str, list[tuple[int, float]]]
"""The status and the seconds of each response, by kind of request."""
console = make_console()


def measure(
    seconds: Annotated[float, typer.Option(min=2, help="Length of one run.")] = 10,
    connections: Annotated[int, typer.Option(min=1, help="Those of the flood.")] = 300,
    rounds: Annotated[int, typer.Option(min=1)] = 2,
    data_dir: Annotated[Path, typer.Option(help="Where the database is made.")] = PROJECT / ".data",
) -> None:
    """Measure the responses to a modest caller during another caller's flood."""
    with uvloop_runner() as runner:
        runner.run(_run(seconds, connections, rounds, data_dir))


async def _run(seconds: float, connections: int, rounds: int, data_dir: Path) -> None:
    async with set_stage(prepare_folder(data_dir), [LEADS], {}, console.print) as stage:
        [target] = (await start_targets(stage, [("service-1", LEADS)])).values()
        conn = await asyncpg.connect(target.database.dsn)
        modest = await make_tenant(conn)
        lead_id = await make_lead(conn, modest.id)
        await conn.close()
        await _probe(target.url, modest.key(), lead_id, 2)
        for _ in range(rounds):
            alone = await _probe(target.url, modest.key(), lead_id, seconds)
            flooded = await _probe_in_flood(target, modest.key(), lead_id, seconds, connections)
            _tell(alone, flooded)


async def _probe_in_flood(
    target: Target, key: str, lead_id: str, seconds: float, connections: int
) -> Answers:
    ask = multiprocessing.get_context("spawn")
    over = ask.Event()
    told: Any = ask.Queue()
    process = ask.Process(
        target=_flood, args=(target.url, target.database.key, connections, over, told)
    )
    process.start()
    await asyncio.sleep(3)  # Python starts, and the flood opens its connections
    answers = await _probe(target.url, key, lead_id, seconds)
    over.set()
    good, refused = await asyncio.to_thread(told.get)
    await asyncio.to_thread(process.join)
    console.print(f"flood: {good:,} answered well, {refused:,} refused")
    return answers


def _flood(url: str, key: str, connections: int, over: Event, told: Any) -> None:
    uvloop.run(_pour_all(url, key, connections, over, told))


async def _pour_all(url: str, key: str, connections: int, over: Event, told: Any) -> None:
    async with _open_session(url, key) as session:
        counts = {True: 0, False: 0}

        async def pour(kind: str) -> None:
            while not over.is_set():
                status, _ = await _ask(session, kind, f"lead_01J{1:023d}")
                counts[status < 300] += 1

        kinds = itertools.islice(itertools.cycle(KINDS), connections)
        await asyncio.gather(*(pour(kind) for kind in kinds))
    told.put((counts[True], counts[False]))


def _open_session(url: str, key: str) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {key}"}
    return aiohttp.ClientSession(url, headers=headers, connector=aiohttp.TCPConnector(limit=0))


async def _probe(url: str, key: str, lead_id: str, seconds: float) -> Answers:
    answers: Answers = defaultdict(list)
    async with _open_session(url, key) as session:

        async def ask(kind: str) -> None:
            answers[kind].append(await _ask(session, kind, lead_id))

        end, asked = time.monotonic() + seconds, []
        for kind in itertools.cycle(KINDS):
            if time.monotonic() > end:
                break
            asked.append(asyncio.create_task(ask(kind)))
            await asyncio.sleep(PROBE_EVERY_S)
        await asyncio.gather(*asked)
    return answers


async def _ask(session: aiohttp.ClientSession, kind: str, lead_id: str) -> tuple[int, float]:
    began = time.monotonic()
    word = secrets.token_hex(8)
    method, path, body = {
        "get": ("GET", f"/v1/leads/{lead_id}", None),
        "post": ("POST", "/v1/leads", {"email": f"{word}@acme-corp.com"}),
        "list": ("GET", "/v1/leads?limit=25", None),
        "search": ("GET", "/v1/leads/search?q=acme", None),
        "patch": ("PATCH", f"/v1/leads/{lead_id}", {"name": word}),
    }[kind]
    try:
        async with session.request(method, path, json=body) as response:
            await response.read()
            return response.status, time.monotonic() - began
    except (aiohttp.ClientError, TimeoutError):
        return 599, time.monotonic() - began


def _tell(alone: Answers, flooded: Answers) -> None:
    for kind in (*KINDS, "all"):
        before, after = (
            [each for kinds in ([kind] if kind != "all" else KINDS) for each in found[kinds]]
            for found in (alone, flooded)
        )
        (p50, p99), (flood_p50, flood_p99) = _find(before), _find(after)
        bad = sum(status >= 300 for status, _ in after)
        console.print(
            f"{kind}: {bad} of {len(after)} refused; p50 {p50:.1f} ms, in the flood "
            f"{flood_p50:.1f}; p99 {p99:.1f} ms, in the flood {flood_p99:.1f}: "
            f"{flood_p99 / p99:.1f} times, wanted < {WANTED_FACTOR:g}"
        )


def _find(answers: list[tuple[int, float]]) -> tuple[float, float]:
    """The p50 and the p99, in ms."""
    found = statistics.quantiles([seconds * 1000 for _, seconds in answers], n=100)
    return found[49], found[98]


if __name__ == "__main__":
    typer.run(measure)
