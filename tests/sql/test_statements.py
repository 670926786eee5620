"""Every statement in sql/*.sql: it prepares, it is used, it names its tenant and mode."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import sql
from service.db import Connection, Pool
from service.leads.list_statements import make_all
from service.leads.search_query import LeadHit
from service.models import Lead, LeadDetail, TimelineEntry, Wire
from tests.factories import make_lead, make_tenant

ROOT = Path(sql.__file__).parent.parent
EVERY = pytest.mark.parametrize("name", sorted(sql.STATEMENTS))

OF_ALL_TENANTS = {
    "api_key_get_many_by_hash": "finds out who is calling",
    "api_key_touch_many": "for keys of all tenants at once, by ids of keys that have just worked",
    "ticker_cut": "the log of all tenants is cut at once",
    "window_read": "readers of the log work for all tenants; each event names its own",
    "window_read_many": "as window_read",
    "event_list_owners": "finds out whose events the newest windows hold, to wake who waits",
    "tenant_list": "the operator's list of all tenants, with how many keys each has",
    "score_list_stale": "the sweep looks through all tenants; what it does for each names it",
    "endpoint_get_many_for_dispatch": "by the ids in deliveries just leased, of all tenants",
    "endpoint_health_save_many": "by the ids of endpoints that deliveries just went to",
    "endpoint_close_lane": "by the id of an endpoint that a delivery just went to",
    "endpoint_disable": "by the id of an endpoint that has answered 410 or failed for days",
    "endpoint_secret_list_for_rekey": "the operator's key sealed those of all tenants",
    "endpoint_headers_list_for_rekey": "the operator's key sealed those of all tenants",
    "lane_get_lateness": "how late the dispatcher is with those of all tenants",
    "endpoint_reconcile": "counts the log of all tenants; each event names its own",
    "delivery_reconcile": "as endpoint_reconcile, the other way round",
    "reconciliation_find_end": "looks for the oldest event of any tenant that no window holds",
    "lane_list_due": "the dispatcher sends for all tenants",
    "delivery_claim_many": "the dispatcher sends for all tenants",
    "delivery_settle_many": "by the ids and fencing tokens of deliveries just sent",
    "delivery_reap_many": "takes back lost leases of all tenants",
    "delivery_give_back_many": "by the ids and fencing tokens of deliveries not sent",
    "delivery_cancel_many": "clears up after endpoints of all tenants",
    "delivery_recall_many": "carries out what owners of all tenants have resumed",
    "delivery_call_heads": "by the endpoints and leads of deliveries just finished",
    "endpoint_finish_skips": "clears up after endpoints of all tenants",
    "endpoint_warn_failing": "looks for failing endpoints of all tenants",
    "endpoint_disable_failing": "looks for failing endpoints of all tenants",
    "idempotent_answer_delete_expired": "time is over for answers of all tenants",
    "idempotent_answer_list_for_rekey": "the operator's key sealed those of all tenants",
    "lead_word_sweep_take": "the sweep through all tenants' words; what it does names each",
    "lead_word_sweep_advance": "as lead_word_sweep_take",
    "lead_count_next": "as lead_word_sweep_take",
    "delivery_list_expired": "the janitor looks for what has waited too long, of all tenants",
    "delivery_count_expired": "the operator's count over all tenants, each under its own",
    "partition_list_expired": "a week of events is kept if a delivery of any tenant waits for it",
    "replay_advance_one": "carries on the oldest replay of any tenant, by what its row says",
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


def test_every_statement_is_used_and_every_used_one_exists() -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("service", "workers", "sql")
        for path in (ROOT / folder).rglob("*.py")
    )
    modules = {"compose", "migrate", "connection", "errors"}
    used = set(re.findall(r"\bsql\.([a-z_]+)\b", code)) - modules
    assert used == set(sql.STATEMENTS)


async def test_every_statement_names_tenant_and_mode_wherever_it_reads_what_is_theirs(
    pool: Pool,
) -> None:
    tables = await list_tenant_tables(pool)
    assert {"lead", "outbox", "timeline", "api_key"} <= tables
    careless = {
        name
        for name, statement in sql.STATEMENTS.items()
        if any(
            "tenant_id" not in conditions or "live" not in conditions
            for conditions in find_conditions(statement, tables)
        )
    }
    assert careless == set(OF_ALL_TENANTS) & set(sql.STATEMENTS)


def test_a_statement_that_forgets_the_mode_would_be_found() -> None:
    tables = {"lead", "timeline"}
    for careless in (
        "SELECT id FROM lead WHERE tenant_id = $1 AND id = $2",
        "SELECT id, tenant_id, live FROM lead ORDER BY id",
        "UPDATE lead SET tenant_id = $1, live = $2 WHERE id = $3",
        "SELECT 1 WHERE EXISTS (SELECT FROM timeline t WHERE t.lead_id = $1) AND tenant_id = live",
        "DELETE FROM lead USING gone WHERE lead.id = gone.id RETURNING tenant_id, live",
    ):
        found = list(find_conditions(careless, tables))
        assert [c for c in found if "tenant_id" not in c or "live" not in c], careless


async def list_tenant_tables(pool: Pool) -> set[str]:
    """The tables whose rows belong to a tenant and a mode."""
    rows = await pool.fetch(
        "SELECT table_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND column_name IN ('tenant_id', 'live') "
        "GROUP BY table_name HAVING count(*) = 2"
    )
    return {row["table_name"] for row in rows}


def find_conditions(statement: str, tables: set[str]) -> Iterator[str]:
    """For each level of a statement that reads such a table: what follows WHERE and ON there."""
    own = set(re.findall(r"\b(\w+) AS (?:MATERIALIZED )?\(", statement))
    names = "|".join(sorted(tables - own))
    reads = re.compile(rf"\b(?:(?<!INSERT )FROM|JOIN|UPDATE|USING)\s+(?:{names})\b", re.IGNORECASE)
    for level in split_levels(re.sub(r"--[^\n]*|/\*.*?\*/|'[^']*'", "", statement)):
        for part in re.split(r"\bUNION(?: ALL)?\b", level):
            if reads.search(part):
                pieces = re.split(r"\b(?:WHERE|ON)\b(?! CONFLICT)", part)[1:]
                yield " ".join(_STATEMENT_END.split(piece)[0] for piece in pieces)


def split_levels(text: str) -> list[str]:
    """The text inside each pair of brackets, and outside all, each without what is deeper."""
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
async def test_what_postgresql_builds_has_the_fields_of_its_struct_in_order(
    pool: Pool, row_type: str, struct: type[Wire]
) -> None:
    rows = await pool.fetch(
        "SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relname = $1 AND a.attnum > 0 ORDER BY a.attnum",
        row_type,
    )
    assert tuple(row["attname"] for row in rows) == struct.__struct_encode_fields__


async def test_a_row_of_any_kind_becomes_the_json_of_its_struct(conn: Connection) -> None:
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
