"""Seals every secret that is kept with the current SECRET_KEY, so that old ones can go."""

import sql
from service.db import Connection
from service.request_keys import make_owner as make_owner_of_answer
from service.secretbox import SecretBox
from service.webhooks.endpoints import make_owner


async def rekey_all(conn: Connection, box: SecretBox) -> int:
    """How many values were sealed anew; safe to break off and to repeat, with the service running.

    Raises SealError for one that none of the keys opens; what was done before stays done.
    """
    done = 0
    for rekey in (_rekey_secrets, _rekey_headers, _rekey_answers):
        while part := await rekey(conn, box):
            done += part
    return done


async def _rekey_secrets(conn: Connection, box: SecretBox) -> int:
    async with conn.transaction():
        rows = await conn.fetch(sql.endpoint_secret_list_for_rekey, box.current_key_id)
        for row in rows:
            owner = make_owner(row["tenant_id"], row["endpoint_id"])
            sealed = box.seal(box.open(row["sealed"], owner), owner)
            await conn.execute(
                sql.endpoint_secret_rekey, row["tenant_id"], row["live"], row["endpoint_id"],
                row["id"], sealed,
            )  # fmt: skip
    return len(rows)


async def _rekey_headers(conn: Connection, box: SecretBox) -> int:
    async with conn.transaction():
        rows = await conn.fetch(sql.endpoint_headers_list_for_rekey, box.current_key_id)
        for row in rows:
            owner = make_owner(row["tenant_id"], row["id"])
            sealed = box.seal(box.open(row["headers"], owner), owner)
            await conn.execute(
                sql.endpoint_headers_rekey, row["tenant_id"], row["live"], row["id"], sealed
            )
    return len(rows)


async def _rekey_answers(conn: Connection, box: SecretBox) -> int:
    async with conn.transaction():
        rows = await conn.fetch(sql.idempotent_answer_list_for_rekey, box.current_key_id)
        for row in rows:
            place = row["tenant_id"], row["live"], row["key"]
            owner = make_owner_of_answer(*place)
            sealed = box.seal(box.open(row["sealed"], owner), owner)
            await conn.execute(sql.idempotent_answer_rekey, *place, sealed)
    return len(rows)
