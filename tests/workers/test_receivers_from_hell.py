"""Servers that misbehave in every way we could think of, each a real one on loopback."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.hell import HEAD, HELL, run_server, say
from tests.receiver import run_receiver
from workers.connections import Connections
from workers.sender import Attempt, Target, send
from workers.wire import MAX_KEPT_BYTES

TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[Connections]:
    connections = Connections(private=True)
    yield connections
    await connections.close()


async def try_it(client: Connections, url: str, timeout_s: float = TIMEOUT_S) -> Attempt:
    target = Target(1, True, "wh_1", url, (b"k" * 24,), {}, timeout_s, False, "standard", None, 0)
    return await send(client, target, "evt_1", 1, b"{}")


@pytest.mark.parametrize("name", HELL)
async def test_a_server_that(client: Connections, name: str) -> None:
    behave, status, error = HELL[name]
    async with run_server(behave) as url:
        begun = time.monotonic()
        attempt = await try_it(client, url)
        assert time.monotonic() - begun < TIMEOUT_S + 1
    assert (attempt.status, attempt.error) == (status, error)
    assert len(attempt.body or b"") <= MAX_KEPT_BYTES


async def test_a_redirect_is_not_followed(client: Connections) -> None:
    async with run_receiver() as hidden:
        head = f"HTTP/1.1 307 Moved\r\nLocation: {hidden.url}\r\nContent-Length: 0\r\n\r\n"
        async with run_server(say(head.encode())) as url:
            attempt = await try_it(client, url)
        assert (attempt.status, attempt.error) == (307, "redirect")
        assert hidden.received == []


async def test_an_idle_connection_that_was_closed_meanwhile_costs_nothing(
    client: Connections,
) -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read(2)  # the body of the first request
        await reader.readuntil(b"\r\n\r\n")  # closed without an answer, as if it had been idle

    async with run_server(answer_once) as url:
        first = await try_it(client, url)
        second = await try_it(client, url)
    assert (first.status, second.status, second.error) == (200, 200, None)


@pytest.mark.parametrize("days", [1, -1])
async def test_bad_certificates_are_refused(client: Connections, tmp_path: Path, days: int) -> None:
    async with run_server(say(HEAD), make_tls(tmp_path, days)) as url:
        attempt = await try_it(client, url, 5.0)
    assert (attempt.status, attempt.error) == (None, "certificate")


async def test_a_server_without_tls_is_no_https_server(client: Connections) -> None:
    async with run_server(say(HEAD)) as url:
        attempt = await try_it(client, url.replace("http:", "https:"), 1.0)
    assert attempt.status is None
    assert attempt.error in {"tls", "connection_lost", "connect", "timeout"}


async def test_a_closed_port_and_an_unknown_name_have_names_of_their_own(
    client: Connections,
) -> None:
    assert (await try_it(client, "http://127.0.0.1:9/")).error == "connect"
    assert (await try_it(client, "http://nobody.invalid/", 5.0)).error == "dns"


def make_tls(folder: Path, days: int) -> ssl.SSLContext:
    """A certificate of its own making, valid or expired by so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days)).sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ) + certificate.public_bytes(serialization.Encoding.PEM)
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
