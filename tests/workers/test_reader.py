"""The loop all readers share: effects and cursor in one transaction, in steps of a bounded size."""

import pytest

from service.db import Connection
from service.ids import make_id
from service.log import Cursor, Event, Window
from tests.workbench import Workbench
from workers.reader import CursorMovedError, Reader, split_windows
from workers.slices import Workshop
from workers.ticker import Ticker


class Small(Reader):
    """Three events at a time; `fails` times it raises after its effect."""

    limit = 3

    def __init__(self, shop: Workshop, fails: int = 0) -> None:
        super().__init__(shop, "historian/0")
        self.seen: list[str] = []
        self._fails = fails

    async def apply(self, conn: Connection, events: list[Event]) -> None:
        assert len(events) <= self.limit
        await conn.execute("INSERT INTO tenant (name) VALUES ($1)", make_id("evt"))
        if self._fails and self.seen:
            self._fails -= 1
            raise ArithmeticError("a fault in the effect")

    async def after_commit(self, events: list[Event]) -> None:
        self.seen += [event.lead_id for event in events]


class Blind(Small):
    """Reads shards that have no events."""

    async def _load(self, conn: Connection) -> Cursor:
        stored = await super()._load(conn)
        self._shards = []
        return stored


async def write_leads(bench: Workbench, *windows: int) -> list[str]:
    """Ids in the order of the log; so many in each window."""
    ids: list[str] = []
    for window in windows:
        ids += [
            await bench.capture(f'{{"email": "{len(ids) + n}@acme.com"}}') for n in range(window)
        ]
        await Ticker(bench.shop).once()
    return ids


async def drain(reader: Reader) -> None:
    while await reader.once():
        pass


@pytest.mark.parametrize("windows", [(11,), (1, 1, 1), (3, 3), (2, 7, 1), (4,), (1,) * 9])
async def test_every_event_is_applied_once_whatever_the_windows(
    bench: Workbench, windows: tuple[int, ...]
) -> None:
    ids = await write_leads(bench, *windows)
    reader = Small(bench.shop)
    await drain(reader)

    assert reader.seen == ids


async def test_a_step_that_fails_leaves_nothing_and_is_taken_again(bench: Workbench) -> None:
    ids = await write_leads(bench, 11)
    reader = Small(bench.shop, fails=2)
    for _ in range(2):
        with pytest.raises(ArithmeticError):
            await drain(reader)
    await drain(reader)

    assert reader.seen == ids
    effects = await bench.pool.fetchval("SELECT count(*) FROM tenant WHERE name LIKE 'evt_%'")
    assert effects == 4


async def test_a_reader_begins_where_the_last_one_left_off_inside_a_window(
    bench: Workbench,
) -> None:
    ids = await write_leads(bench, 11)
    first = Small(bench.shop)
    await first.once()
    await first.once()
    second = Small(bench.shop)
    await drain(second)

    assert first.seen + second.seen == ids


async def test_of_two_that_read_at_once_only_one_has_its_effects(bench: Workbench) -> None:
    ids = await write_leads(bench, 5)
    zombie, heir = Small(bench.shop), Small(bench.shop)
    await zombie.once()
    await drain(heir)
    with pytest.raises(CursorMovedError):
        await zombie.once()

    assert zombie.seen + heir.seen == ids
    effects = await bench.pool.fetchval("SELECT count(*) FROM tenant WHERE name LIKE 'evt_%'")
    assert effects == 2


async def test_an_idle_reader_stores_how_far_it_has_passed_windows_of_others(
    bench: Workbench,
) -> None:
    await write_leads(bench, 1, 1, 1)
    await bench.pool.execute("UPDATE reader SET shards = '{}' WHERE name = 'historian/0'")
    await drain(Small(bench.shop))

    newest = await bench.pool.fetchval("SELECT tick FROM ticker")
    stored = await bench.pool.fetchval("SELECT tick FROM reader WHERE name = 'historian/0'")
    assert stored == newest


def test_small_windows_are_one_step_and_a_large_one_is_many() -> None:
    events = [
        Event(n, 0, 1, True, f"lead{n}", 1, "evt", "lead.created", "key_1", "", "{}", 1)
        for n in range(1, 8)
    ]
    large = split_windows([Window(events, Cursor(5), 2.0, 5, 1)], 3, now=10.0)
    small = split_windows(
        [Window(events[:1], Cursor(5), 2.0, 5, 1), Window(events[1:3], Cursor(6), 1.0, 6, 1)], 3, 10
    )

    assert [step.after for step in large] == [Cursor(4, 3), Cursor(4, 6), Cursor(5)]
    assert [len(step.events) for step in large] == [3, 3, 1]
    assert [(len(step.events), step.after, step.cut_at) for step in small] == [(3, Cursor(6), 8.0)]
    assert split_windows([], 3, 10) == []


async def test_a_reader_at_the_end_of_the_log_says_that_it_need_not_look_again(
    bench: Workbench,
) -> None:
    reader = Small(bench.shop)
    await write_leads(bench, 1, 1, 1)
    await drain(reader)
    await bench.capture('{"email": "news@acme.com"}')
    await Ticker(bench.shop).once()
    assert await reader.once()
    assert (len(reader.seen), reader.has_all) == (4, True)


async def test_a_reader_has_not_all_before_its_place_is_stored(bench: Workbench) -> None:
    reader = Blind(bench.shop)
    await write_leads(bench, 1, 1, 1)
    while await reader.once():
        assert not reader.has_all
    stored = await bench.pool.fetchval("SELECT tick FROM reader WHERE name = 'historian/0'")
    assert stored == await bench.pool.fetchval("SELECT tick FROM ticker")
