"""An endpoint with many deliveries is down for an hour and then comes back.

The test does not wait for an hour: pass_time moves all times back that are compared with the clock,
in the tables and in the dispatcher's lanes. For the comparisons this equals waiting.
"""

import socket
import time

import pytest
import redis.asyncio

from service.database.connect import Pool
from service.settings import Settings
from tests.faults.fault_harness import Say
from tests.faults.ledger import Ledger, Outcome, read_id
from tests.harness.delivery_harness import DeliveryHarness, close, open_delivery_harness
from tests.harness.worker_harness import make_worker_harness
from tests.loopback.receiver import run_receiver
from workers.delivery.lane import MAX_WINDOW
from workers.dispatcher import Dispatcher

VERSIONS = 10
HOUR_S = 3600.0
FEW_ATTEMPTS = 40
"""The limit for an hour: a first window, and a probe every ten minutes from a half-open breaker."""


async def pass_time(
    delivery_harness: DeliveryHarness, dispatcher: Dispatcher, seconds: float
) -> None:
    """Moves all times back by `seconds`, as if they had passed."""
    await delivery_harness.pool.execute(
        "UPDATE delivery SET due_at = due_at - $1 * interval '1 second', "
        "deadline_at = deadline_at - $1 * interval '1 second', "
        "leased_until = leased_until - $1 * interval '1 second'",
        seconds,
    )
    await delivery_harness.pool.execute(
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


async def find_wait_s(delivery_harness: DeliveryHarness, dispatcher: Dispatcher) -> float:
    """The seconds until a delivery may be sent again."""
    wait_s: float = await delivery_harness.pool.fetchval(
        "SELECT extract(epoch FROM greatest(min(d.due_at), max(h.closed_until)) - now())::float8 "
        "FROM delivery d JOIN endpoint_health h ON h.endpoint_id = d.endpoint_id"
    )
    lane = dispatcher._lanes[delivery_harness.id]
    return max(wait_s, lane.closed_until - time.monotonic(), 0.01)


@pytest.mark.parametrize(
    "leads",
    [
        pytest.param(150, id="short"),
        pytest.param(5000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
async def test_after_an_hour_down_all_events_arrive_in_order_without_a_storm(
    committed: Pool, settings: Settings, redis_client: redis.asyncio.Redis, leads: int,
    say: Say, keep: list[Outcome],
) -> None:  # fmt: skip
    begun = time.monotonic()
    ledger = Ledger(0.001, read=read_id)
    wanted = [(f"l{n}", version) for version in range(1, VERSIONS + 1) for n in range(leads)]
    with socket.socket() as listener:  # bound, not listening: connections are refused
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        delivery_harness = await open_delivery_harness(
            await make_worker_harness(committed, settings, redis_client), url
        )
        await delivery_harness.add(*wanted)
        dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
        attempts = await stay_down(delivery_harness, dispatcher, say)
        assert await committed.fetchval("SELECT count(*) FROM delivery") == len(wanted)
        async with run_receiver(ledger.answer, listener):
            await drain(delivery_harness, dispatcher, ledger, say)
        await close(dispatcher)
    outcome = ledger.compare("endpoint down for an hour", 1, set(wanted), 0)
    outcome.seconds = time.monotonic() - begun
    outcome.notes = f"{attempts} attempts in the hour, at most {max(ledger.opens)} at once then"
    keep.append(outcome)
    outcome.check()
    assert attempts <= FEW_ATTEMPTS
    assert ledger.opens[0] == 1  # one probe; the rest after its success
    assert ledger.opens[1] == 1
    assert max(ledger.opens) <= MAX_WINDOW


async def stay_down(delivery_harness: DeliveryHarness, dispatcher: Dispatcher, say: Say) -> int:
    """Lets an hour pass with refused connections; returns the number of attempts."""
    passed_s = 0.0
    while passed_s < HOUR_S:
        await delivery_harness.run_until_idle(dispatcher)
        await dispatcher.maintenance.run()
        step_s = min(await find_wait_s(delivery_harness, dispatcher), HOUR_S - passed_s) + 0.05
        await pass_time(delivery_harness, dispatcher, step_s)
        passed_s += step_s
    say(f"{passed_s:.0f} s have passed")
    found: int = await delivery_harness.pool.fetchval("SELECT count(*) FROM attempt")
    return found


async def drain(
    delivery_harness: DeliveryHarness, dispatcher: Dispatcher, ledger: Ledger, say: Say
) -> None:
    """Runs the dispatcher until all is delivered; lets time pass while nothing may be sent."""
    while await delivery_harness.pool.fetchval("SELECT EXISTS (SELECT FROM delivery)"):
        await pass_time(
            delivery_harness, dispatcher, await find_wait_s(delivery_harness, dispatcher)
        )
        await delivery_harness.run_until_idle(dispatcher)
        say(f"{len(ledger.accepted):,} accepted")
