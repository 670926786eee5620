"""Servers that misbehave in every way we could think of, each a real one on loopback."""

import asyncio
import gzip
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from service.webhooks import decode_secret
from tests.receiver import run_receiver
from tests.webhooks import SECRET
from workers.connections import Connections
from workers.sender import Attempt, Target, send
from workers.signing import sign
from workers.wire import MAX_KEPT_BYTES

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[Connections]:
    connections = Connections(private=True)
    yield connections
    await connections.close()


@asynccontextmanager
async def run_server(behave: Behave, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that reads a request and then does as it likes; its address."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await behave(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{port}/"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def say(*parts: bytes, pause_s: float = 0.0, hold: bool = False) -> Behave:
    """Writes these parts, then closes or holds the connection open."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if hold:
            await asyncio.sleep(60)

    return behave


def drip(head: bytes) -> Behave:
    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.1)

    return behave


async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A gigabyte, as fast as it is taken."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    for _n in range(1024):
        writer.write(b"x" * 1048576)
        await writer.drain()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


HEAD = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(50_000_000))
MANY_HEADERS = b"".join(b"X-%d: y\r\n" % n for n in range(10_000))
HELL: dict[str, tuple[Behave, int | None, str | None]] = {
    "hangs before its head": (say(hold=True), None, "timeout"),
    "sends its head byte by byte": (drip(HEAD + b"X: "), None, "timeout"),
    "says 200, then drips for ever": (drip(HEAD + b"Content-Length: 99999\r\n\r\n"), 200, None),
    "says 500, then drips for ever": (
        drip(b"HTTP/1.1 500 No\r\nContent-Length: 99999\r\n\r\n"),
        500,
        "timeout",
    ),
    "sends a gigabyte": (flood, 200, None),
    "sends a gzip bomb": (
        say(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        200,
        None,
    ),
    "closes in mid-body": (say(HEAD + b"Content-Length: 10\r\n\r\nabc"), 200, None),
    "closes in mid-head": (say(b"HTTP/1.1 200 O"), None, "connection_lost"),
    "closes without a word": (say(), None, "connection_lost"),
    "resets": (reset, None, "connection_lost"),
    "sends less than its Content-Length and holds on": (
        say(HEAD + b"Content-Length: 1000\r\n\r\nabc", hold=True),
        200,
        None,
    ),
    "sends 10,000 headers": (say(HEAD + MANY_HEADERS + b"\r\n"), None, "bad_answer"),
    "sends a header of a megabyte": (
        say(HEAD + b"X: " + b"y" * 2**20 + b"\r\n\r\n"),
        None,
        "bad_answer",
    ),
    "speaks HTTP/1.0": (say(b"HTTP/1.0 200 OK\r\n\r\nfine"), 200, None),
    "has a reason that is no ASCII": (
        say("HTTP/1.1 200 Schön\r\n".encode() + b"Content-Length: 0\r\n\r\n"),
        200,
        None,
    ),
    "has a header that is no UTF-8": (
        say(HEAD + b"X: \xff\xfe\r\nContent-Length: 0\r\n\r\n"),
        200,
        None,
    ),
    "says 100 first": (
        say(b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"Content-Length: 0\r\n\r\n"),
        200,
        None,
    ),
    "speaks no HTTP": (say(b"SSH-2.0-OpenSSH_9.9\r\n"), None, "bad_answer"),
    "sends bad chunks": (
        say(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        None,
        "bad_answer",
    ),
    "upgrades to something else": (
        say(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        101,
        "status",
    ),
}


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


NODE = shutil.which("node")
_VERIFY = """
const crypto = require('crypto');
const [secret, id, timestamp, signature, body] = process.argv.slice(1);
const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
const made = crypto.createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
process.exit(signature.split(' ').includes('v1,' + made) ? 0 : 1);
"""


@pytest.mark.skipif(NODE is None, reason="Node is not there")
async def test_another_language_verifies_our_signature() -> None:
    body = '{"name":"Zoë 🦊"}'
    signature = sign([bytes(24), decode_secret(SECRET)], "evt_1", 1614265330, body.encode())
    for text, code in ((body, 0), (body + " ", 1)):
        process = await asyncio.create_subprocess_exec(
            str(NODE), "-e", _VERIFY, SECRET, "evt_1", "1614265330", signature, text
        )
        assert await process.wait() == code
