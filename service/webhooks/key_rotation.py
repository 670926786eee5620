"""Encrypts all stored values with the current SECRET_KEY, so that old keys can be removed."""

from collections.abc import Sequence

import sql
from service.database.connect import Connection
from service.encryption import Encryptor
from service.idempotency_keys import make_stored_response_owner
from service.webhooks.secrets import make_secret_owner


async def count_undecryptable(conn: Connection, key_ids: Sequence[bytes]) -> int:
    """The number of webhooks with a secret or headers that none of these keys encrypted."""
    count: int = await conn.fetchval(sql.endpoint_count_undecryptable, key_ids)
    return count


async def reencrypt_all(conn: Connection, encryptor: Encryptor) -> int:
    """Encrypt all values that are encrypted with an old key, and return how many there were.

    It can be interrupted and repeated while the service runs: each batch is a transaction. Raises
    DecryptionError for a value that none of the keys decrypts.
    """
    total = 0
    for reencrypt in (_reencrypt_secrets, _reencrypt_headers, _reencrypt_responses):
        while count := await reencrypt(conn, encryptor):
            total += count
    return total


async def _reencrypt_secrets(conn: Connection, encryptor: Encryptor) -> int:
    async with conn.transaction():
        rows = await conn.fetch(sql.endpoint_secret_list_for_key_rotation, encryptor.current_key_id)
        for row in rows:
            owner = make_secret_owner(row["tenant_id"], row["endpoint_id"])
            sealed = encryptor.seal(encryptor.open(row["sealed"], owner), owner)
            key = row["tenant_id"], row["live"], row["endpoint_id"], row["id"]
            await conn.execute(sql.endpoint_secret_reencrypt, *key, sealed)
    return len(rows)


async def _reencrypt_headers(conn: Connection, encryptor: Encryptor) -> int:
    async with conn.transaction():
        rows = await conn.fetch(
            sql.endpoint_headers_list_for_key_rotation, encryptor.current_key_id
        )
        for row in rows:
            owner = make_secret_owner(row["tenant_id"], row["id"])
            sealed = encryptor.seal(encryptor.open(row["headers"], owner), owner)
            await conn.execute(
                sql.endpoint_headers_reencrypt, row["tenant_id"], row["live"], row["id"], sealed
            )
    return len(rows)


async def _reencrypt_responses(conn: Connection, encryptor: Encryptor) -> int:
    async with conn.transaction():
        rows = await conn.fetch(
            sql.idempotent_response_list_for_key_rotation, encryptor.current_key_id
        )
        for row in rows:
            key = row["tenant_id"], row["live"], row["key"]
            owner = make_stored_response_owner(*key)
            sealed = encryptor.seal(encryptor.open(row["sealed"], owner), owner)
            await conn.execute(sql.idempotent_response_rekey, *key, sealed)
    return len(rows)
