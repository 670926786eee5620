"""Python time by function in the API and the worker, recorded by py-spy if it is installed."""

import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tests.bench.programs import run_program

RATE = 200
"""Samples per second."""
TOP = 15
NO_PROFILER = "--profile needs py-spy (pip install py-spy): no time by function."


class FunctionTime(msgspec.Struct, frozen=True):
    """The shares of the samples in which a function ran itself, or was anywhere on the stack."""

    name: str
    own: float
    total: float


def find_profiler() -> str | None:
    """The path of py-spy, on the path or beside this Python."""
    beside = Path(sys.executable).parent / "py-spy"
    return shutil.which("py-spy") or (str(beside) if beside.exists() else None)


@asynccontextmanager
async def record(
    pids: Mapping[str, int], seconds: float
) -> AsyncIterator[dict[str, list[FunctionTime]]]:
    """Records for about `seconds`; the functions by process are known when the context ends."""
    profiler, found = find_profiler(), dict[str, list[FunctionTime]]()
    if profiler is None:
        yield found
        return
    with tempfile.TemporaryDirectory(prefix="bench-profile-") as folder:
        paths = {name: Path(folder) / name for name in pids}
        length = str(max(1, round(seconds)))
        recording = [
            asyncio.create_task(
                run_program(
                    [profiler, "record", "--pid", str(pids[name]), "--duration", length, "--rate",
                     str(RATE), "--subprocesses", "--format", "raw", "--output", path], seconds,
                )
            )
            for name, path in paths.items()
        ]  # fmt: skip
        try:
            yield found
        finally:
            await asyncio.gather(*recording)
        for name, path in paths.items():
            found[name] = parse_stacks(path.read_text(encoding="utf-8"))


def parse_stacks(text: str, limit: int = TOP) -> list[FunctionTime]:
    """The functions of collapsed stacks, `frame;frame count` a line; most own time first. Pure."""
    own, total = Counter[str](), Counter[str]()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [shorten(frame) for frame in stack.split(";") if not frame.startswith("process ")]
        if not frames:
            continue
        own[frames[-1]] += int(count)
        for name in set(frames):
            total[name] += int(count)
    samples = sum(own.values())
    return [
        FunctionTime(name, count / samples, total[name] / samples)
        for name, count in own.most_common(limit)
    ]


def shorten(frame: str) -> str:
    """The function and the end of its file's path, without the line."""
    name, _, place = frame.partition(" (")
    path = place.rpartition(":")[0] or place.rstrip(")")
    return f"{name} ({'/'.join(Path(path).parts[-2:])})" if path else name
