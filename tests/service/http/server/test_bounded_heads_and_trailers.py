"""Heads, chunk extensions and trailers have their own limits, which a body does not raise."""

from typing import Any

import pytest

from service.http.server import protocol
from service.http.server.cycle import find_cycle
from service.http.server.parsing import (
    FRAMING_LIMIT_BYTES,
    HEAD_LIMIT_BYTES,
    LATE_BODY_BYTES,
    LINE_LIMIT_BYTES,
)
from tests.loopback.memory_server import MemoryServer, Recorder, serve_bytes
from tests.loopback.raw_http import make_request

PIECE = 4096
CHUNKED = make_request("POST", "/", "Transfer-Encoding: chunked")
BODY = b"30d40\r\n" + b"a" * 200_000 + b"\r\n"


async def refuse_at_once(scope: Any, _: Any, __: Any) -> None:
    cycle = find_cycle(scope)
    assert cycle is not None
    cycle.respond(404, [(b"content-length", b"0")], b"")


async def count_taken(app: Any, head: bytes, flood: bytes, most: int) -> int:
    """How many bytes of a flood are accepted until the server closes, or about `most`."""
    server = MemoryServer(app)
    conn, transport = server.connect()
    conn.data_received(head)
    await server.settle()
    taken = 0
    while taken < most and not transport.is_closed:
        conn.data_received(flood)
        await server.settle()
        taken += len(flood)
    conn.connection_lost(None)
    await server.settle()
    return taken


@pytest.mark.parametrize("app", [Recorder(), refuse_at_once], ids=["read", "answered before"])
@pytest.mark.parametrize(
    ("start", "flood"),
    [
        (b"0\r\nX: ", b"b" * PIECE), (b"0\r\n", b"X: b\r\n" * (PIECE // 6)),
        (b"1;", b"e" * PIECE), (b"0;", b"e" * PIECE),
    ],
    ids=["a trailer", "many trailers", "an extension", "the last extension"],
)  # fmt: skip
async def test_a_body_does_not_raise_the_limit_of_trailers_and_extensions(
    app: Any, start: bytes, flood: bytes
) -> None:
    most = 20 * FRAMING_LIMIT_BYTES
    taken = await count_taken(app, CHUNKED + BODY + start, flood, most)
    assert taken <= FRAMING_LIMIT_BYTES + 2 * PIECE


async def test_the_extensions_of_all_chunks_together_are_limited() -> None:
    chunk = b"1;" + b"e" * 2000 + b"\r\na\r\n"
    assert await count_taken(Recorder(), CHUNKED, chunk, 1_000_000) < 4 * FRAMING_LIMIT_BYTES


async def test_chunks_of_one_byte_and_signed_chunks_are_read() -> None:
    signed = b"400;chunk-signature=" + b"f" * 64 + b"\r\n" + b"b" * 1024 + b"\r\n"
    end = b"0\r\nX-Checksum: " + b"c" * 2000 + b"\r\n\r\n"
    seen, _, closed = await serve_bytes([CHUNKED + b"1\r\na\r\n" * 20_000 + signed * 100 + end])
    assert (seen[0].body, closed) == (b"a" * 20_000 + b"b" * 102_400, False)


async def test_a_body_that_continues_after_its_response_is_cut_off() -> None:
    head = make_request("POST", "/", "Content-Length: 50000000")
    taken = await count_taken(refuse_at_once, head, b"a" * 100_000, 20_000_000)
    assert LATE_BODY_BYTES < taken <= LATE_BODY_BYTES + 200_000


@pytest.mark.parametrize("step", [64, PIECE, 1_000_000])
@pytest.mark.parametrize("kind", ["value", "name", "target", "lines"])
async def test_a_long_line_or_head_is_refused_however_it_is_split(kind: str, step: int) -> None:
    head = make_request("GET", "/")[:-2]
    long = b"a" * LINE_LIMIT_BYTES
    whole = {
        "value": head + b"X: " + long + b"\r\n\r\n",
        "name": head + long + b": x\r\n\r\n",
        "target": make_request("GET", f"/{long.decode()}"),
        "lines": head + b"X: %b\r\n" % long[:8000] * (HEAD_LIMIT_BYTES // 8000 + 1) + b"\r\n",
    }[kind]
    seen, written, closed = await serve_bytes(cut(whole, step))
    assert (seen, written[:12], closed) == ([], b"HTTP/1.1 400", True)
    assert b'"code":"too_long"' in written


@pytest.mark.parametrize("step", [64, PIECE, 1_000_000])
@pytest.mark.parametrize("upgrade", [b"", b"Connection: upgrade\r\nUpgrade: x\r\n"])
async def test_a_head_within_the_limits_is_read_however_it_is_split(
    step: int, upgrade: bytes
) -> None:
    target = "/" + "t" * 12_000
    lines = [b"X%d: %b\r\n" % (n, b"a" * 12_000) for n in range(4)]
    whole = make_request("GET", target)[:-2] + upgrade + b"".join(lines) + b"\r\n"
    seen, _, closed = await serve_bytes(cut(whole * 2, step))
    assert [each.target for each in seen] == [target.encode()] * 2
    assert not closed


def cut(whole: bytes, step: int) -> list[bytes]:
    return [whole[begin : begin + step] for begin in range(0, len(whole), step)]


async def test_the_refusal_of_a_head_request_has_no_body() -> None:
    bad = b" / HTTP/1.1\r\nHost: a b\r\n\r\n"
    for method, has_body in ((b"HEAD", False), (b"GET", True)):
        for before in (b"", make_request("HEAD", "/")):
            _, written, closed = await serve_bytes([before + method + bad])
            refusal = written[written.index(b"HTTP/1.1 400") :]
            assert (refusal.endswith(b"\r\n\r\n"), closed) == (not has_body, True)
            assert b"content-length: " in refusal
    _, written, _ = await serve_bytes([make_request("HEAD", "/") + b"garbage\r\n\r\n"])
    assert written.endswith(b"}")


@pytest.mark.parametrize(
    ("wish", "is_told"),
    [
        ("100-continue", True), ("100-Continue", True), ("x, 100-continue", True),
        ("x100-continue", False), ("100-continued", False), ("a=100-continue", False),
    ],
)  # fmt: skip
async def test_only_an_expectation_of_100_continue_gets_a_100(wish: str, is_told: bool) -> None:
    head = make_request("POST", "/", f"Expect: {wish}", "Content-Length: 2")
    _, written, _ = await serve_bytes([head])
    assert (b" 100 Continue" in written) == is_told


async def test_input_after_the_last_response_is_read_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "LINGER_BYTES", 500_000)
    server = MemoryServer(refuse_at_once)
    conn, transport = server.connect()
    conn.data_received(CHUNKED)
    await server.settle()
    conn.data_received(b"xyz\r\n")
    assert transport.written.startswith(b"HTTP/1.1 404")
    taken = 0
    while not transport.is_paused:
        conn.data_received(b"a" * 100_000)
        taken += 100_000
    assert taken == 600_000
    conn.connection_lost(None)
