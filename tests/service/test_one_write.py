"""What the server writes in one go arrives whole and in order, whatever the requests are like."""

import asyncio
from urllib.parse import urlsplit

from tests.serving import Api


async def exchange(api: Api, request: str) -> bytes:
    """All that comes back until the server closes."""
    address = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        found = await reader.read()
    writer.close()
    await writer.wait_closed()
    return found


async def test_requests_sent_at_once_are_answered_in_their_order(api: Api) -> None:
    paths = ["/health/live", "/nowhere", "/openapi.json", "/health/live"]
    heads = [f"GET {path} HTTP/1.1\r\nX-Request-Id: req-{n}" for n, path in enumerate(paths)]
    requests = [f"{head}\r\nHost: x\r\n\r\n" for head in heads]
    address = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write("".join(requests).encode())
    for n, status in enumerate((200, 404, 200, 200)):
        async with asyncio.timeout(10):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith(f"http/1.1 {status}")
        assert f"x-request-id: req-{n}" in head
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        assert len(await reader.readexactly(length)) == length
    writer.close()
    await writer.wait_closed()


async def test_an_answer_without_a_body_and_one_that_ends_the_connection_are_sent(
    api: Api,
) -> None:
    head = await exchange(api, "HEAD /health/live")
    assert head.startswith(b"HTTP/1.1 200")
    assert head.endswith(b"\r\n\r\n")
    whole = await exchange(api, "GET /openapi.json")
    length = int(whole.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert len(whole.partition(b"\r\n\r\n")[2]) == length
