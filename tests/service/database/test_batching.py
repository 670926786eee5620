"""Batching: no delay when idle, full batches when busy, and each caller gets its own response."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from service.database.batching import Batcher
from service.errors import Overloaded, Unavailable
from service.load.admission import REQUEST_LIFE_S, STALLED_S
from service.load.owner import OWNER
from tests.service.load.simulation import Clock


class DeliveryHarness:
    """A `run` that a test can block, and that records its calls."""

    def __init__(
        self, *, bad: frozenset[int] = frozenset(), error: Exception | None = None
    ) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.started = asyncio.Event()
        self.at_work = 0
        self.most_at_work = 0
        self._bad = bad
        self._error = error

    async def run(self, items: list[int]) -> Sequence[int | Exception]:
        self.batches.append(items)
        self.started.set()
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await self.open.wait()
            await asyncio.sleep(0)
        finally:
            self.at_work -= 1
        if self._error is not None:
            raise self._error
        if self._bad & set(items):
            raise ValueError("the statement failed")
        return [KeyError(item) if item < 0 else item * 10 for item in items]


async def submit_all(batcher: Batcher[int, int], items: Sequence[int]) -> list[int | BaseException]:
    async with asyncio.timeout(5):
        return await asyncio.gather(
            *(batcher.submit(item) for item in items), return_exceptions=True
        )


async def hold_up(batches: DeliveryHarness, batcher: Batcher[int, int]) -> asyncio.Task[int]:
    """Starts a call that stays in flight until `batches.open` is set."""
    batches.open.clear()
    first = asyncio.create_task(batcher.submit(0))
    await batches.started.wait()
    return first


async def settle_down() -> None:
    """Lets every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_idle_batcher_sends_in_the_next_turn_of_the_loop() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run)
    call = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert batches.batches == [[1]]
    assert await call == 10


async def test_items_that_arrive_during_a_call_form_the_next_batch_in_order() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=1, max_batch=4)
    first = await hold_up(batches, batcher)
    rest = [asyncio.create_task(batcher.submit(n)) for n in range(1, 10)]
    await settle_down()
    batches.open.set()
    assert await asyncio.gather(first, *rest) == [n * 10 for n in range(10)]
    assert batches.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]


async def test_many_waiting_items_are_halved_and_a_few_are_not() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=1, halve_from=8)
    first = await hold_up(batches, batcher)
    rest = [asyncio.create_task(batcher.submit(n)) for n in range(1, 21)]
    await settle_down()
    batches.open.set()
    assert await asyncio.gather(first, *rest) == [n * 10 for n in range(21)]
    assert [len(batch) for batch in batches.batches] == [1, 10, 5, 5]
    assert [n for batch in batches.batches for n in batch] == list(range(21))


async def test_no_more_calls_than_lanes_are_in_flight() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=3, max_batch=1)
    responses = await submit_all(batcher, range(20))
    assert responses == [n * 10 for n in range(20)]
    assert batches.most_at_work == 3


async def test_an_item_for_a_full_queue_is_refused_with_retry_after() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=1, most=2)
    first = await hold_up(batches, batcher)
    waiting = [asyncio.create_task(batcher.submit(n)) for n in (1, 2)]
    await settle_down()
    with pytest.raises(Unavailable) as refused:
        await batcher.submit(3)
    assert int(refused.value.headers["Retry-After"]) >= 1
    batches.open.set()
    assert await asyncio.gather(first, *waiting) == [0, 10, 20]
    assert await batcher.submit(3) == 30


async def test_each_caller_gets_its_own_result_or_its_own_error() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run)
    good, bad, other = await submit_all(batcher, [1, -2, 3])
    assert (good, other) == (10, 30)
    assert isinstance(bad, KeyError)
    assert batches.batches == [[1, -2, 3]]


async def test_a_batch_that_fails_is_halved_until_the_failing_item_is_alone() -> None:
    batches = DeliveryHarness(bad=frozenset({37}))
    batcher = Batcher(batches.run, lanes=1)
    responses = await submit_all(batcher, range(64))
    assert isinstance(responses[37], ValueError)
    assert [a for a in responses if not isinstance(a, int)] == [responses[37]]
    assert len(batches.batches) == 13  # the whole batch, and two halves at each of six levels


async def test_a_lost_connection_fails_all_items_in_flight_and_nothing_is_sent_twice() -> None:
    batches = DeliveryHarness(error=ConnectionResetError("gone"))
    batcher = Batcher(batches.run, lanes=1)
    responses = await submit_all(batcher, range(8))
    assert {type(response) for response in responses} == {ConnectionResetError}
    assert batches.batches == [list(range(8))]


async def test_an_item_whose_caller_gave_up_in_the_queue_is_not_sent() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=1)
    first = await hold_up(batches, batcher)
    leaver, stayer = (asyncio.create_task(batcher.submit(n)) for n in (1, 2))
    await settle_down()
    leaver.cancel()
    await settle_down()
    batches.open.set()
    assert (await first, await stayer) == (0, 20)
    assert batches.batches == [[0], [2]]


async def test_a_caller_that_gives_up_in_flight_does_not_affect_the_others() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=1)
    batches.open.clear()
    leaver, stayer = (asyncio.create_task(batcher.submit(n)) for n in (1, 2))
    await batches.started.wait()
    leaver.cancel()
    batches.open.set()
    assert await stayer == 20
    assert leaver.cancelled()
    assert await batcher.submit(3) == 30


@pytest.mark.parametrize("lanes", [1, 2])
async def test_a_caller_that_submits_again_at_once_is_served(lanes: int) -> None:
    """The second call may arrive after the last check of the queue and before its lane is free."""
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=lanes)

    async def call_twice(item: int) -> int:
        return await batcher.submit(item) + await batcher.submit(item)

    async with asyncio.timeout(5):
        assert await asyncio.gather(*(call_twice(n) for n in range(lanes))) == [
            n * 20 for n in range(lanes)
        ]


async def test_items_of_one_alone_key_run_one_after_the_other_in_order() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=3, alone=lambda item: item // 100)
    responses = await submit_all(batcher, [101, 102, 201, 103, 301, 202])
    assert responses == [1010, 1020, 2010, 1030, 3010, 2020]
    assert batches.batches == [[101, 201, 301], [102, 202], [103]]


async def test_many_items_of_one_alone_key_do_not_delay_other_items() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=2, max_batch=5, alone=lambda item: min(item, 10))
    responses = await submit_all(batcher, [*range(10, 60), 1, 2, 3])
    assert responses == [n * 10 for n in [*range(10, 60), 1, 2, 3]]
    assert batches.batches[0] == [10, 1, 2, 3]
    assert [batch for batch in batches.batches if len(batch) > 1] == [[10, 1, 2, 3]]


async def test_an_item_whose_caller_gave_up_lets_the_next_of_its_key_run() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=1, alone=lambda _: "same")
    first = await hold_up(batches, batcher)
    leaver, stayer = (asyncio.create_task(batcher.submit(n)) for n in (1, 2))
    await settle_down()
    leaver.cancel()
    await settle_down()
    batches.open.set()
    assert (await first, await stayer) == (0, 20)
    assert await batcher.submit(3) == 30
    assert batches.batches == [[0], [2], [3]]


async def test_items_in_a_key_queue_count_as_waiting() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=1, most=2, alone=lambda _: "same")
    first = await hold_up(batches, batcher)
    waiting = [asyncio.create_task(batcher.submit(n)) for n in (1, 2)]
    await settle_down()
    with pytest.raises(Unavailable):
        await batcher.submit(3)
    batches.open.set()
    assert await asyncio.gather(first, *waiting) == [0, 10, 20]


async def test_an_item_is_refused_while_the_queue_does_not_move() -> None:
    batches, clock = DeliveryHarness(), Clock()
    batcher = Batcher(batches.run, lanes=1, limit_s=0.15, clock=clock)
    first = await hold_up(batches, batcher)
    waiting = [asyncio.create_task(batcher.submit(1))]
    await settle_down()
    clock.now += STALLED_S - 0.1
    waiting.append(asyncio.create_task(batcher.submit(2)))
    await settle_down()
    clock.now += 0.1
    with pytest.raises(Unavailable) as refused:
        await batcher.submit(3)
    assert int(refused.value.headers["Retry-After"]) >= 1
    batches.open.set()
    assert await asyncio.gather(first, *waiting) == [0, 10, 20]
    clock.now += 60
    assert await batcher.submit(4) == 40


async def test_a_slow_statement_alone_causes_no_refusal() -> None:
    batches, clock = DeliveryHarness(), Clock()
    batcher = Batcher(batches.run, lanes=1, limit_s=0.15, clock=clock)
    first = await hold_up(batches, batcher)
    clock.now += 5
    second = asyncio.create_task(batcher.submit(1))
    await settle_down()
    batches.open.set()
    assert [await first, await second] == [0, 10]


class SlowDesk:
    """A `run` that takes a given time of a simulated clock, while other calls arrive."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.calls: list[asyncio.Task[int]] = []
        self.come: Callable[[], None] = lambda: None
        self._clock = clock
        self._seconds = seconds

    async def run(self, items: list[int]) -> Sequence[int | Exception]:
        self.come()
        await asyncio.sleep(0)
        self._clock.now += self._seconds
        return [item * 10 for item in items]

    async def finish(self) -> list[int | BaseException]:
        """The results of all calls, including the calls that arrive meanwhile."""
        async with asyncio.timeout(20):
            while not all(call.done() for call in self.calls):
                await asyncio.gather(*self.calls, return_exceptions=True)
        return [call.exception() or call.result() for call in self.calls]


async def test_an_item_is_refused_if_its_expected_wait_is_too_long() -> None:
    clock = Clock()
    batches, rounds = SlowDesk(clock, 0.05), iter(range(400))
    batcher = Batcher(batches.run, lanes=1, max_batch=2, limit_s=0.15, clock=clock)
    waits: list[float] = []

    async def ask(item: int) -> int:
        began = clock.now
        response = await batcher.submit(item)
        waits.append(clock.now - began)
        return response

    def come() -> None:  # four calls while two are served, for 20 s
        if next(rounds, None) is not None:
            batches.calls += [asyncio.create_task(ask(n)) for n in range(4)]

    batches.come = come
    await batcher.submit(0)
    responses = await batches.finish()
    refused = [response for response in responses if not isinstance(response, int)]
    assert {type(each) for each in refused} == {Overloaded}
    assert 700 < len(refused) < 800
    assert max(waits[-50:]) < 0.3


async def test_a_batch_is_filled_from_all_owners_in_turn() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=1, max_batch=4)
    first = await hold_up(batches, batcher)
    calls = []
    for item in [*range(100, 110), 200, 300, 201]:
        OWNER.set(item // 100)
        calls.append(asyncio.create_task(batcher.submit(item)))
    OWNER.set(None)
    await settle_down()
    batches.open.set()
    await asyncio.gather(first, *calls)
    assert batches.batches[1:3] == [[100, 200, 300, 101], [201, 102, 103, 104]]


async def test_a_flood_of_one_owner_is_refused_and_another_owner_is_served() -> None:
    batches = DeliveryHarness()
    batcher = Batcher(batches.run, lanes=1, most=5)
    first = await hold_up(batches, batcher)
    OWNER.set("flood")
    flood = [asyncio.create_task(batcher.submit(n)) for n in range(1, 9)]
    OWNER.set("modest")
    modest = asyncio.create_task(batcher.submit(99))
    OWNER.set(None)
    await settle_down()
    batches.open.set()
    assert await modest == 990
    found = await asyncio.gather(first, *flood, return_exceptions=True)
    assert [type(each) for each in found] == [int] * 6 + [Overloaded] * 3


async def test_many_writes_of_one_lead_are_all_served_and_delay_no_others() -> None:
    clock = Clock()
    batches = SlowDesk(clock, 0.02)
    batcher = Batcher(
        batches.run, lanes=1, alone=lambda item: item // 1000, limit_s=0.15, clock=clock
    )
    waits: list[float] = []

    async def ask_again(first: int) -> int:
        return sum([await batcher.submit(n) for n in range(first, 640, 32)])

    async def ask_another() -> None:
        for _ in range(20):
            began = clock.now
            await batcher.submit(1000)
            waits.append(clock.now - began)

    batches.calls = [
        asyncio.create_task(ask_again(n)) for n in range(32)
    ]  # 0.64 s of expected wait
    await asyncio.gather(ask_another(), *batches.calls)
    assert sum(call.result() for call in batches.calls) == sum(n * 10 for n in range(640))
    assert max(waits) < 0.05


async def test_the_queue_of_one_lead_is_bounded_by_the_life_of_a_request() -> None:
    clock = Clock()
    batches, rounds = SlowDesk(clock, 0.5), iter(range(200))
    batcher = Batcher(batches.run, lanes=1, alone=lambda _: "same", limit_s=0.15, clock=clock)
    most = 0

    def come() -> None:  # two calls while one is served
        nonlocal most
        most = max(most, sum(not call.done() for call in batches.calls))
        if next(rounds, None) is not None:
            batches.calls += [asyncio.create_task(batcher.submit(1)) for _ in range(2)]

    batches.come = come
    await batcher.submit(0)
    responses = await batches.finish()
    assert {type(each) for each in responses} == {int, Overloaded}
    assert most * 0.5 < 1.5 * REQUEST_LIFE_S


async def test_a_statement_that_never_ends_times_out_and_its_lane_is_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.database.batching.RUN_TIMEOUT_S", 0.05)
    batches = DeliveryHarness()
    batcher: Batcher[int, int] = Batcher(batches.run, lanes=1)
    first = await hold_up(batches, batcher)
    with pytest.raises(TimeoutError):
        await first
    batches.open.set()
    assert await batcher.submit(2) == 20


async def test_the_next_lane_opens_when_the_call_in_flight_takes_long() -> None:
    now = 0.0
    batches = DeliveryHarness()
    batcher: Batcher[int, int] = Batcher(
        batches.run, lanes=2, next_lane_after_s=0.05, clock=lambda: now
    )
    first = await hold_up(batches, batcher)
    young = asyncio.create_task(batcher.submit(1))
    await settle_down()
    assert batches.batches == [[0]]
    now = 0.06
    late = asyncio.create_task(batcher.submit(2))
    await settle_down()
    assert batches.batches == [[0], [1, 2]]
    batches.open.set()
    assert [await first, await young, await late] == [0, 10, 20]
