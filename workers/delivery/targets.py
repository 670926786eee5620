"""Endpoints as the dispatcher sends to them, their secrets opened; believed for a second."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

import sql
from service.db import Pool
from service.logs import get_logger
from service.secretbox import SealError, SecretBox
from service.webhooks.endpoints import make_owner
from workers.delivery.sender import Target

CACHE_S = 1.0
"""A new URL or secret is used this much later at the most."""
log = get_logger("dispatcher")


class TargetBook:
    """Looks endpoints up."""

    def __init__(self, pool: Pool, box: SecretBox, timeout_s: float) -> None:
        self._pool = pool
        self._box = box
        self._timeout_s = timeout_s
        self._known: dict[str, tuple[float, Target | None]] = {}

    async def get_many(self, ids: Iterable[str]) -> dict[str, Target | None]:
        """None for one that is gone or whose secrets do not open."""
        now = time.monotonic()
        wanted = set(ids)
        missing = [i for i in wanted if self._known.get(i, (0.0, None))[0] < now]
        if missing:
            found = {
                row["id"]: self._open(dict(row))
                for row in await self._pool.fetch(sql.endpoint_get_many_for_dispatch, missing)
            }
            self._known = {i: known for i, known in self._known.items() if known[0] >= now}
            self._known |= {i: (now + CACHE_S, found.get(i)) for i in missing}
        return {i: self._known[i][1] for i in wanted}

    def _open(self, row: Mapping[str, Any]) -> Target | None:
        owner = make_owner(row["tenant_id"], row["id"])
        try:
            keys = tuple(self._box.open(sealed, owner) for sealed in row["secrets"])
            headers = self._box.open(row["headers"], owner) if row["headers"] else b"{}"
        except SealError as error:
            log.error("endpoint.unreadable", endpoint_id=row["id"], reason=str(error))  # noqa: TRY400
            return None
        timeout_ms = row["timeout_ms"]
        return Target(
            tenant_id=row["tenant_id"],
            live=row["live"],
            id=row["id"],
            url=row["url"],
            keys=keys,
            headers=msgspec.json.decode(headers, type=dict[str, str]),
            timeout_s=self._timeout_s if timeout_ms is None else timeout_ms / 1000,
            thin=row["payload"] == "thin",
            retry=row["retry"],
            rate_limit=row["rate_limit"],
            trips=row["trips"],
        )
