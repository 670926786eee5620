"""The commands of the guides run as they are, in their order, against the real service."""

import json
import shutil
from collections.abc import AsyncIterator

import pytest

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
    async with open_shell({}, changes) as shell:
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
        "leadlog_signature.py", "leadlog-signature.cjs", "leadlog_signature.rb", "signature.go",
        "leadlog_signature.php",
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
    if guide == "retries":
        await running.add_webhook(receiver.url)
    if guide == "pagination":
        for name in ("one", "two"):
            await running.add_lead(f"{name}@example.com")
    for block in find_commands(guide):
        assert block.is_run
        output = await shell.run(block.code)
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
