"""A program of a tree that reads requests and prints replies as lines of JSON."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.server_logs import read_reason
from service.cli.dev.supervisor import PROJECT
from service.cli.processes import open_log
from tests.bench.against.tree import OURS, Tree, check_out
from tests.bench.programs import LoadError

STOP_GRACE_S = 30.0
LINE_LIMIT = 2**27


@dataclass(frozen=True, eq=False)
class Session:
    tree: Tree
    folder: Path
    """A folder for the program's files; it is removed afterwards."""
    log: Path
    process: asyncio.subprocess.Process

    async def ask(self, **request: Any) -> Any:
        """The reply to one request; LoadError quotes the program's log if there is none."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(msgspec.json.encode(request) + b"\n")
        line = await self.process.stdout.readline()
        if not line:
            raise LoadError(f"The tree {self.tree.name} failed: {read_reason(self.log)}")
        return msgspec.json.decode(line)


@dataclass(frozen=True)
class Sides:
    """A session in each tree."""

    ours: Session
    theirs: Session

    def __iter__(self) -> Iterator[Session]:
        return iter((self.ours, self.theirs))

    def in_turn(self, number: int) -> Iterator[Session]:
        """Both sessions; the first one alternates with the round's number."""
        yield from (self.ours, self.theirs) if number % 2 else (self.theirs, self.ours)


@asynccontextmanager
async def open_sides(
    ref: str, script: str, parent: Path, say: Callable[[str], None]
) -> AsyncIterator[Sides]:
    """Runs `script` in this tree and in that of `ref`; both use folders inside `parent`."""
    async with (
        check_out(ref, say) as other,
        _open_session(OURS, script, parent / "ours") as ours,
        _open_session(other, script, parent / "theirs") as theirs,
    ):
        yield Sides(ours, theirs)


@asynccontextmanager
async def _open_session(tree: Tree, script: str, folder: Path) -> AsyncIterator[Session]:
    prepare_folder(folder)
    log = folder / "session.log"
    own = tree.root / script  # it imports its tree's modules; for an older tree without it, ours
    with open_log(log) as errors:
        process = await asyncio.create_subprocess_exec(
            tree.python, "-P", own if own.exists() else PROJECT / script,
            cwd=tree.root, env=os.environ | {"PYTHONPATH": str(tree.root)}, limit=LINE_LIMIT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
            start_new_session=True,  # the program ends with its standard input, not with Ctrl-C
        )  # fmt: skip
    try:
        yield Session(tree, folder, log, process)
    finally:
        await _close(process)


async def _close(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)  # a busy program may not read the end of its input
    try:
        async with asyncio.timeout(STOP_GRACE_S):
            await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
