"""Several dispatchers at once, and maintenance beside the deliveries."""

import asyncio

import pytest

from service.database.connect import Pool
from tests.harness.delivery_harness import DeliveryHarness, close, open_delivery_harness
from tests.harness.worker_harness import WorkerHarness
from tests.loopback.receiver import Receiver
from workers.dispatcher import Dispatcher


async def test_dispatchers_of_three_parts_serve_every_endpoint_once(
    harness: WorkerHarness, receiver: Receiver
) -> None:
    endpoints = [await open_delivery_harness(harness, f"{receiver.url}/{n}") for n in range(12)]
    leads = [(f"l{n}", version) for version in range(1, 5) for n in range(3)]
    for endpoint in endpoints:
        await endpoint.add(*leads)
    dispatchers = [Dispatcher(endpoints[0].context, f"dispatcher/{n}", n, 3) for n in range(3)]
    for endpoint in endpoints:
        await endpoint.drain(*dispatchers)
    shares = [set(dispatcher._lanes) for dispatcher in dispatchers]
    await close(*dispatchers)
    assert set.union(*shares) == {endpoint.id for endpoint in endpoints}
    assert sum(map(len, shares)) == len(endpoints)
    for n in range(12):
        arrived = [received.id for received in receiver.received if received.path == f"/{n}"]
        assert len(arrived) == len(leads)
        for lead in range(3):
            assert [i for i in arrived if f"_l{lead}_" in i] == [
                f"evt_l{lead}_{v}" for v in range(1, 5)
            ]


async def test_no_delivery_waits_for_maintenance(
    delivery_harness: DeliveryHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = asyncio.Event()

    async def hang(_: Pool) -> int:
        started.set()
        await asyncio.sleep(60)
        return 0

    monkeypatch.setattr("workers.delivery.maintenance.reap_leases", hang)
    await delivery_harness.add(*[(f"l{n}", 1) for n in range(20)])
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await delivery_harness.drain(dispatcher)
    assert started.is_set()
    await close(dispatcher)
    assert len(receiver.received) == 20


async def test_an_error_in_maintenance_is_raised(
    delivery_harness: DeliveryHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()

    async def fail(_: Pool) -> int:
        failed.set()
        raise ArithmeticError("a fault in maintenance")

    monkeypatch.setattr("workers.delivery.maintenance.reap_leases", fail)
    dispatcher = Dispatcher(delivery_harness.context, "dispatcher/0")
    await dispatcher.once()
    await failed.wait()
    with pytest.raises(ArithmeticError):
        await dispatcher.once()
    await close(dispatcher)
