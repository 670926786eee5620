"""The import contracts of pyproject.toml: each one fails if a forbidden import is added."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BREACHES = {
    "rooms": ("service/leads/results.py", "import service.http.responses"),
    "actors": ("workers/jobs.py", "import workers.scorer"),
    "http-side": ("service/events/event_log.py", "import service.http.responses"),
    "worker-imports": ("workers/fanout.py", "import service.leads.store"),
    "domain": ("service/access/plans.py", "import service.handlers.health"),
    "handlers": ("service/handlers/scores.py", "import service.handlers.leads"),
    "production": ("service/cli/commands/serve.py", "import service.cli.dev.tuning"),
    "sql": ("sql/errors.py", "import service.settings"),
}
"""A file and a forbidden import in it, by contract."""


def test_every_contract_has_a_breach() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert {contract["id"] for contract in contracts["contracts"]} == set(BREACHES)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, to which tests add forbidden imports."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("service", "workers", "sql"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize("contract", sorted(BREACHES))
def test_a_contract_fails_on_an_import_that_it_forbids(tree: Path, contract: str) -> None:
    name, statement = BREACHES[contract]
    path, code = tree / name, (tree / name).read_text(encoding="utf-8")
    path.write_text(f"{code}\n{statement}\n", encoding="utf-8")
    try:
        ended = check_contract(tree, contract)
    finally:
        path.write_text(code, encoding="utf-8")

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "BROKEN" in ended.stdout


def check_contract(tree: Path, contract: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command"
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", f"{code}; lint_imports_command()", "--contract", contract],
        cwd=tree,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
