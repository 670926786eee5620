"""/metrics: rendered at most once a second, protected by a token, on its own port."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import aiohttp
import pytest
from msgspec.structs import replace

from service.database.connect import Pool
from service.handlers import health
from service.http.server.protocol import make_protocol
from service.settings import Settings
from service.telemetry import metrics_server
from service.telemetry.metrics import TICKS
from service.telemetry.metrics_server import MetricsPage
from tests.harness.api_client import Api, serve_api
from tests.harness.cluster import Cluster
from tests.loopback.raw_http import connect, make_request
from tests.service.cli.commandline import UNREACHABLE, Command, bare
from tests.service.cli.devrun import find_free_port
from workers.main import work

__all__ = ["bare"]  # a fixture
TOKEN = "scrape-me-if-you-can"


def read_ticks(text: bytes) -> float:
    match = re.search(rb"^leadlog_ticks_total (\S+)$", text, re.MULTILINE)
    assert match is not None
    return float(match[1])


async def test_a_rendered_text_is_cached_for_a_second() -> None:
    now = 100.0
    page = MetricsPage(clock=lambda: now)
    first = read_ticks(await page.read())
    TICKS.inc()
    now += 0.9
    assert read_ticks(await page.read()) == first
    now += 0.2
    assert read_ticks(await page.read()) == first + 1


async def test_concurrent_scrapes_get_the_same_text(pool: Pool) -> None:
    measured = 0

    async def measure() -> None:
        nonlocal measured
        measured += 1
        await health.measure_lateness(pool)

    page = MetricsPage(measure)
    texts = await asyncio.gather(*(page.read() for _ in range(100)))
    assert len(set(texts)) == 1
    assert b"leadlog_delivery_lateness_seconds" in texts[0]
    assert measured == 1


async def test_a_scrape_that_disconnects_does_not_end_the_others() -> None:
    may_go_on = asyncio.Event()
    page = MetricsPage(partial(asyncio.wait_for, may_go_on.wait(), 10))  # type: ignore[arg-type]
    leaving, staying = (asyncio.create_task(page.read()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    may_go_on.set()
    assert b"leadlog_ticks_total" in await staying


@pytest.fixture(scope="module")
def guarded(settings: Settings) -> Settings:
    return replace(settings, metrics_port=find_free_port(), metrics_token=TOKEN)


@pytest.fixture
async def scraped(
    guarded: Settings, api: Api, session: aiohttp.ClientSession
) -> AsyncIterator[tuple[Api, Api]]:
    """The API and its metrics port."""
    async with serve_api(guarded) as url:
        port = f"http://127.0.0.1:{guarded.metrics_port}"
        yield Api(url, session, api.tenant, api.key), Api(port, session, api.tenant, TOKEN)


async def test_metrics_with_their_own_port_are_served_only_there(
    scraped: tuple[Api, Api],
) -> None:
    served, scrape = scraped
    text = await scrape.get("/metrics")
    assert text.status == 200
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"leadlog_delivery_lateness_seconds" in text.body
    assert (await scrape.call("HEAD", "/metrics")).status == 200
    for path, status in (("/", 404), ("/v1/leads", 404), ("/health/live", 404)):
        assert (await scrape.get(path)).status == status
    response = await scrape.delete("/metrics")
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
    assert (await served.with_key(TOKEN).get("/metrics")).status == 404
    assert (await served.get("/health/live")).status == 200


@pytest.mark.parametrize("key", [None, "", "x", TOKEN[:-1], TOKEN + "x", "é"])
async def test_metrics_without_the_token_are_401(
    scraped: tuple[Api, Api], guarded: Settings, key: str | None
) -> None:
    async with serve_api(replace(guarded, metrics_port=None)) as url:
        for place in (scraped[1], replace_url(scraped[1], url)):
            response = await place.with_key(key).get("/metrics")
            assert (response.status, response.error["code"]) == (401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
            assert (await place.get("/metrics")).status == 200
            assert (await place.with_key(f" {TOKEN}").get("/metrics")).status == 200


def replace_url(api: Api, url: str) -> Api:
    return Api(url, api.session, api.tenant, api.key)


async def test_metrics_and_readiness_of_a_database_without_migrations(
    settings: Settings, api: Api, cluster: Cluster
) -> None:
    async with (
        cluster.make_database(template="template0") as dsn,
        serve_api(replace(settings, database_url=dsn)) as url,
    ):
        empty = replace_url(api, url)
        text = await empty.get("/metrics")
        assert text.status == 200
        assert b"leadlog_delivery_lateness_seconds" in text.body
        ready = await empty.get("/health/ready")
        assert (ready.status, ready.json["status"]) == (503, "failing")
        # Workers and readers could not be checked.
        assert sorted(ready.json["checks"]) == ["database", "migrations", "redis"]


async def test_metrics_are_public_if_no_token_is_set(api: Api) -> None:
    assert (await api.with_key(None).get("/metrics")).status == 200


async def test_workers_serve_metrics_on_their_own_port(
    guarded: Settings, api: Api, session: aiohttp.ClientSession
) -> None:
    page = MetricsPage()
    async with metrics_server.serving_metrics(page, guarded, make_protocol), work(guarded):
        scrape = Api(f"http://127.0.0.1:{guarded.metrics_port}", session, api.tenant, TOKEN)
        response = await scrape.get("/metrics")
        assert response.status == 200
        assert b"leadlog_job_starts_total" in response.body
        assert (await scrape.with_key(None).get("/metrics")).status == 401


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"])
async def test_idle_connections_prevent_no_scrape(scraped: tuple[Api, Api], sent: bytes) -> None:
    _, scrape = scraped
    async with AsyncExitStack() as stack:
        for _ in range(3 * metrics_server.MOST_AT_ONCE):
            await (await stack.enter_async_context(connect(scrape.url))).send(sent)
        for _ in range(3):
            assert (await scrape.get("/metrics")).status == 200


async def test_the_metrics_port_parses_http_as_strictly_as_the_api(
    scraped: tuple[Api, Api],
) -> None:
    _, scrape = scraped
    inner = make_request("GET", "/inner")
    wishes = ("Upgrade: websocket", "Connection: Upgrade")
    async with connect(scrape.url) as wire:
        await wire.send(make_request("POST", "/outer", *wishes, body=inner))
        await wire.send(make_request("GET", "/metrics", key=TOKEN))
        assert [(await wire.read_response()).status for _ in range(2)] == [404, 200]
    async with connect(scrape.url) as wire:
        await wire.send(b"GET /metrics HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n")
        assert (await wire.read_response()).status == 400
        assert await wire.ends()


@pytest.fixture
def unstarted(bare: Command) -> Command:
    """A command line that fails before it connects to its servers."""
    bare.set("DATABASE_URL", UNREACHABLE)
    bare.set("REDIS_URL", "redis://127.0.0.1:1")
    return bare


@pytest.fixture
async def taken(guarded: Settings) -> AsyncIterator[int]:
    async with metrics_server.serving_metrics(MetricsPage(), guarded, make_protocol):
        assert guarded.metrics_port is not None
        yield guarded.metrics_port


def test_a_port_in_use_is_reported_in_one_sentence(unstarted: Command, taken: int) -> None:
    unstarted.set("METRICS_PORT", str(taken))
    for command in (["work"], ["serve", "--port", str(find_free_port())]):
        sentence = unstarted(*command).sentence
        assert f"METRICS_PORT {taken} on 127.0.0.1 is taken" in sentence
        assert "set METRICS_PORT to another one" in sentence


def test_the_metrics_port_must_differ_from_the_api_port(unstarted: Command) -> None:
    port = str(find_free_port())
    ended = unstarted("serve", "--port", port, "--metrics-port", port)
    assert "METRICS_PORT" in ended.sentence
