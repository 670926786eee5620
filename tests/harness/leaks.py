"""Finds what a test leaves running: asyncio tasks and listening sockets.

A task belongs to a test if its chain of creators leads to the test or to one of its fixtures. Tasks
of the session's app do not: their chain leads elsewhere. Only listening sockets are checked,
because the session's pools and clients open connections during tests and keep them. An open
connection or socket without references causes a ResourceWarning, which fails a test as well.
"""

import asyncio
import contextlib
import os
import socket
import stat
import time
from collections.abc import Coroutine, Generator
from typing import Any
from weakref import WeakKeyDictionary

import pytest

DESCRIPTORS = "/proc/self/fd"
POLL_S, PATIENCE_S = 0.01, 5.0

Task = asyncio.Task[Any]


class LeakCheck:
    """Records for each task of a loop the test to which it belongs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patience_s: float = PATIENCE_S) -> None:
        self._loop = loop
        self._patience_s = patience_s
        self._number = 0
        self._tests: WeakKeyDictionary[Task, int] = WeakKeyDictionary()
        self._sockets: set[int] = set()
        loop.set_task_factory(self._create_task)

    def _create_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **more: Any,
    ) -> Task:
        task = asyncio.Task(coroutine, loop=loop, **more)
        if not loop.is_running():
            self._tests[task] = self._number  # pytest starts a test or a fixture
        elif (creator := asyncio.current_task(loop)) and creator in self._tests:
            self._tests[task] = self._tests[creator]
        return task

    def begin(self) -> None:
        """Starts the next test: new tasks and sockets belong to it."""
        self._number += 1
        self._sockets = set(list_sockets())

    def check(self) -> None:
        """Fails the test if a task or socket of it is left after `patience_s`."""
        deadline = time.monotonic() + self._patience_s
        while found := self._list_left():
            if time.monotonic() > deadline:
                pytest.fail("The test left running: " + "; ".join(found), pytrace=False)
            self._loop.run_until_complete(asyncio.sleep(POLL_S))

    def _list_left(self) -> list[str]:
        tasks = [
            f"task {task.get_coro()}"
            for task, number in list(self._tests.items())
            if number == self._number and not task.done()
        ]
        opened = [each for inode, each in list_sockets().items() if inode not in self._sockets]
        return tasks + [f"listening socket {name}" for each in opened if (name := find_name(each))]


def list_sockets() -> dict[int, int]:
    """The descriptors of this process's sockets, by inode; none where there is no /proc."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(DESCRIPTORS):  # noqa: PTH208  # only the names are needed
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed
                status = os.fstat(int(name))
                if stat.S_ISSOCK(status.st_mode):
                    found[status.st_ino] = int(name)
    return found


def find_name(descriptor: int) -> str:
    """The address of a listening socket; empty if it does not listen or is closed."""
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(descriptor)) as copy,
    ):
        if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return str(copy.getsockname())
    return ""
