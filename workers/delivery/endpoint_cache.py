"""Caches endpoints for the dispatcher for a second, with decrypted secrets."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

import sql
from service.database.connect import Pool
from service.encryption import DecryptionError, Encryptor
from service.telemetry.logging import get_logger
from service.webhooks.secrets import make_secret_owner
from workers.delivery.sender import EndpointConfig

CACHE_S = 1.0
"""The longest time until a changed URL or secret is used."""
log = get_logger("dispatcher")


class EndpointCache:
    """Endpoints by id. `timeout_s` applies to endpoints without their own timeout."""

    def __init__(self, pool: Pool, encryptor: Encryptor, timeout_s: float) -> None:
        self._pool = pool
        self._encryptor = encryptor
        self._timeout_s = timeout_s
        self._cached: dict[str, tuple[float, EndpointConfig | None]] = {}

    async def get_many(self, ids: Iterable[str]) -> dict[str, EndpointConfig | None]:
        """The endpoints by id; None for a deleted endpoint or if decryption fails."""
        now = time.monotonic()
        wanted = set(ids)
        missing = [i for i in wanted if self._cached.get(i, (0.0, None))[0] < now]
        if missing:
            rows = await self._pool.fetch(sql.endpoint_get_many_for_dispatch, missing)
            loaded = {row["id"]: self._decrypt(dict(row)) for row in rows}
            self._cached = {i: cached for i, cached in self._cached.items() if cached[0] >= now}
            self._cached |= {i: (now + CACHE_S, loaded.get(i)) for i in missing}
        return {i: self._cached[i][1] for i in wanted}

    def _decrypt(self, row: Mapping[str, Any]) -> EndpointConfig | None:
        owner = make_secret_owner(row["tenant_id"], row["id"])
        try:
            keys = tuple(self._encryptor.open(sealed, owner) for sealed in row["secrets"])
            headers = self._encryptor.open(row["headers"], owner) if row["headers"] else b"{}"
        except DecryptionError as error:
            log.error("endpoint.unreadable", endpoint_id=row["id"], reason=str(error))  # noqa: TRY400
            return None
        timeout_ms = row["timeout_ms"]
        return EndpointConfig(
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
