"""The secrets that `leadlog dev` makes once and keeps in its data folder."""

import base64
import secrets
from pathlib import Path

import sql
from service.db import Connection
from service.dev.datafolder import read_secret, write_secret
from service.keys import create_key, hash_key
from sql.connection import connect

FIRST_TENANT = "default"
FIRST_KEY_NAME = "first admin key"


async def ensure_admin_key(database_url: str, path: Path) -> str:
    """The admin key in the file, or a new one if that one does not work (any more)."""
    async with connect(database_url) as conn, conn.transaction():
        tenant_id = await ensure_tenant(conn, FIRST_TENANT)
        key = read_secret(path)
        if key is not None and await _is_admin_key(conn, key):
            return key
        made = await create_key(conn, tenant_id, True, FIRST_KEY_NAME, "admin")
        # Before the commit: a key in the file alone is replaced at the next start, but one in
        # the database alone would be lost to its owner.
        write_secret(path, made.key)
        return made.key


async def ensure_tenant(conn: Connection, name: str) -> int:
    """The tenant's id; made if it is missing."""
    tenant_id: int | None = await conn.fetchval(sql.tenant_insert, name)
    if tenant_id is None:
        tenant_id = await conn.fetchval(sql.tenant_get_by_name, name)
    if tenant_id is None:
        raise LookupError(name)
    return tenant_id


async def _is_admin_key(conn: Connection, key: str) -> bool:
    row = await conn.fetchrow(sql.api_key_get_many_by_hash, [hash_key(key)], None)
    return row is not None and row["live"] and row["scope"] == "admin"


def ensure_secret_key(path: Path) -> str:
    """The key that encrypts webhook secrets: 32 bytes in URL-safe base64, made once."""
    if (found := read_secret(path)) is not None:
        return found
    made = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    write_secret(path, made)
    return made
