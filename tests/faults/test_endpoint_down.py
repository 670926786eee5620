"""An endpoint is down for an hour while much is for it, and then it is there again.

The hour is not waited for: pass_time moves every time that is compared with the clock back, in the
tables and in the dispatcher's lanes alike, which is the same to all who compare.
"""

import socket
import time

import pytest
import redis.asyncio

from service.db import Pool
from service.settings import Settings
from tests.desk import Desk, close, open_desk
from tests.faults.ledger import Ledger, Outcome, read_id
from tests.faults.plant import Say
from tests.receiver import run_receiver
from tests.workbench import make_workbench
from workers.delivery.lane import MAX_WINDOW
from workers.dispatcher import Dispatcher

VERSIONS = 10
HOUR_S = 3600.0
FEW_ATTEMPTS = 40
"""In an hour: a first window, and a probe each time the breaker half-opens, every ten minutes."""


async def pass_time(desk: Desk, dispatcher: Dispatcher, seconds: float) -> None:
    """As if so many seconds had gone by."""
    await desk.pool.execute(
        "UPDATE delivery SET due_at = due_at - $1 * interval '1 second', "
        "deadline_at = deadline_at - $1 * interval '1 second', "
        "leased_until = leased_until - $1 * interval '1 second'",
        seconds,
    )
    await desk.pool.execute(
        "UPDATE endpoint_health SET closed_until = closed_until - $1 * interval '1 second', "
        "excused_until = excused_until - $1 * interval '1 second', "
        "failing_since = failing_since - $1 * interval '1 second', "
        "last_success_at = last_success_at - $1 * interval '1 second'",
        seconds,
    )
    for lane in dispatcher._lanes.values():
        lane.closed_until -= seconds
        lane.span_end -= seconds
        lane.tokens_at -= seconds


async def find_wait_s(desk: Desk, dispatcher: Dispatcher) -> float:
    """Seconds until something may be sent again."""
    wait_s: float = await desk.pool.fetchval(
        "SELECT extract(epoch FROM greatest(min(d.due_at), max(h.closed_until)) - now())::float8 "
        "FROM delivery d JOIN endpoint_health h ON h.endpoint_id = d.endpoint_id"
    )
    lane = dispatcher._lanes[desk.id]
    return max(wait_s, lane.closed_until - time.monotonic(), 0.01)


@pytest.mark.parametrize(
    "leads",
    [
        pytest.param(150, id="short"),
        pytest.param(5000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
async def test_an_hour_down_and_all_arrives_in_order_without_a_storm(
    committed: Pool, settings: Settings, redis_client: redis.asyncio.Redis, leads: int,
    say: Say, keep: list[Outcome],
) -> None:  # fmt: skip
    begun = time.monotonic()
    ledger = Ledger(0.001, read=read_id)
    wanted = [(f"l{n}", version) for version in range(1, VERSIONS + 1) for n in range(leads)]
    with socket.socket() as listener:  # bound and deaf: connections are refused
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        desk = await open_desk(await make_workbench(committed, settings, redis_client), url)
        await desk.add(*wanted)
        dispatcher = Dispatcher(desk.shop, "dispatcher/0")
        attempts = await stay_down(desk, dispatcher, say)
        assert await committed.fetchval("SELECT count(*) FROM delivery") == len(wanted)
        async with run_receiver(ledger.answer, listener):
            await drain(desk, dispatcher, ledger, say)
        await close(dispatcher)
    outcome = ledger.compare("endpoint down for an hour", 1, set(wanted), 0)
    outcome.seconds = time.monotonic() - begun
    outcome.notes = f"{attempts} attempts in the hour, at most {max(ledger.opens)} at once then"
    keep.append(outcome)
    outcome.check()
    assert attempts <= FEW_ATTEMPTS
    assert ledger.opens[0] == 1  # one probe, and the rest when it has succeeded
    assert ledger.opens[1] == 1
    assert max(ledger.opens) <= MAX_WINDOW


async def stay_down(desk: Desk, dispatcher: Dispatcher, say: Say) -> int:
    """An hour of refused connections; how many there were."""
    passed_s = 0.0
    while passed_s < HOUR_S:
        await desk.land(dispatcher)
        await dispatcher.tidy()
        step_s = min(await find_wait_s(desk, dispatcher), HOUR_S - passed_s) + 0.05
        await pass_time(desk, dispatcher, step_s)
        passed_s += step_s
    say(f"{passed_s:.0f} s have passed")
    found: int = await desk.pool.fetchval("SELECT count(*) FROM attempt")
    return found


async def drain(desk: Desk, dispatcher: Dispatcher, ledger: Ledger, say: Say) -> None:
    """Until all is delivered; where nothing may be sent yet, time goes on."""
    while await desk.pool.fetchval("SELECT EXISTS (SELECT FROM delivery)"):
        await pass_time(desk, dispatcher, await find_wait_s(desk, dispatcher))
        await desk.land(dispatcher)
        say(f"{len(ledger.accepted):,} accepted")
