"""The commands of the guides run as they are, in their order, against the real service."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator

import pytest

from service.docs.openapi.examples.call import WEBHOOK_ID
from tests.harness.running_service import RunningService
from tests.loopback.receiver import Receiver, run_receiver
from tests.service.cli.shell import Shell, open_shell
from tests.service.docs.guide_code import BLOCKS, FILES, Block

GUIDES = list(dict.fromkeys(block.guide for block in BLOCKS if block.language == "sh"))
WIDEST = 86
LANGUAGES = {"sh", "python", "js", "ruby", "go", "php"}


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with run_receiver() as receiver:
        yield receiver


@pytest.fixture
async def shell(running: RunningService, receiver: Receiver) -> AsyncIterator[Shell]:
    """A shell for which the guides' address and key are those of the running service."""
    changes = {
        "http://127.0.0.1:8080": running.api.url,
        "sk_live_…": str(running.api.key),
        "https://crm.example.com": receiver.url,
    }
    async with open_shell({"LEADLOG_KEY": str(running.api.key)}, changes) as shell:
        yield shell


def find_commands(guide: str) -> list[Block]:
    return [block for block in BLOCKS if block.guide == guide and block.language == "sh"]


def test_every_block_of_code_is_run_by_a_test() -> None:
    """The files without `run` are those of test_guide_clients.py and test_guide_subscribers.py."""
    for block in BLOCKS:
        if block.language in LANGUAGES:
            assert block.is_run or block.title in FILES, block.code
    assert {block.title for block in BLOCKS if block.title and not block.is_run} == {
        "leadlog.py", "leadlog.mjs", "follow.py", "follow.mjs", "read_stream.py", "subscriber.py",
        "fill.py", "leadlog_signature.py", "leadlog-signature.cjs", "leadlog_signature.rb",
        "signature.go", "leadlog_signature.php",
    }  # fmt: skip


def test_no_line_of_code_is_wider_than_a_laptop_shows() -> None:
    assert [
        line for block in BLOCKS for line in block.code.splitlines()
        if len(line) > WIDEST and block.language != "http"
    ] == []  # fmt: skip


@pytest.mark.skipif(shutil.which("curl") is None, reason="the guides need curl")
@pytest.mark.parametrize("guide", GUIDES)
async def test_the_commands_of_a_guide_work(
    shell: Shell, running: RunningService, receiver: Receiver, guide: str
) -> None:
    webhook = await running.add_webhook(receiver.url) if guide == "retries" else WEBHOOK_ID
    if guide == "pagination":
        for name in ("one", "two"):
            await running.add_lead(f"{name}@example.com")
    for block in find_commands(guide):
        assert block.is_run
        output = await shell.run(block.code.replace(WEBHOOK_ID, webhook))
        if block.expect:
            assert f'"code":"{block.expect}"' in output, output
        else:
            assert '"error":{' not in output, output
            assert output or "curl" not in block.code or "DELETE" in block.code


@pytest.mark.skipif(shutil.which("curl") is None, reason="the guides need curl")
async def test_the_error_that_a_guide_shows_is_the_one_that_comes(shell: Shell) -> None:
    found = json.loads(await shell.run(find_commands("errors")[0].code))
    (shown,) = [
        block.code for block in BLOCKS if (block.guide, block.language) == ("errors", "json")
    ]
    found["error"]["doc_url"] = found["error"]["doc_url"].removeprefix("https://leadlog.test")
    assert json.loads(shown) == found


async def test_a_repeated_command_is_replayed_as_the_guide_says(
    shell: Shell, running: RunningService
) -> None:
    output = await shell.run(find_commands("concurrency")[0].code)
    assert output.lower().count("http/1.1 201") == 2
    assert output.lower().count("idempotency-replayed: true") >= 1
    found = await running.api.get("/v1/leads", email="marta@nordvik.example.com")
    assert found.json["pagination"]["total"] == 1


async def test_the_guide_of_keys_leaves_none_of_its_keys_and_no_other_key_is_touched(
    shell: Shell, running: RunningService
) -> None:
    named = {"name": "website form", "scope": "write", "mode": "test"}
    other = (await running.api.post("/v1/api-keys", named)).json["id"]
    for block in find_commands("authentication"):
        await shell.run(block.code)
    kept = (await running.api.get("/v1/api-keys")).json["data"]
    assert [key["id"] for key in kept if key["name"] == "website form"] == [other]


async def test_the_guide_of_webhooks_touches_only_the_webhook_that_it_has_created(
    shell: Shell, running: RunningService, receiver: Receiver
) -> None:
    create, *others = find_commands("webhooks")
    await shell.run(create.code)
    mine = await running.add_webhook(receiver.url)  # newer than that of the guide
    before = (await running.api.get(f"/v1/webhooks/{mine}")).json
    for block in others:
        await shell.run(block.code)
    assert (await running.api.get(f"/v1/webhooks/{mine}")).json == before


async def test_an_example_without_a_key_says_what_to_set() -> None:
    code = find_commands("feed")[0].code
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", code, env={"PATH": os.environ["PATH"]}, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode
    assert "Set it first: export LEADLOG_KEY=" in said.decode()


async def test_the_cursor_of_a_list_with_one_page_does_not_show_it_again(
    shell: Shell,
) -> None:
    first, second = find_commands("pagination")
    await shell.run(first.code)
    code = second.code.replace("?limit=1", "?limit=100&tag=of-no-lead")
    assert "There is no second page" in await shell.run(code)
