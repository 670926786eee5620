"""Messages name the server, its address and the reason, the allowed values, and what to do."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.settings import SettingsError, load_settings
from sql.connection import connect
from sql.errors import DatabaseError, describe_error
from tests.harness.api_client import Api
from tests.harness.listening import read_said, start
from tests.service.cli.commandline import SECRET_KEY, Command, Ended, bare, leadlog

__all__ = ["bare", "leadlog"]  # fixtures
GOOD_KEY = "sk_live_" + "x" * 32
HTTP = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
HTML = HTTP % (b"404 Not Found", b"text/html", 2, b"no")
OTHER_JSON = HTTP % (b"200 OK", b"application/json", 2, b"{}")
OTHER_ERROR = HTTP % (b"401 Unauthorized", b"application/json", 2, b"{}")
REDIRECT = HTTP % (b"302 Found\r\nLocation: http://x.invalid/", b"text/html", 0, b"")
SSH = b"SSH-2.0-OpenSSH_9.2\r\n"


@asynccontextmanager
async def run_other_server(response: bytes) -> AsyncIterator[int]:
    """A server that sends the bytes after the first bytes of a client; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(response)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def run(*arguments: str, **env: str) -> Ended:
    """Runs a command in a process of its own, with these settings only."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.cli.main", *arguments, env={**kept, **env},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


@pytest.mark.parametrize("command", [("demo", "--leads", "1"), ("listen",)])
@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (HTML, "its response has status 404, text/html"),
        (OTHER_JSON, "its JSON is of another API"),
        (OTHER_ERROR, "its response has status 401, with JSON of another API"),
        (REDIRECT, "its response has status 302, text/html"),
        (SSH, "its response is not HTTP"),
        (b"", "it closed the connection without a response"),
    ],
)
async def test_a_server_that_is_not_the_api_is_described(
    command: tuple[str, ...], response: bytes, reason: str, database_url: str, redis_url: str
) -> None:
    async with run_other_server(response) as port:
        url = f"http://127.0.0.1:{port}"
        ended = await run(
            *command, "--url", url, "--key", GOOD_KEY,
            DATABASE_URL=database_url, REDIS_URL=redis_url,
        )  # fmt: skip
    wanted = f"leadlog: The server at {url} is not Leadlog's API ({reason}): is --url right?\n"
    assert (ended.code, ended.out, ended.err) == (1, "", wanted)


@pytest.mark.parametrize("options", ["", "?sslmode=require"])
@pytest.mark.parametrize("response", [HTML, SSH, b"", b"-ERR unknown command\r\n"])
async def test_a_server_that_is_not_postgresql_is_described(options: str, response: bytes) -> None:
    async with run_other_server(response) as port:
        url = f"postgresql://u:geheim@127.0.0.1:{port}/x{options}"
        ended = await run("migrate", DATABASE_URL=url)
    assert f"The database x on 127.0.0.1:{port} cannot be reached (it " in ended.sentence
    assert "no PostgreSQL server" in ended.sentence
    assert "geheim" not in ended.err


async def test_a_database_that_does_not_exist_is_described(database_url: str) -> None:
    other = database_url.replace(
        "/" + database_url.split("/")[3].split("?", maxsplit=1)[0], "/nosuch", 1
    )
    with pytest.raises(
        DatabaseError, match=r"^The database nosuch on .* cannot be used "
    ) as caught:
        async with connect(other):
            pass
    assert "create this database, or correct its name in DATABASE_URL." in str(caught.value)


async def test_a_user_that_does_not_exist_is_described(database_url: str) -> None:
    other = database_url.replace("://", "://nosuch@").replace("nosuch@leadlog@", "nosuch@")
    with pytest.raises(DatabaseError, match=r"correct user and password in DATABASE_URL\.$"):
        async with connect(other):
            pass


async def test_an_error_of_the_database_names_the_database(database_url: str) -> None:
    with pytest.raises(DatabaseError, match=r"^The database \S+ on \S+ refused: division by zero"):
        async with connect(database_url) as conn:
            await conn.fetchval("SELECT 1 / 0")


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (HTML, "the server there does not speak the protocol of Redis"),
        (SSH, "the server there does not speak the protocol of Redis"),
        (b"", "Connection (closed by server|reset by peer)"),  # the kernel's timing decides
        (b"-NOAUTH Authentication required.\r\n" * 3, "Authentication required"),
    ],
)
@pytest.mark.parametrize("command", [("events", "new-generation"), ("doctor",)])
async def test_a_server_that_is_not_redis_is_described(
    response: bytes, reason: str, command: tuple[str, ...], database_url: str
) -> None:
    async with run_other_server(response) as port:
        url = f"redis://127.0.0.1:{port}"
        ended = await run(*command, REDIS_URL=url, DATABASE_URL=database_url, SECRET_KEY=SECRET_KEY)
    assert ended.code == 1
    sentence = rf"Redis on 127\.0\.0\.1:{port} cannot be used \({reason}\): c"
    assert re.search(sentence, ended.out + ended.err)
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "it is empty"),
        (f"Bearer {GOOD_KEY}", "this begins with Bearer"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "this is a webhook's secret"),
        ("key_01M82WKZ3Q4X9GVTFZNN549ESM", "this is the id of a key"),
        (f"{GOOD_KEY} and more", "only letters and digits may follow sk_live_"),
        ("sk_test_a-b", "only letters and digits may follow sk_test_"),
    ],
)
@pytest.mark.parametrize("command", ["demo", "listen"])
def test_a_key_that_cannot_be_one_is_explained(
    leadlog: Command, command: str, key: str, words: str
) -> None:
    sentence = leadlog(command, "--url", "http://127.0.0.1:1", "--key", key).sentence
    assert "The option --key must have an API key" in sentence
    assert words in sentence
    assert not key or key not in sentence


async def test_a_refused_key_is_named_by_its_source(api: Api, settings: Any, tmp_path: Any) -> None:
    (tmp_path / "admin.key").write_text(GOOD_KEY)
    ended = await run("listen", "--url", api.url, DATA_DIR=str(tmp_path))
    assert f"refused the request with the key of the file {tmp_path}/admin.key" in ended.sentence
    assert settings is not None
    weak = api.tenant.key("read")
    ended = await run("listen", "--url", api.url, "--key", weak)
    assert "with the key of the option --key: This needs a key of scope admin" in ended.sentence
    assert weak not in ended.err


async def test_an_unknown_webhook_ends_listen(api: Api) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    ended = await run(
        "listen", "--url", api.url, "--key", str(api.key), "--webhook", "wh_1", "--secret", secret
    )
    assert "There is no webhook with the id wh_1" in ended.sentence


async def test_listen_reports_a_paused_webhook_and_ends_when_it_is_deleted(api: Api) -> None:
    process, own_url = await start("--url", api.url, "--key", str(api.key))
    listed = (await api.get("/v1/webhooks")).json["data"]
    (webhook,) = [one for one in listed if one["url"] == own_url]
    path = f"/v1/webhooks/{webhook['id']}"
    assert (await api.patch(path, {"status": "paused"})).status == 200
    assert f"The webhook {webhook['id']} is paused" in (await read_said(process, "no events"))[-1]
    assert (await api.patch(path, {"status": "active"})).status == 200
    await read_said(process, "gets events again")
    assert (await api.delete(path)).status == 204
    await read_said(process, "has been deleted, so no more events arrive")
    assert await process.wait() == 1


async def test_listen_names_the_port_that_is_taken(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ended = await run("listen", "--url", api.url, "--key", GOOD_KEY, "--port", str(port))
    assert f"--port {port} on 127.0.0.1 is taken: " in ended.sentence


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "8080.5", "PORT='8080.5': must be a whole number from 1 to 65535"),
        ("PUBLIC_DOCS_URL", "docs.acme.com", "must be a URL that begins with https:// or http://"),
        ("PUBLIC_DOCS_URL", "/a b", "or a path that begins with /"),
        ("METRICS_TOKEN", "geheim geheim geheim", "METRICS_TOKEN: must have 16 characters or more"),
        ("METRICS_TOKEN", "é" * 20, "of ASCII and without blanks"),
        ("DATA_DIR", "~nosuchuser/x", "the user after ~ does not exist"),
        ("DATABASE_URL", "postgresql:/h/x", "must be an address that begins with postgresql://"),
        ("DATABASE_URL", "postgresql://h/x?sslrootcert=/no/ca", "option sslrootcert with a file"),
        (
            "DATABASE_URL",
            "postgresql://h/x?target_session_attrs=y",
            "other than any, prefer-standby",
        ),
        ("REDIS_URL", "rediss://h?ssl_ca_certs=/no/ca", "option ssl_ca_certs with a file that can"),
    ],
)
def test_a_setting_that_cannot_be_used_is_explained(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    assert words in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_tilde_in_data_dir_is_the_home_folder() -> None:
    assert load_settings({"DATA_DIR": "~/leads"}).data_dir.is_absolute()


def test_an_unknown_plan_is_answered_with_the_plans_that_exist(leadlog: Command) -> None:
    leadlog("tenants", "create", "acme")
    sentence = leadlog("tenants", "plan", "acme", "nosuch").sentence
    assert "There is no plan 'nosuch': choose one of starter, " in sentence
    leadlog.set("DEFAULT_PLAN", "nosuch")
    assert "choose one of starter, " in leadlog("doctor").out


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), …"),
         "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionError("it closed"), "it closed"),
        (TimeoutError(), "no response in time"),
        (ValueError("one.\ntwo"), "one"),
        (ValueError(), "ValueError"),
    ],
)  # fmt: skip
def test_an_error_is_described_without_numbers_and_addresses(error: Exception, words: str) -> None:
    assert describe_error(error) == words
    wrapped = RuntimeError(f"Error 7 connecting to x: {error}")
    wrapped.__cause__ = error
    if isinstance(error, OSError) and words != "it closed" and not isinstance(error, TimeoutError):
        assert describe_error(wrapped) == words
