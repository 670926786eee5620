"""Runs commands in the process of the test and captures their output; fixtures for this."""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.cli import main
from service.database.connect import Pool
from tests.harness.cluster import Cluster

SECRET_KEY = "A" * 43 + "="
UNREACHABLE = "postgresql://leadlog:geheim@127.0.0.1:1/leadlog"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]

    @property
    def sentence(self) -> str:
        """The only line of the error output."""
        (line,) = self.err.splitlines()
        assert self.code == 1
        assert line.startswith("leadlog: ")
        return line


class Command:
    """Runs `leadlog …` in this process and captures its output."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data_dir: Path
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "HOST", "PORT"):
            monkeypatch.delenv(name, raising=False)
        self.set("DATA_DIR", str(data_dir))

    def set(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(name, value)

    def __call__(self, *arguments: str) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["leadlog", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main.main()
        code = caught.value.code
        return Ended(code if isinstance(code, int) else 0, *self._capsys.readouterr())


@pytest.fixture
def bare(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """A command line without settings."""
    return Command(monkeypatch, capsys, tmp_path)


@pytest.fixture
def leadlog(bare: Command, committed: Pool, database_url: str, redis_url: str) -> Command:
    """A command line with all settings; the database is emptied afterwards."""
    assert committed is not None
    bare.set("DATABASE_URL", database_url)
    bare.set("REDIS_URL", redis_url)
    bare.set("SECRET_KEY", SECRET_KEY)
    return bare


@pytest.fixture
async def empty_url(cluster: Cluster) -> AsyncIterator[str]:
    async with cluster.make_database(template="template0") as dsn:
        yield dsn
