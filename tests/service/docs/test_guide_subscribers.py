"""The verifiers and the subscriber of the guides, with real deliveries."""

import asyncio
import base64
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from service.webhooks.secrets import decode_secret, make_secret
from service.webhooks.signing import sign
from tests.harness.running_service import SECRET, RunningService, wait_until
from tests.loopback.receiver import Received, run_receiver
from tests.service.cli.devrun import find_free_port
from tests.service.docs.guide_code import find_program, run, run_json, start

HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
IN_PYTHON = """
import base64, json, sys
from leadlog_signature import verify
cases = json.load(sys.stdin)
print(json.dumps([verify(keys, headers, base64.b64decode(body)) for keys, headers, body in cases]))
"""
IN_NODE = """
const { verify } = require("./leadlog-signature.cjs");
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map(([secrets, headers, body]) =>
  verify(secrets, headers, Buffer.from(body, "base64")))));
"""
IN_RUBY = """
require "json"
require_relative "leadlog_signature"
puts JSON.generate(JSON.parse(STDIN.read).map { |secrets, headers, body|
  leadlog_verify(secrets, headers, body.unpack1("m0"))
})
"""
IN_GO = """
package main

import ("encoding/base64"; "encoding/json"; "net/http"; "os")

func main() {
	var cases [][3]json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil { panic(err) }
	var found []bool
	for _, one := range cases {
		var secrets []string
		var fields map[string]string
		var text string
		json.Unmarshal(one[0], &secrets)
		json.Unmarshal(one[1], &fields)
		json.Unmarshal(one[2], &text)
		body, _ := base64.StdEncoding.DecodeString(text)
		header := http.Header{}
		for name, value := range fields { header.Set(name, value) }
		found = append(found, Verify(secrets, header, body))
	}
	json.NewEncoder(os.Stdout).Encode(found)
}
"""
IN_PHP = """<?php
require __DIR__ . "/leadlog_signature.php";
$cases = json_decode(stream_get_contents(STDIN), true);
echo json_encode(array_map(
    fn ($one) => leadlog_verify($one[0], $one[1], base64_decode($one[2])), $cases));
"""
DRIVERS = {
    "leadlog_signature.py": ("driver.py", IN_PYTHON),
    "leadlog-signature.cjs": ("driver.cjs", IN_NODE),
    "leadlog_signature.rb": ("driver.rb", IN_RUBY),
    "signature.go": ("driver.go", IN_GO),
    "leadlog_signature.php": ("driver.php", IN_PHP),
}
"""For each verifier a program that applies it to cases: secrets, headers, body in base64."""


@pytest.fixture(scope="module")
async def delivery(running: RunningService) -> Received:
    """A real request, which is signed with two secrets, because the first one was rotated."""
    async with run_receiver() as receiver:
        webhook = await running.add_webhook(receiver.url)
        await running.api.call("POST", f"/v1/webhooks/{webhook}/rotate-secret")
        await running.add_lead("zoë@example.com", name="Zoë 🦊")
        (received,) = await receiver.wait_for(1)
        await running.wait_finished(webhook, 1)
    assert len(received.headers["webhook-signature"].split()) == 2
    return received


def make_cases(delivery: Received) -> tuple[list[Any], list[bool]]:
    """Requests as they come and as they must be refused, and whether each is genuine."""
    headers = {name: delivery.headers[name] for name in HEADERS}
    sent_at = int(headers["webhook-timestamp"])
    key = decode_secret(SECRET)

    def sign_at(timestamp: int) -> dict[str, str]:
        signature = sign([key], delivery.id, timestamp, delivery.body)
        return {**headers, "webhook-timestamp": str(timestamp), "webhook-signature": signature}

    cases: list[tuple[bool, list[str], dict[str, str], bytes]] = [
        (True, [SECRET], headers, delivery.body),
        (True, [make_secret(), SECRET], headers, delivery.body),
        (True, [SECRET], sign_at(sent_at - 200), delivery.body),
        (False, [make_secret()], headers, delivery.body),
        (False, [], headers, delivery.body),
        (False, [SECRET], headers, delivery.body + b" "),
        (False, [SECRET], headers, delivery.body.replace(b"lead.created", b"lead.deleted")),
        (False, [SECRET], {**headers, "webhook-id": "evt_other"}, delivery.body),
        (False, [SECRET], {**headers, "webhook-timestamp": str(sent_at + 1)}, delivery.body),
        (False, [SECRET], sign_at(sent_at - 600), delivery.body),
        (False, [SECRET], sign_at(sent_at + 600), delivery.body),
        (False, [SECRET], {**headers, "webhook-timestamp": "now"}, delivery.body),
        (False, [SECRET], {**headers, "webhook-timestamp": "9" * 30}, delivery.body),
        (False, [SECRET], {**headers, "webhook-signature": "v1, v1 v2,x,"}, delivery.body),
        (False, [SECRET], {}, delivery.body),
    ]
    shown = [
        (secrets, fields, base64.b64encode(body).decode()) for _, secrets, fields, body in cases
    ]
    return shown, [genuine for genuine, *_ in cases]


@pytest.mark.parametrize("name", DRIVERS)
async def test_a_verifier_accepts_a_real_delivery_and_refuses_every_change(
    delivery: Received, folder: Path, name: str
) -> None:
    program = find_program(name)
    if program is None:
        pytest.skip(f"{name} needs an interpreter or compiler that is not there")
    driver, code = DRIVERS[name]
    (folder / driver).write_text(code)
    command = [program, "run", name, driver] if name.endswith(".go") else [program, driver]
    cases, expected = make_cases(delivery)
    assert await run_json(command, folder, cases) == expected


class Subscriber:
    """The guide's subscriber, with its database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = find_free_port()
        self.url = f"http://127.0.0.1:{self._port}/hooks/leadlog"

    async def fill(self, env: dict[str, str]) -> None:
        """Run the guide's program that fills the copy."""
        program = find_program("fill.py")
        assert program is not None
        await run([program, "fill.py"], self._folder, env | {"WEBHOOK_SECRETS": SECRET})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        program = find_program("subscriber.py")
        assert program is not None
        env = {"WEBHOOK_SECRETS": SECRET, "SUBSCRIBER_PORT": str(self._port)}
        async with start([program, "subscriber.py"], self._folder, env):
            await wait_until(self._is_listening)
            yield

    async def _is_listening(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    def ask(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self._folder / "subscriber.sqlite")) as db:
            return db.execute(query).fetchall()

    def change(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self._folder / "subscriber.sqlite")) as db, db:
            db.execute(statement, values)

    def read_leads(self) -> dict[str, Any]:
        rows = self.ask("SELECT id, data FROM lead")
        return {lead: None if data is None else json.loads(data) for lead, data in rows}


async def read_list(running: RunningService) -> dict[str, Any]:
    found = await running.api.get("/v1/leads", limit=100)
    return {lead["id"]: lead for lead in found.json["data"]}


async def test_the_subscriber_survives_its_death_repeats_and_disorder(
    running: RunningService, folder: Path
) -> None:
    subscriber = Subscriber(folder)
    kept = await read_list(running)
    types = ("lead.created", "lead.updated", "lead.qualified", "lead.deleted")
    async with subscriber.running():
        webhook = await running.add_webhook(subscriber.url, *types)
        await running.api.patch(f"/v1/webhooks/{webhook}", {"retry": "fast"})
        ids = [await running.add_lead(f"{n}@copy.example.com") for n in range(6)]

        async def has_first() -> bool:
            return bool(subscriber.read_leads())

        await wait_until(has_first)
    for lead in ids[:4]:  # nobody listens now
        await running.api.patch(f"/v1/leads/{lead}", {"status": "qualified"})
    await running.api.delete(f"/v1/leads/{ids[5]}")

    async def is_equal() -> bool:
        await running.make_due_now(webhook)
        expected = await read_list(running)
        expected = {lead: row for lead, row in expected.items() if lead not in kept}
        return subscriber.read_leads() == expected | {ids[5]: None}

    async with subscriber.running():
        for status in ("paused", "active"):  # ends the pause of a webhook that does not respond
            await running.api.patch(f"/v1/webhooks/{webhook}", {"status": status})
        await wait_until(is_equal, 30)
        delivered = len(await running.finals(webhook))
        await running.api.post(f"/v1/webhooks/{webhook}/replay", {"since": "2020-01-01"})
        await running.wait_finished(webhook, delivered * 2)  # every event again, the oldest first
        assert await is_equal()
        oldest = next(row for row in await running.finals(webhook) if row["lead_id"] == ids[0])
        delivery = await running.show_delivery_id(oldest["id"])
        path = f"/v1/webhooks/{webhook}/deliveries/{delivery}/resend"
        assert (await running.api.call("POST", path)).status == 202
        await running.wait_finished(webhook, delivered * 2 + 1)  # an old event after newer ones
        assert await is_equal()
    tasks = subscriber.ask("SELECT what FROM task ORDER BY what")
    assert tasks == [(f"call {n}@copy.example.com",) for n in range(4)]


async def test_the_subscriber_refuses_a_forged_event(
    folder: Path, session: aiohttp.ClientSession
) -> None:
    subscriber = Subscriber(folder)
    event = {"id": "evt_1", "type": "lead.created", "data": {"lead": {"id": "x"}, "version": 1}}
    async with subscriber.running():
        async with session.post(subscriber.url, json=event) as response:
            assert response.status == 400
        assert subscriber.read_leads() == {}


async def test_filling_repairs_a_copy_that_a_restore_has_made_wrong(
    running: RunningService, env: dict[str, str], folder: Path
) -> None:
    """Stored versions are above those of Leadlog, and leads are there that it has lost."""
    subscriber = Subscriber(folder)
    stale, deleted = [await running.add_lead(f"{n}@restored.example.com") for n in range(2)]
    async with subscriber.running():
        await running.add_webhook(subscriber.url, "lead.created", "lead.updated")
        for lead, data in ((stale, "{}"), (deleted, None), ("lead_lost", "{}")):
            subscriber.change("INSERT INTO lead VALUES (?, 999, ?)", lead, data)
        subscriber.change("INSERT INTO seen (event_id) VALUES ('evt_of_old')")
        await subscriber.fill(env)
        assert subscriber.read_leads() == await read_list(running)
        assert subscriber.ask("SELECT event_id FROM seen WHERE event_id = 'evt_of_old'")
        await running.api.patch(f"/v1/leads/{stale}", {"name": "Changed after the restore"})

        async def is_changed() -> bool:
            return bool(subscriber.read_leads()[stale]["name"])

        await wait_until(is_changed)


async def test_filling_leaves_what_an_event_has_written_meanwhile(
    running: RunningService, env: dict[str, str], folder: Path
) -> None:
    subscriber = Subscriber(folder)
    async with subscriber.running():
        newer = await running.add_lead("newer@filled.example.com")
        (folder / "walk.py").write_text(
            "import json, sqlite3\n"
            "def list_leads():\n"
            "    with sqlite3.connect('subscriber.sqlite') as db:\n"
            f"        db.execute('INSERT INTO lead VALUES (?, 5, ?)', ('{newer}', '\"event\"'))\n"
            f"    yield {{'id': '{newer}', 'of': 'the walk'}}\n"
        )
        await subscriber.fill(env)
        assert subscriber.ask("SELECT version, data FROM lead") == [(5, '"event"')]


async def test_the_subscriber_refuses_a_thin_event_loudly(
    running: RunningService, folder: Path
) -> None:
    subscriber = Subscriber(folder)
    async with subscriber.running():
        webhook = await running.add_webhook(subscriber.url)
        await running.api.patch(f"/v1/webhooks/{webhook}", {"payload": "thin"})
        test = await running.api.call("POST", f"/v1/webhooks/{webhook}/test")
        path = f"/v1/webhooks/{webhook}/deliveries/{test.json['deliveryId']}"

        async def was_tried() -> bool:
            return bool((await running.api.get(path)).json["attemptLog"])

        await wait_until(was_tried)
        (attempt, *_) = (await running.api.get(path)).json["attemptLog"]
        assert (attempt["status"], attempt["error"]) == (500, "status")
        assert "set the webhook's payload to full" in attempt["response"]
        assert subscriber.read_leads() == {}


async def test_a_subscriber_that_cannot_store_an_event_says_so_and_gets_it_again(
    running: RunningService, folder: Path
) -> None:
    subscriber = Subscriber(folder)
    async with subscriber.running():
        webhook = await running.add_webhook(subscriber.url, "lead.created")
        subscriber.change("ALTER TABLE seen RENAME TO hidden")
        lead = await running.add_lead("broken@subscriber.example.com")
        path = f"/v1/webhooks/{webhook}/deliveries"

        async def has_failed() -> bool:
            rows = (await running.api.get(path)).json["data"]
            return bool(rows) and rows[0]["lastStatus"] == 500

        await wait_until(has_failed)
        assert subscriber.read_leads() == {}  # rolled back
        subscriber.change("ALTER TABLE hidden RENAME TO seen")
        await running.make_due_now(webhook)
        await running.wait_finished(webhook, 1)
        assert set(subscriber.read_leads()) == {lead}
