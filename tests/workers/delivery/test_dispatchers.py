"""What goes on beside the deliveries, and dispatchers beside each other."""

import asyncio

import pytest

from service.db import Pool
from tests.desk import Desk, close, open_desk
from tests.receiver import Receiver
from tests.workbench import Workbench
from workers.dispatcher import Dispatcher


async def test_dispatchers_of_three_parts_share_the_endpoints_and_leave_none_out(
    bench: Workbench, receiver: Receiver
) -> None:
    desks = [await open_desk(bench, f"{receiver.url}/{n}") for n in range(12)]
    leads = [(f"l{n}", version) for version in range(1, 5) for n in range(3)]
    for desk in desks:
        await desk.add(*leads)
    dispatchers = [Dispatcher(desks[0].shop, f"dispatcher/{n}", n, 3) for n in range(3)]
    for desk in desks:
        await desk.drain(*dispatchers)
    shares = [set(dispatcher._lanes) for dispatcher in dispatchers]
    await close(*dispatchers)
    assert set.union(*shares) == {desk.id for desk in desks}
    assert sum(map(len, shares)) == len(desks)
    for n in range(12):
        came = [received.id for received in receiver.received if received.path == f"/{n}"]
        assert len(came) == len(leads)
        for lead in range(3):
            assert [i for i in came if f"_l{lead}_" in i] == [
                f"evt_l{lead}_{v}" for v in range(1, 5)
            ]


async def test_no_delivery_waits_for_the_tidying(
    desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def hang(_: Pool) -> int:
        begun.set()
        await asyncio.sleep(60)
        return 0

    monkeypatch.setattr("workers.dispatcher.reap_leases", hang)
    await desk.add(*[(f"l{n}", 1) for n in range(20)])
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await desk.drain(dispatcher)
    assert begun.is_set()
    await close(dispatcher)
    assert len(receiver.received) == 20


async def test_a_failure_of_the_tidying_comes_to_light(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()

    async def fail(_: Pool) -> int:
        failed.set()
        raise ArithmeticError("a fault in the tidying")

    monkeypatch.setattr("workers.dispatcher.reap_leases", fail)
    dispatcher = Dispatcher(desk.shop, "dispatcher/0")
    await dispatcher.once()
    await failed.wait()
    with pytest.raises(ArithmeticError):
        await dispatcher.once()
    await close(dispatcher)
