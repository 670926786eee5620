"""A command reports an error in one sentence and by its exit code."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.cli.demo.balance import measure_balance
from service.cli.demo.load import LoadResult
from service.cli.demo.receiver import Received
from service.cli.demo.stream import StreamCount, read_streams
from service.cli.processes import StartError
from sql.connection import connect
from tests.harness.api_client import Api
from tests.harness.documents import read
from tests.service.cli.commandline import Command, bare, leadlog

__all__ = ["bare", "leadlog"]  # fixtures

NOBODY = "http://127.0.0.1:1"
GOOD_KEY = "sk_live_" + "x" * 32
API_AWAY = "The API at http://127.0.0.1:1 cannot be reached (Connection refused)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["listen", "--url", "notaurl", "--key", GOOD_KEY], "--url must be the address of an API"),
        (["demo", "--url", "notaurl", "--key", GOOD_KEY], "--url must be the address of an API"),
        (["demo", "--url", "http://127.0.0.1:8080/v1"], "'http://127.0.0.1:8080/v1' is not"),
        (["demo", "--url", "http://127.0.0.1:99999"], "--url must be"),
        (
            ["demo", "--url", NOBODY, "--key", GOOD_KEY],
            API_AWAY,
        ),
        (
            ["listen", "--url", NOBODY, "--key", GOOD_KEY],
            API_AWAY,
        ),
        (["demo", "--key", "schlüssel", "--url", NOBODY], "--key must have an API key"),
        (["listen", "--key", "a\nb", "--url", NOBODY], "--key must have an API key"),
        (["listen", "--key", GOOD_KEY, "--forward", "http://"], "--forward must be a URL"),
        (
            ["listen", "--host", "nowhere.invalid", "--key", GOOD_KEY],
            "--host nowhere.invalid is not",
        ),
    ],
)
def test_an_invalid_option_is_reported_in_one_sentence(
    leadlog: Command, arguments: list[str], sentence: str
) -> None:
    assert sentence in leadlog(*arguments).sentence


@pytest.mark.parametrize("command", [("demo", "--leads", "1"), ("listen",)])
async def test_a_key_that_is_too_short_is_reported(
    leadlog: Command, api: Api, command: tuple[str, ...]
) -> None:
    options = ("--url", api.url, "--key", "sk_live_bad")
    ended = await asyncio.to_thread(run_program, *command, *options)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "16 to 64 letters and digits must follow sk_live_, here 3" in ended.stderr
    assert leadlog is not None


def run_program(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "service.cli.main", *arguments],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **env},
    )  # fmt: skip


INTERRUPTED = """
import os, signal, sys
target = sys.argv.pop(1)
class Interrupt:
    def find_spec(self, name, *_):
        if name == target:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                pass  # as importlib may do
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
from service.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["typer", "--help"],
        ["uvicorn", "serve"],
        ["workers.main", "work"],
        ["service.cli.dev.run", "dev"],
        ["service.cli.listen.session", "listen"],
    ],
)
def test_ctrl_c_while_modules_are_loaded_ends_quietly(arguments: list[str]) -> None:
    """`arguments`: the module during whose import SIGINT arrives, and a command."""
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", INTERRUPTED, *arguments],
        capture_output=True,
        check=False,
        timeout=60,
        env=clean,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_an_unreachable_redis_is_named(leadlog: Command) -> None:
    async def enter(url: str) -> None:
        async with read_streams(url, "demo"):
            pass

    with pytest.raises(StartError, match=r"Redis on 127.0.0.1:1 cannot be used .* check REDIS_URL"):
        asyncio.run(enter("redis://127.0.0.1:1"))
    assert leadlog is not None


async def test_a_key_of_another_database_is_reported(conn: Any) -> None:
    with pytest.raises(StartError, match="DATABASE_URL does not contain it"):
        await measure_balance(conn, GOOD_KEY, 1, LoadResult(), StreamCount(), Received())


async def test_another_error_within_a_connection_is_not_reported_as_a_database_error(
    database_url: str,
) -> None:
    with pytest.raises(ConnectionRefusedError):
        async with connect(database_url):
            raise ConnectionRefusedError("the API")


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_name_of_a_wrong_length_is_refused(leadlog: Command, name: str) -> None:
    for command in ("tenants", "keys"):
        ended = leadlog(command, "create", name)
        assert ended.code == 2
        assert f"1 to 100 characters, not {len(name)}" in ended.err


def make_fail(leadlog: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Command:
    """Makes `leadlog migrate` raise `error`."""

    async def fail(_: str) -> None:
        raise error

    monkeypatch.setattr("sql.migrate.migrate", fail)
    return leadlog


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (KeyError("x"), "An unexpected error, KeyError ('x'): run it again with LOG_LEVEL=debug"),
        (ValueError("one.\ntwo"), "An unexpected error, ValueError (one): run it again"),
        (RuntimeError(), "An unexpected error, RuntimeError: run it again"),
        (ExceptionGroup("two", [ExceptionGroup("one", [StartError("No.")])]), "leadlog: No."),
        (OSError(28, "No space left on device", "/x"), "leadlog: No space left on device: /x."),
        (TimeoutError(), "leadlog: No response in time."),
    ],
)
def test_an_unexpected_error_is_reported_in_a_sentence_with_advice(
    leadlog: Command, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    assert sentence in make_fail(leadlog, monkeypatch, error)("migrate").sentence


def test_the_log_level_debug_shows_the_traceback(
    leadlog: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    leadlog.set("LOG_LEVEL", "debug")
    with pytest.raises(KeyError):
        make_fail(leadlog, monkeypatch, KeyError("x"))("migrate")


def test_ctrl_c_prints_nothing(leadlog: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = make_fail(leadlog, monkeypatch, KeyboardInterrupt())("migrate")
    assert (ended.code, ended.err) == (130, "")


async def test_ctrl_c_ends_a_waiting_command_without_output(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service.cli.main", "migrate", stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "DATABASE_URL": f"postgresql://127.0.0.1:{port}/x",
                 "DATA_DIR": str(tmp_path)},
        )  # fmt: skip
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:
            assert await asyncio.to_thread(connection.recv, 1)  # it now waits for the response
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


def test_the_version_is_the_package_version(bare: Command) -> None:
    (wanted,) = [line for line in read("pyproject.toml").splitlines() if line[:9] == "version ="]
    number = wanted.split('"')[1]
    assert bare("--version").out == f"leadlog {number}\n"


def test_shells_complete_the_commands() -> None:
    program = str(Path(sys.executable).with_name("leadlog"))
    for typed, wanted in (("leadlog ke", "keys"), ("leadlog keys rot", "rotate")):
        done = subprocess.run(  # noqa: S603
            [program], capture_output=True, text=True, check=True,
            env={**os.environ, "_LEADLOG_COMPLETE": "complete_bash", "COMP_WORDS": typed,
                 "COMP_CWORD": str(typed.count(" "))},
        )  # fmt: skip
        assert done.stdout.split() == [wanted]
    assert "--install-completion" in read("deploy/README.md")
