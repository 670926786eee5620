import asyncio
import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.access.api_keys import hash_key
from service.cli.commands.addresses import write_dev_addresses
from service.cli.dev.first_key import ensure_tenant
from service.cli.secret_files import write_secret
from service.database.connect import Pool
from sql.connection import connect
from sql.migrate import read_migrations
from tests.service.cli.commandline import SECRET_KEY, UNREACHABLE, Command, bare, empty_url, leadlog

__all__ = ["bare", "empty_url", "leadlog"]  # fixtures


@pytest.fixture
async def default_tenant(committed: Pool) -> int:
    async with committed.acquire() as conn:
        return await ensure_tenant(conn, "default")


def test_help_imports_no_heavy_module() -> None:
    heavy = ["asyncpg", "redis", "uvicorn", "aiohttp", "structlog", "psutil", "starlette", "arq"]
    code = f"import service.cli.program, sys; print(sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)  # noqa: S603
    assert done.stdout.strip() == b"[]"


def test_help_names_every_command(bare: Command) -> None:
    ended = bare("--help")
    assert ended.code == 0
    for name in ("dev", "serve", "work", "migrate", "keys", "tenants", "doctor"):
        assert f" {name} " in ended.out
    assert "--end-with-parent" not in bare("dev", "--help").out


def test_migrate_checks_then_applies(bare: Command, empty_url: str) -> None:
    names = [migration.name for migration in read_migrations()]
    bare.set("DATABASE_URL", empty_url)
    checked = bare("migrate", "--check")
    assert checked.rows == [["missing", name] for name in names]
    assert "run `leadlog migrate`" in checked.sentence
    assert bare("migrate").rows == [["applied", name] for name in names]
    assert bare("migrate").out == ""
    assert bare("migrate", "--check").code == 0


def test_standard_output_is_only_the_key_and_the_list_omits_it(
    leadlog: Command, default_tenant: int
) -> None:
    assert default_tenant
    made = leadlog("keys", "create", "CRM sync", "--scope", "read", "--mode", "test")
    assert made.code == 0
    key = made.out.strip()
    assert key.startswith("sk_test_")
    assert key not in made.err
    assert "shown only once" in made.err
    ((key_id, name, scope, mode, last4, *_),) = leadlog("keys", "list").rows
    assert key_id in made.err
    assert [name, scope, mode, last4] == ["CRM sync", "read", "test", key[-4:]]
    listed = json.loads(leadlog("keys", "list", "--json").out)
    assert listed["id"] == key_id
    assert "key" not in listed


@pytest.fixture
def first_key(leadlog: Command, default_tenant: int) -> str:
    assert default_tenant
    return leadlog("keys", "create", "first", "--expires-in-days", "30").out.strip()


def find_key_id(leadlog: Command, last4: str) -> str:
    return next(row[0] for row in leadlog("keys", "list").rows if row[4] == last4)


def ask(dsn: str, query: str, *arguments: Any) -> Any:
    async def fetch() -> Any:
        async with connect(dsn) as conn:
            return await conn.fetchval(query, *arguments)

    return asyncio.run(fetch())


def test_a_rotated_key_stays_valid_for_the_grace_period(
    leadlog: Command, first_key: str, database_url: str
) -> None:
    key_id = find_key_id(leadlog, first_key[-4:])
    made = leadlog("keys", "rotate", key_id, "--grace-seconds", "60").out.strip()
    assert made.startswith("sk_live_")
    assert made != first_key
    left = "SELECT extract(epoch FROM expires_at - now()) FROM api_key WHERE hash = $1"
    assert 50 < ask(database_url, left, hash_key(first_key)) <= 60
    assert len(leadlog("keys", "list").rows) == 2


def test_a_revoked_key_is_not_listed(leadlog: Command, first_key: str) -> None:
    key_id = find_key_id(leadlog, first_key[-4:])
    assert leadlog("keys", "revoke", key_id).code == 0
    assert leadlog("keys", "list").rows == []
    for command in ("revoke", "rotate"):
        assert f"no working key '{key_id}'" in leadlog("keys", command, key_id).sentence


def test_a_tenant_cannot_reach_the_keys_of_another_tenant(leadlog: Command, first_key: str) -> None:
    assert leadlog("tenants", "create", "other").code == 0
    key_id = find_key_id(leadlog, first_key[-4:])
    assert "no working key" in leadlog("keys", "revoke", key_id, "--tenant", "other").sentence
    assert leadlog("keys", "list", "--tenant", "other").rows == []


def test_tenants_are_created_once_and_listed(leadlog: Command, first_key: str) -> None:
    assert first_key
    assert leadlog("tenants", "create", "acme").code == 0
    assert "tenant named 'acme' already" in leadlog("tenants", "create", "acme").sentence
    rows = leadlog("tenants", "list").rows
    assert [row[1:5] for row in rows] == [["default", "-", "-", "1"], ["acme", "-", "-", "0"]]
    assert "no tenant named 'nobody'" in leadlog("keys", "list", "--tenant", "nobody").sentence


def test_a_table_on_a_terminal_contains_no_control_characters_of_names(
    leadlog: Command,
) -> None:
    leadlog("tenants", "create", "red\x1b[31m\tand\nmore")
    assert leadlog("tenants", "list").rows[0][1] == "red [31m and more"
    shown = run_on_terminal("tenants", "list")
    assert "activeKeys" in shown
    assert "red [31m and more" in shown


def run_on_terminal(*arguments: str) -> str:
    """Runs a command on a terminal and returns its output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "service.cli.main", *arguments], stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # on Linux: the other side is closed
        while part := os.read(ours, 65536):
            seen += part
    os.close(ours)
    assert process.wait() == 0
    return seen.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate",),
        ("migrate", "--check"),
        ("keys", "list"),
        ("tenants", "create", "x"),
    ],
)
def test_an_unreachable_database_is_reported_in_one_sentence(
    bare: Command, arguments: list[str]
) -> None:
    assert "DATABASE_URL is not set" in bare(*arguments).sentence
    bare.set("DATABASE_URL", UNREACHABLE)
    sentence = bare(*arguments).sentence
    assert "The database leadlog on 127.0.0.1:1 cannot be reached" in sentence
    assert "geheim" not in sentence


def test_an_outdated_schema_is_reported_in_one_sentence(bare: Command, empty_url: str) -> None:
    bare.set("DATABASE_URL", empty_url)
    assert "run `leadlog migrate` first" in bare("keys", "list").sentence


@pytest.mark.parametrize("command", ["serve", "work"])
def test_serve_and_work_need_the_addresses_of_their_servers(bare: Command, command: str) -> None:
    assert "DATABASE_URL is not set" in bare(command).sentence
    bare.set("DATABASE_URL", UNREACHABLE)
    assert "REDIS_URL is not set" in bare(command).sentence


def test_serve_reports_a_port_that_is_taken(leadlog: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        assert f"Port {port} on 127.0.0.1 is taken" in leadlog("serve", "--port", port).sentence


def test_commands_find_the_servers_of_a_running_dev(
    bare: Command, tmp_path: Path, database_url: str, redis_url: str
) -> None:
    write_dev_addresses(tmp_path, database_url, redis_url, SECRET_KEY)
    assert bare("tenants", "list").code == 0
    rows = [line.split("\t") for line in bare("doctor").out.splitlines()]
    assert {check for state, check, *_ in rows if state != "ok"} <= {"workers"}  # no worker runs


def test_an_address_file_that_others_can_write_is_refused(
    bare: Command, tmp_path: Path, database_url: str
) -> None:
    write_secret(tmp_path / "dev.env", f"DATABASE_URL={database_url}")
    (tmp_path / "dev.env").chmod(0o666)
    assert "can be read by others" in bare("tenants", "list").sentence
