"""The outermost layer: request ids, one log line per request without secrets, bounded metrics."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.types import Message

from service.app import API, SERVICE
from service.errors import Overloaded
from service.http.middleware import Middleware
from service.http.request import Request
from service.http.responses import Response
from service.http.router import SegmentRouter
from service.load.callers import REFUSAL_DELAY_S
from service.load.load_shedder import LoadShedder
from service.settings import Settings
from tests.harness.api_client import Api, ApiResponse
from tests.loopback.raw_http import connect, make_request

STRAY_KEY = "sk_live_" + "Stray0" * 5
BODY_SECRET = "correct horse battery staple"
NO_STATE = {"leadlog": None}
"""The state of requests that reach no handler."""


@dataclass(frozen=True)
class Record:
    """The responses of a process, and its log."""

    answers: dict[str, ApiResponse]
    lines: list[dict[str, Any]]
    output: str

    def find_line(self, name: str) -> dict[str, Any]:
        request_id = self.answers[name].headers["x-request-id"]
        (line,) = [
            line
            for line in self.lines
            if line["event"] == "request.served" and line["request_id"] == request_id
        ]
        return line


@asynccontextmanager
async def run_process(settings: Settings) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Runs `leadlog serve` as an operator would; yields its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = os.environ | {
        "DATABASE_URL": settings.require_database_url(),
        "REDIS_URL": settings.require_redis_url(),
        "SECRET_KEY": str(settings.secret_key),
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from service.cli.main import main; main()", "serve",
        "--host", "127.0.0.1", "--port", str(port),
        env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        await wait_until_listening(port)
        yield f"http://127.0.0.1:{port}", process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def wait_until_listening(port: int) -> None:
    """Waits until a process listens; fails after 20 s."""
    for _ in range(1000):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            await writer.wait_closed()
            return
    raise AssertionError("the process does not listen")


@pytest.fixture(scope="module")
async def record(settings: Settings, api: Api) -> Record:
    async with run_process(settings) as (url, process):
        mine = Api(url, api.session, api.tenant, api.key)
        answers = await call_all(mine)
        process.send_signal(signal.SIGTERM)
        output = (await process.communicate())[0].decode()
    lines = [json.loads(line) for line in output.splitlines()]
    return Record(answers, lines, output)


async def call_all(api: Api) -> dict[str, ApiResponse]:
    lead = {"email": "edge@example.com", "customFields": {"note": BODY_SECRET}}
    created = await api.post("/v1/leads", lead)
    path = f"/api/v1/leads/{created.json['id']}"
    wrong = api.with_key(STRAY_KEY)
    return {
        "created": created,
        "named": await api.call("GET", path, headers={"X-Request-Id": "trace-1.a:b_c"}),
        "misnamed": await api.call("GET", path, headers={"X-Request-Id": "a b\tc"}),
        "refused": await wrong.get(path),
        "key in path": await api.get(f"/v1/leads/{STRAY_KEY}"),
        "key in query": await api.get(path, key=STRAY_KEY, q="Ines Duarte"),
        "bad body": await api.call("POST", "/v1/leads", '{"email": "' + BODY_SECRET + '"}'),
        "new key": await api.post("/v1/api-keys", {"name": "n", "scope": "read"}),
        "long path": await api.get("/nowhere/" + "x" * 5_000),
        "broken path": await api.get("/v1/leads/a%0a%7b%22event%22:%22forged%22%7d"),
        "odd method": await api.call("PROPFIND", "/v1/leads"),
        "metrics": await api.get("/metrics"),
    }


def test_every_request_has_one_line_with_the_facts_for_an_operator(record: Record) -> None:
    line = record.find_line("created")
    assert line["ms"] > 0
    assert line["at"].endswith("Z")
    kept = ("method", "route", "path", "status", "live", "level", "part")
    assert {name: line[name] for name in kept} == {
        "method": "POST", "route": "/leads", "path": "/v1/leads", "status": 201, "live": True,
        "level": "info", "part": "api",
    }  # fmt: skip
    assert line["key_id"].startswith("key_")
    assert isinstance(line["tenant_id"], int)
    assert record.find_line("named")["route"] == "/leads/{id}"
    assert record.find_line("refused")["error"] == "unauthorized"
    assert "key_id" not in record.find_line("refused")
    assert record.find_line("bad body")["error"] == "unprocessable"


def test_a_callers_own_request_id_is_kept_if_it_is_harmless(record: Record) -> None:
    assert record.answers["named"].headers["x-request-id"] == "trace-1.a:b_c"
    ids = [answer.headers["x-request-id"] for answer in record.answers.values()]
    assert len(set(ids)) == len(ids)
    assert [i for i in ids if not i.startswith("req_")] == ["trace-1.a:b_c"]


def test_no_secret_and_no_content_is_logged(record: Record, api: Api) -> None:
    made = record.answers["new key"].json["key"]
    for secret in (STRAY_KEY, made, api.key, BODY_SECRET, "edge@example.com", "Duarte"):
        assert secret is not None
        assert secret.removeprefix("sk_live_") not in record.output


def test_a_request_cannot_forge_or_flood_the_log(record: Record) -> None:
    assert not [line for line in record.lines if line["event"] == "forged"]
    assert record.answers["broken path"].status == 404
    assert len(record.find_line("long path")["path"]) <= 200
    assert max(len(line) for line in record.output.splitlines()) < 2_000


def test_the_labels_of_the_metrics_are_bounded(record: Record) -> None:
    text = record.answers["metrics"].body.decode()
    routes = set(re.findall(r'leadlog_requests_total\{.*?route="([^"]*)"', text))
    methods = set(re.findall(r'leadlog_requests_total\{method="([^"]*)"', text))
    assert "/leads/{id}" in routes
    assert routes <= {op.path for op in (*API, *SERVICE)} | {"unknown"}
    assert methods <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "other"}
    assert re.search(r'requests_total\{method="POST",route="/leads",status="201"\} 1\.0', text)


def test_the_process_logs_only_json_and_no_errors(record: Record) -> None:
    assert all(isinstance(line, dict) for line in record.lines)
    assert not [line for line in record.lines if line["level"] in ("error", "critical")]


async def test_an_internal_error_is_500_without_details() -> None:
    class Failing(SegmentRouter):
        async def respond(self, request: Request) -> Response:
            raise LookupError(f"inside {BODY_SECRET} {request.path}")

    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], "state": NO_STATE}
    await Middleware(Failing({}), "/docs", LoadShedder(1), ("/v1",))(scope, receive, send)
    assert messages[0]["status"] == 500
    assert b"x-request-id" in dict(messages[0]["headers"])
    error = json.loads(messages[1]["body"])["error"]
    assert list(error) == ["code", "message", "doc_url"]
    assert error["code"] == "internal_error"
    assert BODY_SECRET not in error["message"]


@pytest.mark.parametrize("is_late", [True, False], ids=["at its arrival", "in a queue"])
async def test_a_delayed_refusal_is_not_counted_as_a_request_in_progress(is_late: bool) -> None:
    class Refusing(SegmentRouter):
        async def respond(self, _: Request) -> Response:
            raise Overloaded

    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        raise AssertionError("the body of a refused request is not read")

    shedder = LoadShedder(1)
    shedder.known_keys.add(b"Bearer known", "key_1")
    shedder.load._is_late, shedder.load._busy_s = is_late, 1000 * is_late
    headers = [(b"authorization", b"Bearer known")]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/x", "headers": headers, "state": NO_STATE
    }  # fmt: skip
    asked = asyncio.create_task(
        Middleware(Refusing({}), "/docs", shedder, ("/v1",))(scope, receive, send)
    )
    await asyncio.sleep(REFUSAL_DELAY_S / 2)
    assert not messages
    assert (shedder.load.at_work, shedder._open) == (0, 1)
    await asked
    assert messages[0]["status"] == 503
    assert dict(messages[0]["headers"])[b"retry-after"] == b"1"
    assert (shedder.load.at_work, shedder._open) == (0, 0)


async def test_a_request_id_cannot_smuggle_a_header(api: Api) -> None:
    async with connect(api.url) as wire:
        await wire.send(make_request("GET", "/health/live", "X-Request-Id: a\x0bSet-Cookie: b"))
        answer = await wire.read_response()
    assert "set-cookie" not in answer.headers
    assert answer.status == 400 or answer.headers["x-request-id"].startswith("req_")
