"""The guard on outgoing connections, against a real server on loopback that must stay unvisited."""

import socket
from urllib.parse import urlsplit

import pytest
from aiohappyeyeballs import AddrInfoType

from tests.receiver import Receiver
from workers.delivery.connections import Connections
from workers.delivery.egress import BlockedDialError, GuardedResolver
from workers.delivery.sender import Attempt, Target, send


class ScriptedResolver(GuardedResolver):
    """A name server that says something else each time."""

    def __init__(self, *answers: list[str]) -> None:
        super().__init__(private=False)
        self.answers = list(answers)
        self.asked = 0

    async def look_up(self, _: str, port: int) -> list[AddrInfoType]:
        self.asked += 1
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [info for address in addresses for info in make_infos(address, port)]


def make_infos(address: str, port: int) -> list[AddrInfoType]:
    return list(socket.getaddrinfo(address, port, type=socket.SOCK_STREAM))


class TrustingResolver(ScriptedResolver):
    """What an attacker would like: the check on names passes whatever it is shown."""

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        return await self.look_up(host, port)


async def visit(url: str, resolver: GuardedResolver | None, *, private: bool = False) -> Attempt:
    target = Target(1, True, "wh_1", url, (b"k" * 24,), {}, 5.0, False, "standard", None, 0)
    connections = Connections(private=private, resolver=resolver)
    try:
        return await send(connections, target, "evt_1", 1, b"{}")
    finally:
        await connections.close()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "①②⑦.0.0.1", "0.0.0.0"],
)
async def test_no_spelling_of_this_machine_is_dialled(receiver: Receiver, host: str) -> None:
    port = urlsplit(receiver.url).port
    attempt = await visit(f"http://{host}:{port}/", None)
    assert attempt.error == "blocked_address"
    assert receiver.received == []


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f000001", "0177.0.0.1"])
async def test_no_number_that_means_this_machine_is_dialled(receiver: Receiver, host: str) -> None:
    port = urlsplit(receiver.url).port
    attempt = await visit(f"http://{host}:{port}/", None)
    assert attempt.error in {"blocked_address", "invalid_url"}
    assert receiver.received == []


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["10.0.0.1"], ["2606:4700::1", "::1"]]
)
async def test_a_name_with_one_private_answer_is_not_dialled_at_all(
    receiver: Receiver, answers: list[str]
) -> None:
    port = urlsplit(receiver.url).port
    resolver = ScriptedResolver(answers)
    attempt = await visit(f"http://rebind.test:{port}/", resolver)
    assert (attempt.error, attempt.connect_ms) == ("blocked_address", None)
    assert receiver.received == []


async def test_a_resolver_that_changes_its_answer_gains_nothing(receiver: Receiver) -> None:
    port = urlsplit(receiver.url).port
    resolver = TrustingResolver(["127.0.0.1"])
    attempt = await visit(f"http://rebind.test:{port}/", resolver)
    assert (attempt.error, resolver.asked) == ("blocked_address", 1)
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


async def test_development_reaches_this_machine(receiver: Receiver) -> None:
    attempt = await visit(receiver.url, None, private=True)
    assert (attempt.error, attempt.status) == (None, 200)
    assert "cookie" not in receiver.received[0].headers
    assert receiver.received[0].headers["accept-encoding"] == "identity"
