"""The guard on outgoing connections: a real server on loopback must get no request."""

import socket
from urllib.parse import urlsplit

import pytest
from aiohappyeyeballs import AddrInfoType

from tests.loopback.raw_server import make_endpoint_config
from tests.loopback.receiver import Receiver
from workers.delivery.connections import Connections
from workers.delivery.egress import BlockedDialError, GuardedResolver
from workers.delivery.sender import Attempt, send


class ScriptedResolver(GuardedResolver):
    """A resolver that gives the next list of addresses at each look-up."""

    def __init__(self, *results: list[str]) -> None:
        super().__init__(private=False)
        self.results = list(results)
        self.lookups = 0

    async def look_up(self, _: str, port: int) -> list[AddrInfoType]:
        self.lookups += 1
        addresses = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        return [info for address in addresses for info in make_infos(address, port)]


def make_infos(address: str, port: int) -> list[AddrInfoType]:
    return list(socket.getaddrinfo(address, port, type=socket.SOCK_STREAM))


class TrustingResolver(ScriptedResolver):
    """A resolver that does not check addresses, so that only the check before dialling is left."""

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        return await self.look_up(host, port)


async def visit(url: str, resolver: GuardedResolver | None, *, private: bool = False) -> Attempt:
    connections = Connections(private=private, resolver=resolver)
    try:
        return await send(connections, make_endpoint_config(url), "evt_1", 1, b"{}")
    finally:
        await connections.close()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "①②⑦.0.0.1", "0.0.0.0"],
)
async def test_no_address_of_this_machine_is_dialled(receiver: Receiver, host: str) -> None:
    port = urlsplit(receiver.url).port
    attempt = await visit(f"http://{host}:{port}/", None)
    assert attempt.error == "blocked_address"
    assert receiver.received == []


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f000001", "0177.0.0.1"])
async def test_no_numeric_form_of_this_machine_is_dialled(receiver: Receiver, host: str) -> None:
    port = urlsplit(receiver.url).port
    attempt = await visit(f"http://{host}:{port}/", None)
    assert attempt.error in {"blocked_address", "invalid_url"}
    assert receiver.received == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["10.0.0.1"], ["2606:4700::1", "::1"]]
)
async def test_a_name_with_one_private_address_is_not_dialled(
    receiver: Receiver, addresses: list[str]
) -> None:
    port = urlsplit(receiver.url).port
    resolver = ScriptedResolver(addresses)
    attempt = await visit(f"http://rebind.test:{port}/", resolver)
    assert (attempt.error, attempt.connect_ms) == ("blocked_address", None)
    assert receiver.received == []


async def test_a_name_that_changes_its_address_gains_nothing(receiver: Receiver) -> None:
    port = urlsplit(receiver.url).port
    resolver = TrustingResolver(["127.0.0.1"])
    attempt = await visit(f"http://rebind.test:{port}/", resolver)
    assert (attempt.error, resolver.lookups) == ("blocked_address", 1)
    assert receiver.received == []
    changing = ScriptedResolver(["8.8.8.8"], ["127.0.0.1"])
    assert [info[4][0] for info in await changing.resolve("rebind.test", 80)] == ["8.8.8.8"]
    with pytest.raises(BlockedDialError):
        await changing.resolve("rebind.test", 80)
    changing.close()


async def test_proxies_of_the_environment_are_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, receiver.url)
    attempt = await visit("http://10.255.255.1/", None)
    assert attempt.error == "blocked_address"
    assert receiver.received == []


async def test_this_machine_is_dialled_if_private_addresses_are_allowed(receiver: Receiver) -> None:
    attempt = await visit(receiver.url, None, private=True)
    assert (attempt.error, attempt.status) == (None, 200)
    assert "cookie" not in receiver.received[0].headers
    assert receiver.received[0].headers["accept-encoding"] == "identity"
