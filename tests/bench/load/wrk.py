"""wrk: sends as many requests as a server handles, or fewer with pauses; measures latencies."""

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench.plan import Kind
from tests.bench.programs import LoadError, run_program

SCRIPT = Path(__file__).with_name("load.lua")
MARK = "RESULT "
TIMEOUT_S = 5


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of wrk. `think_ms` is the mean pause of a connection between two requests."""

    url: str
    key: str
    kind: Kind
    leads: int
    seconds: float
    connections: int
    paths: Sequence[str] = ()
    think_ms: float = 0.0


class WrkResult(msgspec.Struct, frozen=True):
    """The line that load.lua prints."""

    requests: int
    duration_us: int
    failures: int
    p50_us: int
    p90_us: int
    p99_us: int
    max_us: int

    @property
    def per_second(self) -> float:
        """The rate of successful responses only, because refusals are quick."""
        return (self.requests - self.failures) / self.duration_us * 1e6


def find_wrk() -> str:
    """The path of wrk; LoadError says how to install it."""
    found = shutil.which("wrk")
    if found is None:
        raise LoadError(
            "wrk is not on the path: `apt-get install wrk` on Debian and Ubuntu, "
            "`brew install wrk` on macOS."
        )
    return found


async def run_wrk(load: Load) -> WrkResult:
    """Runs wrk with one thread: on small machines it must leave the cores to the server."""
    # wrk takes whole seconds only.
    seconds = max(1, round(load.seconds))
    argv: list[str | Path] = [
        find_wrk(), "-t1", f"-c{load.connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_S}s",
        "-s", SCRIPT, load.url,
    ]  # fmt: skip
    env = {
        "LOAD_KIND": load.kind,
        "LOAD_RUN": secrets.token_hex(4),
        "LOAD_LEADS": str(load.leads),
        "LOAD_KEY": load.key,
        "LOAD_PATHS": " ".join(load.paths),
        "LOAD_THINK_MS": f"{load.think_ms:.3f}",
    }
    return parse_wrk(await run_program(argv, seconds + TIMEOUT_S, env))


def parse_wrk(output: str) -> WrkResult:
    """Finds the script's line in wrk's output; LoadError if there is none."""
    for line in output.splitlines():
        if line.startswith(MARK):
            return msgspec.json.decode(line.removeprefix(MARK), type=WrkResult)
    raise LoadError(f"wrk printed no result: {output.strip()[-300:]}")


def choose_think(connections: int, per_second: float) -> float:
    """The pause in ms with which `connections` make about `per_second` requests a second."""
    return connections / per_second * 1000
