"""Idempotency-Key: a POST or PATCH that is repeated under its key is done once.

The first answer below 500 is kept for a day and sent again byte for byte. It is written in the
transaction that did the work: by the statement itself where a route says so, else in a transaction
that is opened around the handler. A refusal did nothing, so it is kept after the fact.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

import sql
from service.db import Connection
from service.errors import Problem, Unavailable, encode_problem
from service.http.call import Call, Handler, Operation
from service.http.replies import Reply
from service.metrics import IDEMPOTENT_REPLAYS
from service.request_keys import (
    HEADER,
    HEADER_NAME,
    KeptAnswer,
    KeyInUse,
    KeyReused,
    RequestKey,
    check_key,
    make_digest,
    make_owner,
)
from service.secretbox import SealError
from service.webhooks.endpoints import open_box

METHODS = frozenset({"POST", "PATCH"})


def do_once(operation: Operation) -> Handler:
    """The operation's handler, minding the header; for METHODS only."""
    at_work: set[tuple[int, bool, Any]] = set()
    answer = _answer_by_statement if operation.keeps_answer else _answer_in_transaction

    async def handle(call: Call) -> Response:
        header = call.header(HEADER_NAME)
        if header is None:
            return await operation.handler(call)
        keyed = KeyedCall(call, operation, check_key(header))
        if keyed.place in at_work:
            raise KeyInUse
        at_work.add(keyed.place)
        try:
            return await answer(keyed)
        except KeptAnswer as kept:
            IDEMPOTENT_REPLAYS.inc()
            return Reply(kept.body, kept.status, kept.headers.items())
        finally:
            at_work.discard(keyed.place)
            call.keyed = None  # each knows the other: without this the collector must find them

    return handle


class KeyedCall:
    """A call with its key, and the transaction around it if it needs one."""

    def __init__(self, call: Call, operation: Operation, text: str) -> None:
        who = call.principal
        self.call = call
        self.operation = operation
        self.place = (
            who.tenant_id, who.live, make_digest(operation.method, operation.path, text)
        )  # fmt: skip
        self._stack: AsyncExitStack | None = None
        self._conn: Connection | None = None
        self._request_key: RequestKey | None = None
        call.keyed = self

    @property
    def request_key(self) -> RequestKey:
        """Asked for when the body, if the route takes one, has been read."""
        if self._request_key is None:
            asked = self.call.path_params
            condition = self.call.header("if-match")
            request = make_digest(
                *asked.values(), "any" if condition is None else f"={condition}",
                self.call.raw or b"",
            )  # fmt: skip
            self._request_key = RequestKey(self.place[2], request)
        return self._request_key

    @property
    def was_read(self) -> bool:
        """Whether the request came as a whole, so that it can be told from another."""
        return self.operation.body is None or self.call.raw is not None

    async def open_transaction(self) -> Connection:
        """The transaction, at first use. Raises KeptAnswer, KeyInUse, KeyReused."""
        if self._conn is None:
            if self._stack is None:
                raise RuntimeError(f"{self.operation.route} keeps its answer by its statement")
            conn = await self._stack.enter_async_context(self.call.state.pool.acquire())
            await self._stack.enter_async_context(conn.transaction())
            if not await conn.fetchval(sql.idempotent_answer_lock, *self.place):
                raise KeyInUse
            await self.raise_kept(conn)
            self._conn = conn
        return self._conn

    @asynccontextmanager
    async def around(self) -> AsyncIterator[None]:
        """Commits the transaction, if one was opened within; rolls it back after an error."""
        async with AsyncExitStack() as self._stack:
            yield

    async def raise_kept(self, conn: Connection) -> None:
        """Raises KeptAnswer or KeyReused; nothing if there is none."""
        tenant_id, live, key = self.place
        for row in await conn.fetch(sql.idempotent_answer_get_many, [tenant_id], [live], [key]):
            if row["request"].hex != self.request_key.request:
                raise KeyReused
            raise KeptAnswer(
                row["status"], self._open(row), location=row["location"], etag=row["etag"]
            )

    async def keep(
        self, conn: Connection, status: int, body: bytes, headers: Any, *, secret: bool = False
    ) -> bool:
        """False if an answer is kept already."""
        sealed = self._seal(body) if secret else None
        kept = await conn.fetchval(
            sql.idempotent_answer_insert_if_new, *self.place, self.request_key.request, status,
            headers.get("Location"), headers.get("ETag"), None if secret else body.decode(), sealed,
        )  # fmt: skip
        return kept is not None

    def _open(self, row: Any) -> bytes:
        if row["sealed"] is None:
            return str(row["body"]).encode()
        try:
            return open_box(self.call.state.settings).open(row["sealed"], make_owner(*self.place))
        except SealError:
            message = f"The answer under this {HEADER} was sealed with a SECRET_KEY that is gone."
            raise Unavailable(message, retry_after_s=3600) from None

    def _seal(self, body: bytes) -> bytes:
        return open_box(self.call.state.settings).seal(body, make_owner(*self.place))


async def _answer_by_statement(keyed: KeyedCall) -> Response:
    try:
        return await keyed.operation.handler(keyed.call)
    except (KeyInUse, KeyReused):
        raise
    except Problem as problem:
        await _keep_refusal(keyed, problem)
        raise


async def _answer_in_transaction(keyed: KeyedCall) -> Response:
    try:
        async with keyed.around():
            response = await keyed.operation.handler(keyed.call)
            conn = await keyed.open_transaction()
            await keyed.keep(
                conn, response.status_code, bytes(response.body), response.headers,
                secret=keyed.operation.shows_secret,
            )  # fmt: skip
    except (KeyInUse, KeyReused):
        raise
    except Problem as problem:
        await _keep_refusal(keyed, problem)
        raise
    keyed.call.state.wakeups.notify("delivery")  # those before the commit came too early
    return response


async def _keep_refusal(keyed: KeyedCall, problem: Problem) -> None:
    """Raises KeptAnswer or KeyReused where an answer is kept already."""
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR or not keyed.was_read:
        return
    state = keyed.call.state
    body = encode_problem(problem, state.settings.public_docs_url)
    async with state.pool.acquire() as conn:
        if not await keyed.keep(conn, problem.status, body, problem.headers):
            await keyed.raise_kept(conn)
