"""Starts, watches and stops an embedded server in a folder of its own."""

import asyncio
import hashlib
import os
import re
import shutil
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from service.cli import launch
from service.cli.dev.data_folder import (
    check_subfolder,
    explain_file_errors,
    prepare_subfolder,
)
from service.cli.dev.orphaned_servers import end_orphaned_servers
from service.cli.dev.server_logs import OUTSIDE_SIGNALS, read_reason, was_killed
from service.cli.dev.server_programs import find_server_user
from service.cli.processes import (
    MAX_POLL_S,
    POLL_S,
    Child,
    Ending,
    KilledError,
    StartError,
    describe_exit,
    make_ending,
)

READY_WAIT_S = 120.0  # after a crash PostgreSQL first replays its log
STOP_GRACE_S = 3.0
SOCKET_CHECKS = 2
"""The socket file must be missing this often in a row: a server that ends deletes it before."""
WORKING_FOLDER = "/proc/self/cwd"
"""The server's folder for a server that cannot open the folders above it."""
SOCKET_PATH_LIMIT = 103
"""The limit of macOS; Linux has 107."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
"""Paths that every client accepts in an address without quoting."""
# Not the caller's environment: PGOPTIONS or LC_ALL would change the server.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class Server(ABC):
    """A server on the folder `data_dir/<name>`, with its log in `data_dir/<name>.log`."""

    name: ClassVar[str]
    title: ClassVar[str]
    programs: ClassVar[frozenset[str]]
    socket_name: ClassVar[str]
    stop_signals: ClassVar[Sequence[signal.Signals]]

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        """`durable=False` is faster, for tests, but not safe against a power cut."""
        self.user = find_server_user()
        self.data_dir = data_dir
        self.log = data_dir / f"{self.name}.log"
        self.durable = durable
        self.folder = data_dir / self.name
        self.socket_folder = _choose_socket_folder(self.folder, self.socket_name)
        self._child: Child | None = None
        self._socket: tuple[int, int] | None = None
        self._logged = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts the server and waits until it responds. Raises StartError if it does not."""
        with explain_file_errors(self.data_dir):
            check_subfolder(self.folder, self.user.uid)
            end_orphaned_servers(self.folder, self.programs)
            if self.socket_folder != self.folder:
                parent, name = self.socket_folder.parent, self.socket_folder.name
                prepare_subfolder(parent, name, self.user.uid, self.user.gid)
            try:
                await self.prepare()
                self._child = self.launch(self.arguments(), self.folder)
                await self._wait_until_ready(self._child)
                self._socket = self._find_socket()
            except BaseException:
                await self.stop()
                raise

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Stops the server; kills it after the grace, and its next start then needs a recovery."""
        child, self._child = self._child, None
        if child is not None:
            await child.stop(self.stop_signals, grace_s)
        if self.socket_folder != self.folder:
            shutil.rmtree(self.socket_folder, ignore_errors=True)

    async def wait(self) -> Ending:
        """Waits until the server ends by itself, or stops it once its socket file is gone.

        Connections that are open still work without the file, but no further one can be opened.
        """
        child, missing = self._get_child(), 0
        while (code := child.poll()) is None and missing < SOCKET_CHECKS:
            await asyncio.sleep(MAX_POLL_S)
            missing = 0 if self._has_socket() else missing + 1
        if code is not None:
            return make_ending(code)
        await self.stop()
        path = self.socket_folder / self.socket_name
        reason = f"cannot be reached any more, because its socket {path} was deleted or replaced"
        return Ending(reason, is_external=True)

    def _has_socket(self) -> bool:
        """Whether the file is still the socket on which the server listens."""
        found = self._find_socket()
        return found is not None and found == self._socket

    def _find_socket(self) -> tuple[int, int] | None:
        """The identity of the socket file; None if there is none."""
        try:
            found = (self.socket_folder / self.socket_name).lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _get_child(self) -> Child:
        if self._child is None:
            raise RuntimeError(f"{self.title} was not started")
        return self._child

    @property
    def pid(self) -> int:
        return self._get_child().pid

    def launch(self, argv: Sequence[str], folder: Path) -> Child:
        """Starts a program as the server's user with `folder` as its working directory."""
        self._logged = self.log.stat().st_size if self.log.exists() else 0
        return Child(
            # SIGINT is PostgreSQL's fast shutdown; it stops Valkey too.
            launch.build_command(argv, signal.SIGINT, (self.user.uid, self.user.gid)),
            cwd=folder,
            env=_ENVIRONMENT,
            log=self.log,
        )

    @property
    @abstractmethod
    def remedy(self) -> str:
        """What the user can do if the server does not start; it ends a sentence."""

    @abstractmethod
    async def prepare(self) -> None:
        """Prepares the folder for a start of the server."""

    @abstractmethod
    def arguments(self) -> list[str]:
        """The server's command line, which runs in its folder."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """Whether the server responds to clients."""

    async def _wait_until_ready(self, child: Child) -> None:
        deadline = time.monotonic() + READY_WAIT_S
        while not await self.is_ready():
            code = child.poll()
            if code is not None or time.monotonic() > deadline:
                raise self.make_start_error(
                    code or 0, killed=self.title, failed=f"{self.title} did not start"
                )
            await asyncio.sleep(POLL_S)

    def make_start_error(self, code: int, *, killed: str, failed: str) -> StartError:
        """The error of the last launched program; a KilledError if a process of it was killed."""
        if -code in OUTSIDE_SIGNALS:
            return KilledError(f"{killed} {describe_exit(code)} while it started.")
        if was_killed(self.log, self._logged):
            return KilledError(f"A process of {killed} was ended while it started.")
        reason = read_reason(self.log, self._logged).replace(WORKING_FOLDER, str(self.folder))
        return StartError(f"{failed}: {reason} (see {self.log}); {self.remedy}.")


def _choose_socket_folder(folder: Path, socket_name: str) -> Path:
    """The server's own folder, or one in the temporary folder if its path is long or needs quoting.

    The choice depends on the folder alone, so that killed runs leave at most one temporary folder.
    """
    path = str(folder / socket_name)
    if len(path) <= SOCKET_PATH_LIMIT and _PLAIN_PATH.fullmatch(path):
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()).resolve() / f"leadlog-{digest}"
