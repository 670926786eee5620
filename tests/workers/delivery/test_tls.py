"""The checks of certificates: their issuer, host and period."""

import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from tests.loopback.certificates import DAY, make_authority
from tests.loopback.raw_server import OK, post, run, write
from workers.delivery.connections import Connections

HERE = "127.0.0.1"


async def visit(trusted: ssl.SSLContext | None, server_side: ssl.SSLContext) -> list[str | None]:
    """The errors of two attempts; the second reuses the connection of a successful first."""
    connections = Connections(private=True)
    if trusted is not None:
        connections._dialer._tls = trusted
    async with run(write(OK), server_side) as server:
        attempts = [await post(connections, server, scheme="https") for _ in range(2)]
    await connections.close()
    assert server.requests == ([2] if attempts[0].error is None else [])
    return [attempt.error for attempt in attempts]


@pytest.mark.parametrize(
    ("address", "begins", "ends", "error"),
    [
        (HERE, -DAY, DAY, None),
        ("127.0.0.9", -DAY, DAY, "certificate"),
        (HERE, -2 * DAY, -DAY, "certificate"),
        (HERE, DAY, 2 * DAY, "certificate"),
    ],
    ids=["valid", "for another host", "expired", "not valid yet"],
)
async def test_a_certificate_must_be_for_the_host_of_the_url_and_valid_now(
    tmp_path: Path, address: str, begins: timedelta, ends: timedelta, error: str | None
) -> None:
    authority = make_authority(tmp_path)
    found = await visit(authority.trust(), authority.serve(address, begins, ends))
    assert found == [error, error]


async def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    authority, stranger = make_authority(tmp_path / "known"), make_authority(tmp_path / "unknown")
    server_side = stranger.serve(HERE)
    assert await visit(authority.trust(), server_side) == ["certificate"] * 2
    assert await visit(None, server_side) == ["certificate"] * 2  # with the system's authorities
