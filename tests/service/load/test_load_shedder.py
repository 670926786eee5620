"""Which requests a process accepts, and which callers are refused first."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from service.errors import Overloaded
from service.load.admission import CALM_PART, CROWD_LIMITS
from service.load.callers import Caller
from service.load.load_shedder import (
    SHARE,
    UNIDENTIFIED_PER_PERIOD,
    LoadShedder,
    waiting,
)
from service.load.overload_detector import ALWAYS_ADMITTED, LOOP_TURNS
from service.load.owner import MOST_KEYS, OWNER, KnownKeys, find_network
from tests.service.load.simulation import Clock

LIMIT_S = 0.15
LOOK_S = 0.025


def ask(
    header: bytes | None = None, host: str = "10.0.0.1"
) -> tuple[dict[bytes, bytes], tuple[str, int]]:
    fields = {} if header is None else {b"authorization": header}
    return fields, (host, 1234)


def make_caller(shedder: LoadShedder, name: str) -> Caller:
    header = f"Bearer {name}".encode()
    shedder.known_keys.add(header, name)
    return shedder.identify(*ask(header))


def note_time(shedder: LoadShedder, seconds: float) -> None:
    for _ in range(round(seconds / LOOK_S)):
        shedder.load.note_time(LOOK_S)


def warm_up(shedder: LoadShedder) -> None:
    """Set the state after a crowd of the longest permitted duration."""
    shedder.load._busy_s = CROWD_LIMITS * LIMIT_S


def test_only_a_lasting_lag_is_an_overload() -> None:
    shedder, late_s = LoadShedder(LIMIT_S), LIMIT_S / LOOP_TURNS + 0.005
    warm_up(shedder)
    for lag_s, now, is_overloaded in (
        (late_s, 1.0, False), (late_s, 1.02, False), (late_s, 1.06, True), (0.001, 1.07, False),
        (late_s, 1.08, False),
    ):  # fmt: skip
        shedder.load.note_lag(lag_s, now)
        assert shedder.load.is_overloaded is is_overloaded


def test_a_lag_in_a_first_crowd_is_no_overload_and_after_a_calm_the_next_crowd_is_a_first() -> None:
    shedder, late_s = LoadShedder(LIMIT_S), LIMIT_S
    crowd_s = CROWD_LIMITS * LIMIT_S
    shedder.load.note_lag(late_s, 1.0)
    shedder.load.note_lag(late_s, 2.0)
    note_time(shedder, crowd_s - 1)
    assert not shedder.load.is_overloaded
    note_time(shedder, 2)
    assert shedder.load.is_overloaded
    shedder.load.note_lag(0, 3.0)
    note_time(shedder, crowd_s / CALM_PART * 2 + 1)
    shedder.load.note_lag(late_s, 4.0)
    shedder.load.note_lag(late_s, 5.0)
    assert not shedder.load.is_overloaded


def test_a_crowd_is_admitted_as_far_as_it_can_be_served_in_twice_the_limit() -> None:
    shedder = LoadShedder(LIMIT_S)
    caller = make_caller(shedder, "key")
    warm_up(shedder)
    for _ in range(1000):  # a burst, before any rate is measured
        assert not shedder.refuses(caller)
        shedder.request_started(caller)
    for _ in range(100):  # 25 of them are served in 25 ms: 1,000 a second
        for _ in range(25):
            shedder.request_finished(caller)
            shedder.request_started(caller)
        shedder.load.note_time(LOOK_S)
    assert shedder.refuses(caller)
    for _ in range(690):
        shedder.request_finished(caller)
    shedder.load.note_time(LOOK_S)  # all were served at once
    warm_up(shedder)
    while not shedder.refuses(caller):
        shedder.request_started(caller)
    assert shedder.load.at_work > 310


async def test_a_few_requests_are_always_admitted_and_waits_for_an_event_do_not_count() -> None:
    shedder = LoadShedder(LIMIT_S)
    caller = make_caller(shedder, "key")
    for _ in range(ALWAYS_ADMITTED):
        shedder.request_started(caller)
    note_time(shedder, 10)  # no request is served
    assert shedder.refuses(caller)
    OWNER.set(caller)
    async with waiting():
        assert not shedder.refuses(caller)
    OWNER.set(None)
    assert shedder.refuses(caller)
    shedder.request_finished(caller)
    assert not shedder.refuses(caller)


def test_a_flooding_caller_is_refused_and_a_modest_caller_is_admitted() -> None:
    shedder = LoadShedder(LIMIT_S)
    flood, modest = make_caller(shedder, "flood"), make_caller(shedder, "modest")
    shedder.load.note_lag(1, 1.0)
    shedder.load.note_lag(1, 2.0)
    warm_up(shedder)
    for _ in range(200):
        shedder.request_started(flood)
    assert shedder.refuses(flood)
    assert not shedder.refuses(modest)
    shedder.request_started(modest)
    assert not shedder.refuses(modest)
    for _ in range(200):  # its only open requests are delayed refusals
        shedder.request_finished(flood)
    with shedder.refusing(flood, started=False), shedder.refusing(flood, started=False):
        assert shedder.refuses(flood)
        assert not shedder.refuses(modest)
    shedder.request_finished(modest)
    assert shedder._open == shedder._open_callers == shedder.load.at_work == 0


def test_a_caller_without_open_requests_is_admitted_while_others_cause_the_load() -> None:
    shedder = LoadShedder(LIMIT_S)
    make_caller(shedder, "flood")
    modest = make_caller(shedder, "modest")
    shedder.load.note_lag(1, 1.0)
    shedder.load.note_lag(1, 2.0)
    warm_up(shedder)
    assert not shedder.refuses(modest)  # all requests of the flood are served at once
    shedder.begin_period()
    shedder.begin_period()
    assert shedder.refuses(make_caller(shedder, "modest"))  # no other caller is left


def test_responses_without_a_key_are_delayed_only_for_addresses_with_many_requests() -> None:
    shedder = LoadShedder(LIMIT_S)
    address = shedder.identify(*ask())
    for _ in range(UNIDENTIFIED_PER_PERIOD):
        with shedder.identifying(address):
            assert (shedder._open, shedder.load.at_work) == (1, 0)
            assert not shedder.count_unidentified(address)
    assert shedder.count_unidentified(address)
    assert not shedder.count_unidentified(shedder.identify(*ask(host="10.0.0.2")))
    shedder.begin_period()
    assert not shedder.count_unidentified(shedder.identify(*ask()))
    address.open = SHARE + 1
    assert shedder.count_unidentified(address)


def test_the_first_requests_of_a_key_do_not_make_its_address_another_caller() -> None:
    shedder = LoadShedder(LIMIT_S)
    address = shedder.identify(*ask(b"Bearer new"))
    make_caller(shedder, "new")
    assert not shedder.is_shared
    shedder.count_unidentified(address)
    assert shedder.is_shared


def test_the_delay_of_refusals_bounds_their_rate() -> None:
    caller = Caller(LoadShedder(LIMIT_S), "key", has_key=True)
    for requests, delay_s in ((1, 0.1), (50, 0.1), (250, 0.5), (2_000, 1.0)):
        caller.open = requests
        assert caller.refusal_delay_s == pytest.approx(delay_s)


async def test_requests_that_begin_to_wait_for_an_event_count_as_done() -> None:
    shedder = LoadShedder(LIMIT_S)
    caller = make_caller(shedder, "key")
    warm_up(shedder)
    async with AsyncExitStack() as stack:
        for _ in range(100):  # 50 begin to wait in 25 ms: 2,000 a second
            for _ in range(50):
                shedder.request_started(caller)
            for _ in range(ALWAYS_ADMITTED + 50 - shedder.load.at_work):
                shedder.request_started(caller)
            for _ in range(50):
                await stack.enter_async_context(shedder.waiting(caller, skips_share=True))
            shedder.load.note_time(LOOK_S)
        assert not shedder.refuses(caller)


async def test_a_caller_among_others_has_at_most_its_share_of_requests_in_progress() -> None:
    shedder = LoadShedder(LIMIT_S, Clock())
    flood = make_caller(shedder, "flood")

    async def begin() -> None:
        shedder.request_started(flood)
        await shedder.wait_for_share(flood)

    begun = [asyncio.create_task(begin()) for _ in range(3 * SHARE)]
    await asyncio.sleep(0)
    assert all(task.done() for task in begun)  # no other caller is present
    modest = make_caller(shedder, "modest")
    late = [asyncio.create_task(begin()) for _ in range(3)]
    shedder.request_started(modest)
    await asyncio.wait_for(shedder.wait_for_share(modest), 5)
    for _ in range(2 * SHARE):
        shedder.request_finished(flood)
        await asyncio.sleep(0)
        assert not any(task.done() for task in late)
    shedder.request_finished(flood)
    await late[0]
    assert flood.working == SHARE
    late[1].cancel()
    await asyncio.gather(late[1], return_exceptions=True)
    shedder.request_finished(flood)  # the cancelled request
    shedder.request_finished(flood)
    await late[2]
    for _ in range(SHARE):
        shedder.request_finished(flood)
    shedder.request_finished(modest)
    assert (flood.working, flood.open, shedder.load.at_work, shedder._open) == (0, 0, 0, 0)


async def test_a_request_that_waits_for_its_share_starts_when_the_other_callers_are_gone() -> None:
    shedder = LoadShedder(LIMIT_S)
    flood = make_caller(shedder, "flood")
    make_caller(shedder, "modest")
    for _ in range(SHARE + 1):
        shedder.request_started(flood)
    waits = asyncio.create_task(shedder.wait_for_share(flood))
    await asyncio.sleep(0)
    for _ in range(2):
        shedder.begin_period()
        assert shedder.identify(*ask(b"Bearer flood")) is flood
    shedder._leave_share(flood)
    await waits
    assert not shedder.is_shared


async def test_requests_beyond_the_share_are_refused_by_their_expected_wait() -> None:
    clock = Clock()
    shedder = LoadShedder(LIMIT_S, clock)
    flood = make_caller(shedder, "flood")
    make_caller(shedder, "modest")
    tasks: list[asyncio.Task[None]] = []

    async def begin() -> None:
        shedder.request_started(flood)
        try:
            await shedder.wait_for_share(flood)
        except Overloaded:
            shedder.request_finished(flood, refused=True)
            raise

    for _ in range(2_000):  # every 10 ms two arrive and one ends
        tasks += [asyncio.create_task(begin()) for _ in range(2)]
        await asyncio.sleep(0)
        clock.now += 0.01
        if flood.working >= SHARE:
            shedder.request_finished(flood)
    still = [task for task in tasks if not task.done()]
    refused = [task for task in tasks if task.done() and task.exception()]
    assert len(still) * 0.01 < 2 * LIMIT_S
    assert 1_900 < len(refused) < 2_000
    for task in still:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_made_up_key_has_the_share_of_its_address() -> None:
    shedder = LoadShedder(LIMIT_S)
    shedder.known_keys.add(b"Bearer good", "key_1")
    shedder.known_keys.add(b"bearer  good", "key_1")
    address = shedder.identify(*ask())
    assert shedder.identify(*ask(b"Bearer made up")) is address
    assert shedder.identify(*ask(b"Bearer another")) is address
    assert shedder.identify(*ask(host="10.0.0.2")) is not address
    key = shedder.identify(*ask(b"Bearer good"))
    assert key is not address
    assert shedder.identify(*ask(b"bearer  good", host="10.0.0.2")) is key
    shedder.known_keys.discard(b"Bearer good")
    assert shedder.identify(*ask(b"Bearer good")) is address
    assert shedder.identify({}, None) is not address


def test_addresses_of_one_ipv6_network_are_one_caller() -> None:
    assert find_network("2001:db8:1:2:3::4") == find_network("2001:db8:1:2::1")
    assert find_network("2001:db8:1:3::1") != find_network("2001:db8:1:2::1")
    assert find_network("fe80::1%eth0") == "fe80::/64"
    assert [find_network(host) for host in ("10.0.0.1", "x:y")] == ["10.0.0.1", "x:y"]


def test_the_oldest_keys_and_idle_callers_are_removed() -> None:
    known = KnownKeys()
    for n in range(MOST_KEYS + 1):
        known.add(b"Bearer %d" % n, str(n))
    assert known.find(b"Bearer 0") is None
    assert known.find(b"Bearer %d" % MOST_KEYS) == str(MOST_KEYS)
    shedder = LoadShedder(LIMIT_S)
    for n in range(100):
        caller = shedder.identify(*ask(host=f"10.0.0.{n}"))
    shedder.request_started(caller)
    for _ in range(2):
        shedder.begin_period()
    assert list(shedder._callers.values()) == [caller]


@pytest.mark.parametrize("error", [None, ValueError])
async def test_a_request_counts_again_however_its_wait_ends(
    error: type[Exception] | None,
) -> None:
    shedder = LoadShedder(LIMIT_S)
    caller = make_caller(shedder, "key")
    shedder.request_started(caller)
    OWNER.set(caller)
    try:
        async with waiting():
            assert (caller.open, caller.working, shedder.load.at_work) == (0, 0, 0)
            if error is not None:
                raise error
    except ValueError:
        assert error is ValueError
    OWNER.set(None)
    assert (caller.open, caller.working, shedder.load.at_work) == (1, 1, 1)
    async with waiting():  # outside of a request
        assert (caller.open, caller.working, shedder.load.at_work) == (1, 1, 1)
