"""Every statement in sql/*.sql prepares, is used, and names its tenant and mode."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

import sql
from service.access.api_keys import ApiKey, create_key
from service.database.connect import Connection, Pool
from service.leads.listing.statements import make_all
from service.leads.models import Lead, LeadDetail, TimelineEntry
from service.leads.search.query import LeadHit
from service.validation.field_types import ApiStruct
from service.webhooks.endpoints import Endpoint
from tests.harness.factories import make_lead, make_tenant

ROOT = Path(sql.__file__).parent.parent
EVERY = pytest.mark.parametrize("name", sorted(sql.STATEMENTS))

OF_ALL_TENANTS = {
    "api_key_get_many_by_hash": "finds the tenant of a request",
    "api_key_touch_many": "updates keys of all tenants by the ids of keys that were just used",
    "ticker_cut": "cuts the log of all tenants",
    "window_read_many": "reads events of all tenants; each event names its tenant",
    "event_list_owners": "lists tenants with new events, to wake their long polls",
    "tenant_list": "the operator's list of all tenants, with their numbers of keys",
    "score_list_stale": "lists stale scores of all tenants; later statements name the tenant",
    "endpoint_get_many_for_dispatch": "by the ids of deliveries just leased, of all tenants",
    "endpoint_health_save_many": "by the ids of endpoints that deliveries just went to",
    "endpoint_close_lane": "by the id of an endpoint that a delivery just went to",
    "endpoint_disable": "by the id of an endpoint that responded 410 or failed for days",
    "endpoint_secret_list_for_key_rotation": "the operator's key encrypts rows of all tenants",
    "endpoint_headers_list_for_key_rotation": "the operator's key encrypts rows of all tenants",
    "endpoint_count_undecryptable": "the operator's key encrypts rows of all tenants",
    "lane_get_lateness": "the lateness of the dispatcher over all tenants",
    "endpoint_reconcile": "counts events of all tenants; each event names its tenant",
    "delivery_reconcile": "as endpoint_reconcile, from deliveries to events",
    "reader_lag": "finds the oldest event of any tenant that is in no window",
    "reconciliation_find_end": "finds the oldest event of any tenant that is in no window",
    "lane_list_due": "the dispatcher sends deliveries of all tenants",
    "delivery_claim_many": "the dispatcher sends deliveries of all tenants",
    "delivery_settle_many": "by the ids and fencing tokens of deliveries just sent",
    "delivery_reap_many": "ends expired leases of all tenants",
    "delivery_repair_many": "ends impossible delays of all tenants",
    "endpoint_repair_many": "ends impossible pauses of all tenants",
    "delivery_give_back_many": "by the ids and fencing tokens of deliveries that were not sent",
    "delivery_cancel_many": "finishes work for deleted or paused endpoints of all tenants",
    "delivery_recall_many": "resumes deliveries of all tenants",
    "delivery_make_next_due": "by the endpoints and leads of deliveries just finished",
    "endpoint_finish_skips": "finishes work for deleted or paused endpoints of all tenants",
    "endpoint_warn_failing": "finds failing endpoints of all tenants",
    "endpoint_disable_failing": "finds failing endpoints of all tenants",
    "idempotent_response_delete_expired": "deletes expired responses of all tenants",
    "idempotent_response_list_for_key_rotation": "the operator's key encrypts rows of all tenants",
    "lead_word_sweep_take": "sweeps the words of all tenants; later statements name the tenant",
    "lead_word_sweep_advance": "as lead_word_sweep_take",
    "lead_count_next": "as lead_word_sweep_take",
    "delivery_list_expired": "the janitor finds deliveries of all tenants that waited too long",
    "delivery_count_expired": "the operator's count over all tenants, by tenant",
    "partition_list_expired": "a weekly partition stays while a delivery of any tenant needs it",
    "partition_has_young_rows": "a weekly partition stays while a row of any tenant is young",
    "replay_advance_one": "continues the oldest replay of any tenant; its row names the tenant",
}
_STATEMENT_END = re.compile(
    r"\b(GROUP BY|ORDER BY|RETURNING|LIMIT|UNION|FOR UPDATE|ON CONFLICT|SET|SELECT|VALUES)\b"
)


@EVERY
async def test_a_statement_prepares_against_the_schema(conn: Connection, name: str) -> None:
    await conn.prepare(sql.STATEMENTS[name])


async def test_every_statement_of_a_list_prepares_and_names_tenant_and_mode(pool: Pool) -> None:
    tables = await list_tenant_tables(pool)
    every = {statement.text: statement for statement in make_all()}
    assert len(every) > 100
    async with pool.acquire() as conn:
        for statement in every.values():
            prepared = await conn.prepare(statement.text)
            assert len(prepared.get_parameters()) == len(statement.parameters)
            for conditions in find_conditions(statement.text, tables):
                assert "tenant_id" in conditions, statement.text
                assert "live" in conditions, statement.text


def test_every_statement_is_used_and_every_used_statement_exists() -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("service", "workers", "sql")
        for path in (ROOT / folder).rglob("*.py")
    )
    modules = {"compose", "migrate", "connection", "errors"}
    used = set(re.findall(r"\bsql\.([a-z_]+)\b", code)) - modules
    assert used == set(sql.STATEMENTS)


async def test_every_statement_names_tenant_and_mode_wherever_it_reads_a_tenants_rows(
    pool: Pool,
) -> None:
    tables = await list_tenant_tables(pool)
    assert {"lead", "outbox", "timeline", "api_key"} <= tables
    faulty = {
        name
        for name, statement in sql.STATEMENTS.items()
        if any(
            "tenant_id" not in conditions or "live" not in conditions
            for conditions in find_conditions(statement, tables)
        )
    }
    assert faulty == set(OF_ALL_TENANTS) & set(sql.STATEMENTS)


def test_a_statement_without_the_mode_is_detected() -> None:
    tables = {"lead", "timeline"}
    for faulty in (
        "SELECT id FROM lead WHERE tenant_id = $1 AND id = $2",
        "SELECT id, tenant_id, live FROM lead ORDER BY id",
        "UPDATE lead SET tenant_id = $1, live = $2 WHERE id = $3",
        "SELECT 1 WHERE EXISTS (SELECT FROM timeline t WHERE t.lead_id = $1) AND tenant_id = live",
        "DELETE FROM lead USING gone WHERE lead.id = gone.id RETURNING tenant_id, live",
    ):
        found = list(find_conditions(faulty, tables))
        assert [c for c in found if "tenant_id" not in c or "live" not in c], faulty


async def list_tenant_tables(pool: Pool) -> set[str]:
    """The tables whose rows belong to a tenant and a mode."""
    rows = await pool.fetch(
        "SELECT table_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND column_name IN ('tenant_id', 'live') "
        "GROUP BY table_name HAVING count(*) = 2"
    )
    return {row["table_name"] for row in rows}


def find_conditions(statement: str, tables: set[str]) -> Iterator[str]:
    """The conditions (WHERE and ON) of each level of a statement that reads one of the tables."""
    own = set(re.findall(r"\b(\w+) AS (?:MATERIALIZED )?\(", statement))
    names = "|".join(sorted(tables - own))
    reads = re.compile(rf"\b(?:(?<!INSERT )FROM|JOIN|UPDATE|USING)\s+(?:{names})\b", re.IGNORECASE)
    for level in split_levels(re.sub(r"--[^\n]*|/\*.*?\*/|'[^']*'", "", statement)):
        for part in re.split(r"\bUNION(?: ALL)?\b", level):
            if reads.search(part):
                pieces = re.split(r"\b(?:WHERE|ON)\b(?! CONFLICT)", part)[1:]
                yield " ".join(_STATEMENT_END.split(piece)[0] for piece in pieces)


def split_levels(text: str) -> list[str]:
    """The text of each nesting level of parentheses, without deeper levels."""
    levels: list[str] = []
    stack = [""]
    for character in text:
        if character == "(":
            stack.append("")
        elif character == ")":
            levels.append(stack.pop())
            stack[-1] += "()"
        else:
            stack[-1] += character
    return [*levels, *stack]


@pytest.mark.parametrize(
    ("row_type", "struct"),
    [
        ("lead_on_wire", Lead),
        ("lead_detail_on_wire", LeadDetail),
        ("timeline_on_wire", TimelineEntry),
        ("lead_hit_on_wire", LeadHit),
    ],
)
async def test_each_row_type_has_the_fields_of_its_struct_in_order(
    pool: Pool, row_type: str, struct: type[ApiStruct]
) -> None:
    rows = await pool.fetch(
        "SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relname = $1 AND a.attnum > 0 ORDER BY a.attnum",
        row_type,
    )
    assert tuple(row["attname"] for row in rows) == struct.__struct_encode_fields__


async def test_the_json_of_a_row_decodes_to_its_struct_and_back(conn: Connection) -> None:
    tenant = await make_tenant(conn)
    plain = await make_lead(conn, tenant.id)
    full = await make_lead(
        conn, tenant.id, name='Ø \u2028 "q" \\ 😀', phone="+47 22 12 34 56", tags=["a, b", '"{}'],
        custom_fields={"ä": [1, 2.5, None, {"deep": True}], "": "x"}, assigned_to="user_1",
    )  # fmt: skip
    rows = await conn.fetch(
        sql.STATEMENTS["lead_get_many"], [tenant.id] * 2, [True] * 2, [plain, full], [0, 0]
    )
    found = {row["id"]: msgspec.json.decode(row["body"], type=LeadDetail) for row in rows}
    assert found[full].name == 'Ø \u2028 "q" \\ 😀'
    assert found[full].tags == ["a, b", '"{}']
    assert list(found[full].custom_fields) == ["ä", ""]
    assert (found[plain].tags, found[plain].custom_fields, found[plain].timeline) == ([], {}, [])
    for row in rows:
        assert msgspec.json.encode(found[row["id"]]) == row["body"].encode()


ODD = 'Ø \u2028 "q" \\ / 😀 \x01\x1f\x7f\b\f\n\r\t'
INSERT_ENDPOINT = """
WITH e AS (
    INSERT INTO endpoint (tenant_id, live, id, url, events, description, rate_limit, timeout_ms,
        header_names, status, status_reason, events_since, created_at, updated_at)
    VALUES ($1, true, $2, $3, $4, $3, $5, $5, $4, 'active', $3, $6, $6, $6)
    RETURNING tenant_id, live, id
)
INSERT INTO endpoint_health (tenant_id, live, endpoint_id, failures, failing_since,
    last_success_at, closed_until)
SELECT tenant_id, live, id, 7, $7, $7, $8 FROM e
"""


async def test_the_json_of_endpoints_decodes_to_its_struct_and_back(conn: Connection) -> None:
    tenant = await make_tenant(conn)
    at, later = datetime(2026, 1, 2, 3, 4, 5, 60_000, UTC), datetime(9999, 12, 31, tzinfo=UTC)
    await conn.execute(INSERT_ENDPOINT, tenant.id, "wh_1", "", ["a"], None, at, None, None)
    await conn.execute(INSERT_ENDPOINT, tenant.id, "wh_2", ODD, [ODD, "b"], 900, at, at, later)
    text = await conn.fetchval(sql.STATEMENTS["endpoint_list"], tenant.id, True, None)
    found = msgspec.json.decode(f"[{text}]", type=list[Endpoint])
    assert msgspec.json.encode(found) == f"[{text}]".encode()
    first, second = found
    assert (first.id, first.url, first.events, first.rate_limit) == ("wh_1", "", ["a"], None)
    assert (first.failing_since, first.last_success_at, first.paused_until) == (None, None, None)
    assert (second.url, second.description, second.status_reason) == (ODD, ODD, ODD)
    assert (second.events, second.header_names) == ([ODD, "b"], [ODD, "b"])
    assert (second.rate_limit, second.timeout_ms, second.failures) == (900, 900, 7)
    assert second.created_at == second.last_success_at == "2026-01-02T03:04:05.060Z"
    assert second.paused_until == "9999-12-31T00:00:00.000Z"


async def test_the_json_of_keys_decodes_to_its_struct_and_back(conn: Connection) -> None:
    tenant = await make_tenant(conn)
    made = await create_key(conn, tenant.id, False, ODD, "read", datetime(9999, 12, 31, tzinfo=UTC))
    text = await conn.fetchval(sql.STATEMENTS["api_key_list"], tenant.id, True)
    found = msgspec.json.decode(f"[{text}]", type=list[ApiKey])
    assert msgspec.json.encode(found) == f"[{text}]".encode()
    assert len(found) == len(tenant.keys) + 1
    expected = {name: getattr(made, name) for name in ApiKey.__struct_fields__}
    assert ApiKey(**expected) in found
    assert (made.name, made.mode) == (ODD, "test")
