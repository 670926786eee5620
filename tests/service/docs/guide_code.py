"""The code of the guides: found in their Markdown, and run as a reader would run it."""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.app import API, SERVICE
from service.docs.facts import make_facts
from service.docs.guides import fill_guides
from service.docs.openapi.document import make_document
from service.settings import Settings

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE_S = 60.0
ENDINGS = {
    ".py": "python",
    ".mjs": "node",
    ".cjs": "node",
    ".rb": "ruby",
    ".go": "go",
    ".php": "php",
}


@dataclass(frozen=True)
class Block:
    """A block of code in a guide, with the words of its info string."""

    guide: str
    language: str
    code: str
    title: str
    is_run: bool
    """Whether it runs by itself to its end."""
    expect: str
    """The code of the error that its last command causes."""


def find_blocks() -> list[Block]:
    texts = fill_guides(make_facts(make_document(API, SERVICE, "/docs"), Settings()))
    found = []
    for guide, text in texts.items():
        for language, info, code in _FENCE.findall(text):
            words = info.split()
            named = dict(word.split("=", 1) for word in words if "=" in word)
            title, expect = named.get("title", ""), named.get("expect", "")
            found.append(Block(guide, language, code, title, "run" in words, expect))
    return found


BLOCKS = find_blocks()
FILES = {block.title: block for block in BLOCKS if block.title}


def find_program(name: str) -> str | None:
    """The interpreter or compiler for a file with this name, if this machine has it."""
    language = ENDINGS[Path(name).suffix]
    return sys.executable if language == "python" else shutil.which(language)


def save_files(folder: Path) -> None:
    """Save every file that the guides show, under the name that they give it."""
    for name, block in FILES.items():
        (folder / name).write_text(block.code, encoding="utf-8")


@asynccontextmanager
async def start(
    command: list[str], folder: Path, env: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program in a folder; kill it at the end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(
    command: list[str],
    folder: Path,
    env: Mapping[str, str],
    text: str = "",
    *,
    patience_s: float = PATIENCE_S,
) -> str:
    """Run a program to its end; its output. It must succeed."""
    async with start(command, folder, env) as process, asyncio.timeout(patience_s):
        output, _ = await process.communicate(text.encode())
    assert process.returncode == 0, output.decode()
    return output.decode()


async def run_json(command: list[str], folder: Path, value: Any) -> Any:
    """Run a program that reads JSON and prints JSON."""
    return json.loads(await run(command, folder, {}, json.dumps(value)))


async def read_lines(process: asyncio.subprocess.Process, count: int) -> list[str]:
    """The next lines that a program prints."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        return [(await process.stdout.readline()).decode().rstrip("\n") for _ in range(count)]


async def kill_and_read(process: asyncio.subprocess.Process) -> list[str]:
    """Kill a program at any moment; the lines that it has printed since."""
    assert process.stdout is not None
    process.kill()
    return (await process.stdout.read()).decode().splitlines()
