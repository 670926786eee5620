"""The transaction of a handler, which also stores the handler's response."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import sql
from service.database.connect import Connection, Pool
from service.http.state import KeyOwner
from service.idempotency_keys import KeyInUse


class IdempotentTransaction:
    """A transaction that begins at its first use and ends with its `with`.

    Before its first use, a handler may use the network without holding a connection.
    """

    def __init__(self, owner: KeyOwner) -> None:
        self._owner = owner
        self._stack = AsyncExitStack()
        self._conn: Connection | None = None

    async def begin(self, pool: Pool) -> Connection:
        """Begin at the first call, and return the connection.

        Raises KeyInUse if another process handles a request with the key, or has stored its
        response since the look-up that preceded the handler.
        """
        if self._conn is None:
            conn = await self._stack.enter_async_context(pool.acquire())
            await self._stack.enter_async_context(conn.transaction())
            tenant_id, live, key = self._owner
            if not await conn.fetchval(sql.idempotent_response_lock, tenant_id, live, key):
                raise KeyInUse
            stored = await conn.fetch(sql.idempotent_response_get_many, [tenant_id], [live], [key])
            if stored:
                raise KeyInUse
            self._conn = conn
        return self._conn

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)
