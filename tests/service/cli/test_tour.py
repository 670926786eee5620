"""The tour of README.md and the production commands of deploy/README.md, run as written."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness.cluster import Cluster
from tests.harness.documents import find_blocks, read_section
from tests.service.cli.commandline import SECRET_KEY
from tests.service.cli.devrun import DevRun, find_free_port, start_dev
from tests.service.cli.shell import Shell, open_shell, start_program

TOUR = read_section("README.md", "A tour of five minutes")
PRODUCTION = read_section("deploy/README.md", "In production")
DEMO_LEADS = 200


def find_block(text: str, beginning: str) -> str:
    """The only block with this beginning."""
    (block,) = [block for block in find_blocks(text) if block.startswith(beginning)]
    return block


def find_promised_events(after: str) -> list[str]:
    """The event types that the paragraph after a block names, in order."""
    paragraph = TOUR.split(after.splitlines()[-1].strip())[1].strip().split("\n\n")[0]
    return re.findall(r"`(lead\.\w+)`", paragraph)


@pytest.fixture
async def tour(tmp_path: Path) -> AsyncIterator[DevRun]:
    async with start_dev(tmp_path / "data", find_free_port()) as run:
        await run.wait_until_ready()
        yield run


def adapt_to(run: DevRun) -> dict[str, str]:
    return {"http://127.0.0.1:8080": run.url, ".data/": f"{run.folder}/"}


@pytest.mark.timeout(300)
async def test_the_tour_of_the_readme_has_the_documented_results(tour: DevRun) -> None:
    env = {"DATA_DIR": str(tour.folder), "PORT": tour.url.rpartition(":")[2]}
    async with AsyncExitStack() as stack:
        shell = await stack.enter_async_context(open_shell(env, adapt_to(tour)))
        await shell.run(find_block(TOUR, "KEY="))
        listen = shell.adapt(find_block(TOUR, ".venv/bin/leadlog listen").strip())
        heard = await stack.enter_async_context(start_program(listen, env, "Listening at"))
        made = json.loads(await shell.run(find_block(TOUR, "curl -sS http://127.0.0.1:8080/v1/l")))
        assert drop_times(made) == drop_times(json.loads(find_block(TOUR, '{"id"')))
        await check_score(shell)
        assert [one["event"]["type"] for one in await heard.read(2)] == [
            "lead.created", "lead.updated",
        ]  # fmt: skip

        change = find_block(TOUR, "curl -sS -X PATCH")
        changed = json.loads(await shell.run(change))
        assert changed["customFields"] == {
            "teamSize": "50-100", "budget": "$5k-$10k/mo", "nextStep": "Schedule demo",
        }  # fmt: skip
        promised = find_promised_events(change)
        told = [one["event"] for one in await heard.read(len(promised))]
        assert [event["type"] for event in told] == promised
        assert [event["data"]["version"] for event in told] == [3, 4, 5]
        assert "score" in told[-1]["data"]["changes"]

        connector = shell.adapt(find_block(TOUR, ".venv/bin/python").strip())
        connected = await stack.enter_async_context(start_program(connector, env))
        assert {one["leadId"] for one in await connected.read(5)} == {made["id"]}
        await check_demo(shell)


def drop_times(lead: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in lead.items() if name != "id" and name[-2:] != "At"}


async def check_score(shell: Shell) -> None:
    """Checks that the response begins as the README shows it, except its lead id and time."""
    shown = re.sub(r"\n *", "", find_block(TOUR, '{"leadId"')).partition(", …")[0]
    varying = r'"(leadId|computedAt)":"[^"]*"'
    told = await shell.run_until(find_block(TOUR, "LEAD="), '"feature"')
    explained = re.sub(varying, r'"\1":""', told[told.index('{"leadId"') :])
    assert explained.startswith(re.sub(varying, r'"\1":""', shown).rstrip(","))


async def check_demo(shell: Shell) -> None:
    """Checks that the demo succeeds and prints the lines that the README shows."""
    command = find_block(TOUR, ".venv/bin/leadlog demo").replace("10000", str(DEMO_LEADS))
    told = await shell.run(command)
    assert told.endswith("Everything balances.")
    (shown,) = [block for block in find_blocks(TOUR) if "Everything balances." in block]
    for line in shown.splitlines():
        assert re.split(r"  +[\d,]+ of|: \d", line.strip())[0] in told


async def test_the_commands_for_production_serve_a_tenant(
    cluster: Cluster, redis_url: str, tmp_path: Path
) -> None:
    (block,) = find_blocks(PRODUCTION)
    commands = {line.split()[1]: line.partition(" #")[0] for line in block.splitlines() if line}
    port = str(find_free_port())
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(cluster.make_database(template="template0"))
        env = {
            "DATABASE_URL": database_url, "REDIS_URL": redis_url, "SECRET_KEY": SECRET_KEY,
            "PORT": port, "DATA_DIR": str(tmp_path), "LOG_LEVEL": "error", "SHED_AFTER_S": "60",
        }  # fmt: skip
        shell = await stack.enter_async_context(open_shell(env, {}))
        await shell.run(commands["migrate"])
        for name in ("serve", "work"):
            await stack.enter_async_context(start_program(commands[name], env))
        tenants = [line for line in block.splitlines() if line.startswith("leadlog tenants")]
        for line in tenants:
            await shell.run(line)
        await shell.run(f"KEY=$({commands['keys']})")
        url = f"http://127.0.0.1:{port}"
        await shell.run_until(f"curl -s {url}/health/ready; true", '"status":"ok"')
        lead = """-H 'Content-Type: application/json' -d '{"email": "ada@acmecorp.com"}'"""
        bearer = '-H "Authorization: Bearer $KEY"'
        made = json.loads(await shell.run(f"curl -sS {url}/v1/leads {bearer} {lead}"))
        scored = f"curl -sS {url}/v1/leads/{made['id']}/score {bearer}"
        await shell.run_until(scored, '"factors"')
        await shell.run(commands["doctor"])
