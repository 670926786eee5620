"""A new generation of the log begins where stored transaction ids are no longer valid."""

import asyncpg

import sql
from service.database.connect import Pool
from service.events.event_log import Cursor
from tests.service.events.test_event_log import append, cut, read_all


async def test_a_new_generation_begins_in_another_cluster_and_no_unread_event_is_lost(
    committed: Pool, start: Cursor, admin_conn: asyncpg.Connection
) -> None:
    await append(committed, "read")
    await cut(committed)
    read, cursor = await read_all(committed, start)
    await append(committed, "unread")
    # As after a restore elsewhere: the stored transaction ids are far above those of this cluster.
    await admin_conn.execute("UPDATE outbox SET txid = (txid::text::bigint + 1000000)::text::xid8")
    await admin_conn.execute(
        "UPDATE ticker SET snap = (x + 1000000 || ':' || x + 1000000 || ':')"
        "::pg_snapshot FROM (SELECT pg_snapshot_xmax(snap)::text::bigint AS x FROM ticker) AS s"
    )
    await admin_conn.execute("UPDATE tick SET snap = ticker.snap FROM ticker "
                             "WHERE tick.tick = ticker.tick")  # fmt: skip

    await admin_conn.execute(
        "UPDATE log_home SET place = 'another/1/1', txid = pg_current_xact_id()"
    )

    await append(committed, "written before the workers run")  # with a small transaction id
    assert (await committed.fetchrow(sql.log_check, 0, 0))["is_restored"] is True
    assert await committed.fetchval(sql.log_begin_generation_if_restored, 2, 0, 0) is True
    assert await committed.fetchval(sql.log_begin_generation_if_restored, 3, 0, 0) is False
    await append(committed, "new")
    await cut(committed)
    after, last = await read_all(committed, cursor)
    await append(committed, "newest")
    await cut(committed)
    newest, _ = await read_all(committed, last)

    assert [event.lead_id for event in read] == ["read"]
    assert [event.lead_id for event in after] == ["unread", "written before the workers run", "new"]
    assert [event.lead_id for event in newest] == ["newest"]
    await admin_conn.execute("ALTER TABLE outbox ALTER COLUMN generation SET DEFAULT 1")
