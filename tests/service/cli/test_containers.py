"""The settings of compose.yaml, read as Docker reads them; no container is started."""

import asyncio
import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from service.settings import Settings, load_settings
from tests.harness.documents import ROOT, read
from tests.service.cli.commandline import SECRET_KEY
from tests.service.cli.devrun import find_free_port
from tests.service.cli.shell import start_program

yaml: Any = importlib.import_module("yaml")
COMPOSE = yaml.safe_load(read("deploy/compose.yaml"))
SERVICES: Mapping[str, Any] = COMPOSE["services"]
OURS = ("migrate", "api", "worker")
FIELDS = {field.name.upper() for field in msgspec.structs.fields(Settings)}
# Read by PostgreSQL's container, and by asyncpg.
NOT_OURS = {"POSTGRES_PASSWORD", "PGPASSWORD"}


def read_dotenv() -> dict[str, str]:
    """deploy/.env, made as the header of compose.yaml describes."""
    found = dict(re.findall(r"^([A-Z_]+)=(.*)$", read("deploy/env.example"), re.MULTILINE))
    return {**found, "POSTGRES_PASSWORD": "p@ss/w:rd", "SECRET_KEY": SECRET_KEY}


def read_environment(name: str, dotenv: Mapping[str, str]) -> dict[str, str]:
    """The environment of a container: its env_file, overridden by its `environment`."""
    service = SERVICES[name]
    own = {
        key: re.sub(r"\$\{(\w+)[^}]*\}", lambda match: dotenv[match[1]], value)
        for key, value in service["environment"].items()
    }
    return {**(dotenv if service.get("env_file") == ".env" else {}), **own}


@pytest.mark.parametrize("host", ["127.0.0.1", "", "::1"])
def test_the_containers_listen_on_all_addresses_whatever_the_env_file_sets(host: str) -> None:
    dotenv = {**read_dotenv(), "HOST": host, "PORT": "9999", "METRICS_PORT": "9998"}
    for name in ("api", "worker"):
        settings = load_settings(read_environment(name, dotenv))
        assert (settings.host, settings.port) == ("0.0.0.0", 8080)
        assert settings.redis_url == "redis://valkey:6379/0"
        assert settings.secret_key == SECRET_KEY
        assert not settings.webhook_allow_private


def test_only_the_api_and_the_metrics_are_published_and_on_loopback_only() -> None:
    published = {
        (name, port) for name, service in SERVICES.items() for port in service.get("ports", [])
    }
    assert {name for name, _ in published} == {"api", "worker"}
    assert all(port.startswith("127.0.0.1:") for _, port in published)
    settings = load_settings(read_environment("worker", read_dotenv()))
    inside = {name: int(port.rpartition(":")[2]) for name, port in published}
    assert inside == {"api": settings.port, "worker": settings.metrics_port}


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_a_container_is_a_setting(name: str) -> None:
    assert read_environment(name, read_dotenv()).keys() - NOT_OURS <= FIELDS


def test_a_password_may_have_any_character() -> None:
    environment = read_environment("api", read_dotenv())
    assert environment["DATABASE_URL"] == "postgresql://leadlog@postgres/leadlog"
    assert environment["PGPASSWORD"] == "p@ss/w:rd"


def test_the_image_runs_as_an_unprivileged_user_and_has_a_health_check() -> None:
    stage = read("deploy/Dockerfile").rpartition("\nFROM ")[2]
    assert re.search(r"^RUN useradd --system .* leadlog$", stage, re.MULTILINE)
    assert re.search(r"^USER leadlog$", stage, re.MULTILINE)
    assert "HEALTHCHECK" in stage
    assert "pip install" not in stage
    assert "apt-get" not in read("deploy/Dockerfile")


def read_image_check() -> list[str]:
    text = read("deploy/Dockerfile").replace("\\\n", " ")
    (command,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", text, re.MULTILINE)
    return list(json.loads(command))


def check(argv: list[str], port: int, token: str = "") -> int:
    """Runs a health check without a container and returns its exit code."""
    assert argv[0] == "python"
    done = subprocess.run(  # noqa: S603
        [sys.executable, *argv[1:]], env={"PORT": str(port), "METRICS_TOKEN": token}, check=False,
        timeout=30, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode


async def test_the_health_check_of_the_image_passes_only_while_the_api_runs(
    server: str, session: aiohttp.ClientSession
) -> None:
    assert session is not None
    port = int(server.rpartition(":")[2])
    assert await asyncio.to_thread(check, read_image_check(), port) == 0
    assert await asyncio.to_thread(check, read_image_check(), find_free_port()) == 1


@pytest.mark.parametrize("token", ["", "a-token-for-scrapes"])
async def test_the_health_check_of_the_worker_requests_its_metrics(
    database_url: str, redis_url: str, tmp_path: Path, token: str
) -> None:
    port = find_free_port()
    kind, *argv = SERVICES["worker"]["healthcheck"]["test"]
    assert kind == "CMD"
    argv = [word.replace(":9101/", f":{port}/") for word in argv]
    assert check(argv, port) == 1
    env = read_environment("worker", read_dotenv()) | {
        "DATABASE_URL": database_url, "REDIS_URL": redis_url, "METRICS_PORT": str(port),
        "HOST": "127.0.0.1", "METRICS_TOKEN": token,
        "DATA_DIR": str(tmp_path), "LOG_LEVEL": "error",
    }  # fmt: skip
    async with start_program("leadlog work", env), asyncio.timeout(60):
        while True:
            if await asyncio.to_thread(check, argv, port, token) == 0:
                break
            await asyncio.sleep(0.2)
    assert SERVICES["migrate"]["healthcheck"] == {"disable": True}


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not there")
def test_docker_compose_reads_the_same_environment(tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    folder.mkdir()
    shutil.copy(ROOT / "deploy" / "compose.yaml", folder)
    dotenv = "\n".join(f"{name}={value}" for name, value in read_dotenv().items())
    (folder / ".env").write_text(dotenv)
    done = subprocess.run(
        ["docker-compose", "-f", "deploy/compose.yaml", "config"],  # noqa: S607
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = yaml.safe_load(done.stdout)["services"]
    for name in OURS:
        assert told[name]["environment"] == read_environment(name, read_dotenv())
