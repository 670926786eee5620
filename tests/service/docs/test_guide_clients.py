"""The clients of the guides lose nothing: responses, pages, changes of others, events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from msgspec.structs import replace

from service.database.hidden_numbers import HiddenNumbers
from service.events.feed import decode_cursor, encode_cursor
from tests.harness.running_service import RunningService
from tests.service.docs.guide_code import find_program, kill_and_read, read_lines, run, start

WALKS, CHANGES = ("walk.py", "walk.mjs"), ("change.py", "change.mjs")
POST_IN_PYTHON = """
import sys
from leadlog import call
call("POST", "/v1/leads", {"email": sys.argv[1]})
"""
POST_IN_NODE = """
import { send } from "./leadlog.mjs";
await send("POST", "/v1/leads", { email: process.argv.at(-1) });
"""
DELETE_IN_PYTHON = """
import sys
from leadlog import call
call("DELETE", f"/v1/leads/{sys.argv[1]}")
"""
DELETE_IN_NODE = """
import { send } from "./leadlog.mjs";
await send("DELETE", `/v1/leads/${process.argv.at(-1)}`);
"""
TAG_IN_PYTHON = """
import sys
from change import call, change_lead
def make_patch(lead):
    if "other" not in lead["tags"]:  # somebody else is quicker
        call("PATCH", f"/v1/leads/{lead['id']}", {"tags": [*lead["tags"], "other"]})
    return {"tags": [*lead["tags"], "mine"]}
change_lead(sys.argv[1], make_patch)
"""
TAG_IN_NODE = """
import { changeLead } from "./change.mjs";
import { send } from "./leadlog.mjs";
await changeLead(process.argv.at(-1), async ({ id, tags }) => {
  if (!tags.includes("other")) {  // somebody else is quicker
    await send("PATCH", `/v1/leads/${id}`, { tags: [...tags, "other"] });
  }
  return { tags: [...tags, "mine"] };
});
"""
NODE_OPTIONS = ["--input-type=module", "-e"]
POST_ONCE = {"python": ["-c", POST_IN_PYTHON], "node": [*NODE_OPTIONS, POST_IN_NODE, "--"]}
DELETE_ONE = {"python": ["-c", DELETE_IN_PYTHON], "node": [*NODE_OPTIONS, DELETE_IN_NODE, "--"]}
ADD_TAG = {"python": ["-c", TAG_IN_PYTHON], "node": [*NODE_OPTIONS, TAG_IN_NODE, "--"]}
FILE_OF = {"python": "leadlog.py", "node": "leadlog.mjs"}


def command_for(name: str) -> list[str]:
    program = find_program(name)
    if program is None:
        pytest.skip(f"{name} needs a program that is not there")
    return [program]


@dataclass
class FaultyProxy:
    """Passes requests on; loses the first response, refuses the second request, then behaves."""

    target: str
    keys: list[str] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers.get("Idempotency-Key", ""))
        if len(self.keys) == 2:
            return web.json_response({"error": {"code": "unavailable"}}, status=503,
                                     headers={"Retry-After": "0"})  # fmt: skip
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, self.target + request.path_qs, data=await request.read(),
                headers={name: request.headers[name] for name in
                         ("Authorization", "Content-Type", "Idempotency-Key")
                         if name in request.headers},
            ) as response,
        ):  # fmt: skip
            body = await response.read()
        if len(self.keys) == 1:  # the work was done, but nobody learns of it
            assert request.transport is not None
            request.transport.abort()
        return web.Response(body=body, status=response.status, content_type="application/json")


@asynccontextmanager
async def run_proxy(target: str) -> AsyncIterator[FaultyProxy]:
    proxy = FaultyProxy(target)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", proxy.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield proxy
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("language", ["python", "node"])
async def test_a_client_repeats_until_its_lead_is_there_once(
    running: RunningService, env: dict[str, str], folder: Path, language: str
) -> None:
    email = f"{language}@example.com"
    command = [*command_for(FILE_OF[language]), *POST_ONCE[language], email]
    async with run_proxy(running.api.url) as proxy:
        await run(command, folder, env | {"LEADLOG_URL": proxy.url})
    assert len(proxy.keys) == 3
    assert len(set(proxy.keys)) == 1
    assert proxy.keys[0]
    found = await running.api.get("/v1/leads", email=email)
    assert found.json["pagination"]["total"] == 1


@pytest.mark.parametrize("language", ["python", "node"])
async def test_a_client_takes_the_404_of_its_repeated_delete_for_success(
    running: RunningService, env: dict[str, str], folder: Path, language: str
) -> None:
    lead = await running.add_lead(f"{language}@gone.example.com")
    command = [*command_for(FILE_OF[language]), *DELETE_ONE[language], lead]
    async with run_proxy(running.api.url) as proxy:
        await run(command, folder, env | {"LEADLOG_URL": proxy.url})
    assert len(proxy.keys) == 3
    async with start(command, folder, env) as process, asyncio.timeout(20):
        output, _ = await process.communicate()
    assert process.returncode == 1
    assert b"404 not_found" in output  # the first attempt of another program


@pytest.mark.parametrize("language", ["python", "node"])
async def test_a_client_does_not_repeat_a_request_that_was_refused(
    running: RunningService, env: dict[str, str], folder: Path, language: str
) -> None:
    command = [*command_for(FILE_OF[language]), *POST_ONCE[language], "no address"]
    async with start(command, folder, env) as process, asyncio.timeout(20):
        output, _ = await process.communicate()
    assert process.returncode == 1
    assert b"422 unprocessable: email is not an e-mail address" in output
    assert await running.pool.fetchval("SELECT count(*) FROM lead WHERE email = 'no address'") == 0


@pytest.mark.parametrize("language", ["python", "node"])
async def test_a_change_that_came_in_between_is_not_lost(
    running: RunningService, env: dict[str, str], folder: Path, language: str
) -> None:
    lead = await running.add_lead(f"{language}@tags.example.com")
    await run([*command_for(FILE_OF[language]), *ADD_TAG[language], lead], folder, env)
    found = await running.api.get(f"/v1/leads/{lead}")
    assert sorted(found.json["tags"]) == ["mine", "other"]


@pytest.mark.parametrize("name", CHANGES)
async def test_the_example_of_a_change_runs(env: dict[str, str], folder: Path, name: str) -> None:
    output = await run([*command_for(name), name], folder, env)
    assert "pilot" in output


@pytest.mark.parametrize("name", WALKS)
async def test_a_walk_finds_every_lead_once_while_others_are_created(
    running: RunningService, env: dict[str, str], folder: Path, name: str
) -> None:
    before = [await running.add_lead(f"{name}{n}@walk.example.com") for n in range(110)]
    async with start([*command_for(name), name], folder, env) as process:
        for n in range(20):
            await running.add_lead(f"{name}{n}@later.example.com")
        async with asyncio.timeout(30):
            output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    ids = [line.split()[0] for line in output.decode().splitlines()]
    assert len(ids) == len(set(ids))
    assert set(before) <= set(ids)


@pytest.mark.parametrize("name", ["follow.py", "follow.mjs"])
async def test_a_killed_reader_of_the_feed_goes_on_without_a_gap(
    running: RunningService, env: dict[str, str], folder: Path, name: str
) -> None:
    latest = (await running.api.get("/v1/events", after="latest")).json["pagination"]["nextCursor"]
    (folder / "cursor.txt").write_text(latest)
    seen: list[str] = []
    for turn in range(3):
        lead = await running.add_lead(f"{name}{turn}@follow.example.com")
        await running.api.patch(f"/v1/leads/{lead}", {"name": "Changed"})
        async with start([*command_for(name), name], folder, env) as process:
            seen += [*await read_lines(process, 2), *await kill_and_read(process)]
    logged = (await running.api.get("/v1/events", after=latest)).json["data"]
    whole = [f"{event['type']} {event['data']['version']} {event['id']}" for event in logged]
    applied = list(dict.fromkeys(seen))  # some come again, none is left out
    assert len(applied) >= 2
    assert applied == whole[: len(applied)]


async def test_a_reader_whose_cursor_is_too_old_says_what_to_do(
    running: RunningService, env: dict[str, str], folder: Path
) -> None:
    found = await running.api.get("/v1/events", after="latest")
    cipher = await HiddenNumbers(running.pool).open()
    position = decode_cursor(found.json["pagination"]["nextCursor"], cipher)
    of_other_time = replace(position, cut_at=position.cut_at - 1)
    (folder / "cursor.txt").write_text(encode_cursor(of_other_time, cipher))
    async with start([*command_for("follow.py"), "follow.py"], folder, env) as process:
        output, _ = await process.communicate()
    assert b"The cursor is too old" in output
    assert process.returncode == 1


async def test_a_killed_reader_of_the_stream_gets_what_it_had_not_acknowledged(
    running: RunningService, env: dict[str, str], folder: Path, redis_url: str
) -> None:
    """The test's database was emptied before, which begins a generation after some time."""
    command = [*command_for("read_stream.py"), "read_stream.py"]
    first = await running.add_lead("first@stream.example.com")
    async with start(command, folder, env | {"REDIS_URL": redis_url}) as process:
        while first not in (await read_lines(process, 1))[0]:
            await running.api.patch(f"/v1/leads/{first}", {"name": str(uuid4())})
    leads = [await running.add_lead(f"{n}@stream.example.com") for n in range(5)]
    missing = {f"lead.created {lead} 1" for lead in leads}
    async with asyncio.timeout(30):
        while missing:
            async with start(command, folder, env | {"REDIS_URL": redis_url}) as process:
                missing -= {*await read_lines(process, 1), *await kill_and_read(process)}
