"""Natural batching: no delay when idle, whole batches when busy, each caller's own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from service.batching import Batcher
from service.errors import Unavailable


class Desk:
    """A `run` that a test can hold up, and that remembers what it was given."""

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


async def hold_up(desk: Desk, batcher: Batcher[int, int]) -> asyncio.Task[int]:
    """A call that stays in flight until the desk opens."""
    desk.open.clear()
    first = asyncio.create_task(batcher.submit(0))
    await desk.started.wait()
    return first


async def settle_down() -> None:
    """Lets every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_idle_batcher_sends_in_the_next_turn_of_the_loop() -> None:
    desk = Desk()
    batcher = Batcher(desk.run)
    call = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert desk.batches == [[1]]
    assert await call == 10


async def test_what_arrives_meanwhile_goes_together_in_order_of_arrival() -> None:
    desk = Desk()
    batcher = Batcher(desk.run, lanes=1, max_batch=4)
    first = await hold_up(desk, batcher)
    rest = [asyncio.create_task(batcher.submit(n)) for n in range(1, 10)]
    await settle_down()
    desk.open.set()
    assert await asyncio.gather(first, *rest) == [n * 10 for n in range(10)]
    assert desk.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]


async def test_a_crowd_goes_in_halves_and_a_few_go_together() -> None:
    desk = Desk()
    batcher = Batcher(desk.run, lanes=1, halve_from=8)
    first = await hold_up(desk, batcher)
    rest = [asyncio.create_task(batcher.submit(n)) for n in range(1, 21)]
    await settle_down()
    desk.open.set()
    assert await asyncio.gather(first, *rest) == [n * 10 for n in range(21)]
    assert [len(batch) for batch in desk.batches] == [1, 10, 5, 5]
    assert [n for batch in desk.batches for n in batch] == list(range(21))


async def test_no_more_than_its_lanes_are_in_flight() -> None:
    desk = Desk()
    batcher = Batcher(desk.run, lanes=3, max_batch=1)
    answers = await submit_all(batcher, range(20))
    assert answers == [n * 10 for n in range(20)]
    assert desk.most_at_work == 3


async def test_a_full_queue_is_refused_with_a_time_to_come_back() -> None:
    desk = Desk()
    batcher = Batcher(desk.run, lanes=1, max_waiting=2)
    first = await hold_up(desk, batcher)
    waiting = [asyncio.create_task(batcher.submit(n)) for n in (1, 2)]
    await settle_down()
    with pytest.raises(Unavailable) as refused:
        await batcher.submit(3)
    assert int(refused.value.headers["Retry-After"]) >= 1
    desk.open.set()
    assert await asyncio.gather(first, *waiting) == [0, 10, 20]
    assert await batcher.submit(3) == 30


async def test_each_caller_gets_its_own_result_or_its_own_error() -> None:
    desk = Desk()
    batcher = Batcher(desk.run)
    good, bad, other = await submit_all(batcher, [1, -2, 3])
    assert (good, other) == (10, 30)
    assert isinstance(bad, KeyError)
    assert desk.batches == [[1, -2, 3]]


async def test_a_batch_that_fails_is_halved_until_the_culprit_stands_alone() -> None:
    desk = Desk(bad=frozenset({37}))
    batcher = Batcher(desk.run, lanes=1)
    answers = await submit_all(batcher, range(64))
    assert isinstance(answers[37], ValueError)
    assert [a for a in answers if not isinstance(a, int)] == [answers[37]]
    assert len(desk.batches) == 13  # the whole, and two halves at each of six levels


async def test_a_lost_connection_is_told_to_all_in_flight_and_nothing_is_sent_twice() -> None:
    desk = Desk(error=ConnectionResetError("gone"))
    batcher = Batcher(desk.run, lanes=1)
    answers = await submit_all(batcher, range(8))
    assert {type(answer) for answer in answers} == {ConnectionResetError}
    assert desk.batches == [list(range(8))]


async def test_a_caller_that_gives_up_before_its_turn_is_not_served() -> None:
    desk = Desk()
    batcher = Batcher(desk.run, lanes=1)
    first = await hold_up(desk, batcher)
    leaver, stayer = (asyncio.create_task(batcher.submit(n)) for n in (1, 2))
    await settle_down()
    leaver.cancel()
    await settle_down()
    desk.open.set()
    assert (await first, await stayer) == (0, 20)
    assert desk.batches == [[0], [2]]


async def test_a_caller_that_gives_up_in_flight_harms_nobody() -> None:
    desk = Desk()
    batcher = Batcher(desk.run, lanes=1)
    desk.open.clear()
    leaver, stayer = (asyncio.create_task(batcher.submit(n)) for n in (1, 2))
    await desk.started.wait()
    leaver.cancel()
    desk.open.set()
    assert await stayer == 20
    assert leaver.cancelled()
    assert await batcher.submit(3) == 30


@pytest.mark.parametrize("lanes", [1, 2])
async def test_a_caller_that_comes_back_at_once_is_served_too(lanes: int) -> None:
    """Its second call may come after the last look at the queue and before the flight is over."""
    desk = Desk()
    batcher = Batcher(desk.run, lanes=lanes)

    async def call_twice(item: int) -> int:
        return await batcher.submit(item) + await batcher.submit(item)

    async with asyncio.timeout(5):
        assert await asyncio.gather(*(call_twice(n) for n in range(lanes))) == [
            n * 20 for n in range(lanes)
        ]


async def test_items_that_must_be_alone_go_one_after_the_other_in_order() -> None:
    desk = Desk()
    batcher = Batcher(desk.run, lanes=3, alone=lambda item: item // 100)
    answers = await submit_all(batcher, [101, 102, 201, 103, 301, 202])
    assert answers == [1010, 1020, 2010, 1030, 3010, 2020]
    assert desk.batches == [[101, 201, 301], [102, 202], [103]]


async def test_a_crowd_that_must_be_alone_is_in_nobody_elses_way() -> None:
    desk = Desk()
    batcher = Batcher(desk.run, lanes=2, max_batch=5, alone=lambda item: min(item, 10))
    answers = await submit_all(batcher, [*range(10, 60), 1, 2, 3])
    assert answers == [n * 10 for n in [*range(10, 60), 1, 2, 3]]
    assert desk.batches[0] == [10, 1, 2, 3]
    assert [batch for batch in desk.batches if len(batch) > 1] == [[10, 1, 2, 3]]


async def test_one_that_gives_up_before_its_turn_lets_the_next_behind_it_in() -> None:
    desk = Desk()
    batcher = Batcher(desk.run, lanes=1, alone=lambda _: "same")
    first = await hold_up(desk, batcher)
    leaver, stayer = (asyncio.create_task(batcher.submit(n)) for n in (1, 2))
    await settle_down()
    leaver.cancel()
    await settle_down()
    desk.open.set()
    assert (await first, await stayer) == (0, 20)
    assert await batcher.submit(3) == 30
    assert desk.batches == [[0], [2], [3]]


async def test_those_who_wait_to_be_alone_count_as_waiting() -> None:
    desk = Desk()
    batcher = Batcher(desk.run, lanes=1, max_waiting=2, alone=lambda _: "same")
    first = await hold_up(desk, batcher)
    waiting = [asyncio.create_task(batcher.submit(n)) for n in (1, 2)]
    await settle_down()
    with pytest.raises(Unavailable):
        await batcher.submit(3)
    desk.open.set()
    assert await asyncio.gather(first, *waiting) == [0, 10, 20]


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_who_comes_behind_one_that_has_waited_too_long_is_refused_until_it_is_served() -> (
    None
):
    desk, clock = Desk(), Clock()
    batcher = Batcher(desk.run, lanes=1, late_after_s=0.15, clock=clock)
    first = await hold_up(desk, batcher)
    waiting = [asyncio.create_task(batcher.submit(1))]
    await settle_down()
    clock.now += 0.14
    waiting.append(asyncio.create_task(batcher.submit(2)))
    await settle_down()
    clock.now += 0.02
    with pytest.raises(Unavailable) as refused:
        await batcher.submit(3)
    assert int(refused.value.headers["Retry-After"]) >= 1
    desk.open.set()
    assert await asyncio.gather(first, *waiting) == [0, 10, 20]
    clock.now += 60
    assert await batcher.submit(4) == 40


async def test_a_slow_statement_alone_is_no_reason_to_refuse() -> None:
    desk, clock = Desk(), Clock()
    batcher = Batcher(desk.run, lanes=1, late_after_s=0.15, clock=clock)
    first = await hold_up(desk, batcher)
    clock.now += 5
    second = asyncio.create_task(batcher.submit(1))
    await settle_down()
    desk.open.set()
    assert [await first, await second] == [0, 10]


async def test_a_crowd_behind_one_lead_is_refused_and_others_are_not() -> None:
    desk, clock = Desk(), Clock()
    batcher = Batcher(
        desk.run, lanes=1, alone=lambda item: item // 100, late_after_s=0.15, clock=clock
    )
    first = await hold_up(desk, batcher)
    behind = [asyncio.create_task(batcher.submit(n)) for n in (1, 2)]
    await settle_down()
    clock.now += 0.2
    with pytest.raises(Unavailable):
        await batcher.submit(3)
    other = asyncio.create_task(batcher.submit(100))
    await settle_down()
    desk.open.set()
    assert await asyncio.gather(first, *behind, other) == [0, 10, 20, 1000]
    assert await batcher.submit(4) == 40


async def test_a_statement_that_never_ends_is_given_up_and_its_lane_is_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.batching.RUN_TIMEOUT_S", 0.05)
    desk = Desk()
    batcher: Batcher[int, int] = Batcher(desk.run, lanes=1)
    first = await hold_up(desk, batcher)
    with pytest.raises(TimeoutError):
        await first
    desk.open.set()
    assert await batcher.submit(2) == 20


async def test_the_next_lane_opens_when_the_call_before_it_takes_long() -> None:
    now = 0.0
    desk = Desk()
    batcher: Batcher[int, int] = Batcher(
        desk.run, lanes=2, next_lane_after_s=0.05, clock=lambda: now
    )
    first = await hold_up(desk, batcher)
    young = asyncio.create_task(batcher.submit(1))
    await settle_down()
    assert desk.batches == [[0]]
    now = 0.06
    late = asyncio.create_task(batcher.submit(2))
    await settle_down()
    assert desk.batches == [[0], [1, 2]]
    desk.open.set()
    assert [await first, await young, await late] == [0, 10, 20]
