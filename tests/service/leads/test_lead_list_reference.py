"""Every list equals a reference made in Python from all rows: filter, sort, cut.

Values repeat, so there are many ties. Other tenants and the other mode have the same values. The
bounds between access methods are set low, so that every method is used.
"""

import random
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from urllib.parse import parse_qsl, quote

import msgspec
import pytest

from service.access.authentication import Principal
from service.database.connect import Connection, Pool
from service.errors import InvalidRequest
from service.leads.listing import access_paths, pages
from service.leads.listing.pages import read_list
from service.leads.listing.query import ListQuery
from service.leads.status_source import SOURCES, STATUSES
from service.validation.decoding import decode_query
from service.validation.field_types import parse_moment
from tests.harness.factories import make_lead, make_tenant

LEADS = 90
DAY = datetime(2026, 5, 1, tzinfo=UTC)
TAGS = ("a b", "c'd", "x\\y", "100%", "#", "é", "plain", "a\1#plain")
ASSIGNEES = (None, "user_1", "o'hara", "a\\b")
LONG = "x" * 64
FIELDS: tuple[dict[str, Any], ...] = (
    {}, {"plan": "pro"}, {"plan": "free", "size": 3}, {"plan": LONG + "1"}, {"plan": LONG + "2"},
    {"plan": LONG}, {"plan": "b=c"}, {"plan=b": "c"}, {"vip": True, "plan": None},
    {"it's": "o'k\\"},
)  # fmt: skip
SORTS = {"createdAt": "created_at", "updatedAt": "updated_at", "score": "score"}
ORDERS = tuple(f"sortBy={by}&sortOrder={order}" for by, order in product(SORTS, ("asc", "desc")))
FILTERS = (
    "status=qualified", "source=chat", "status=new&source=api", "minScore=2", "maxScore=1",
    "minScore=1&maxScore=2", "createdAfter=2026-05-03", "createdBefore=2026-05-04T00:00:01Z",
    "createdAfter=2026-05-02&createdBefore=2026-05-05", "updatedAfter=2026-05-04",
    "updatedBefore=2026-05-06", *(f"tag={quote(tag)}" for tag in TAGS), "assignedTo=user_1",
    "assignedTo=o%27hara", "assignedTo=a%5Cb", "email=lead7@x.io", "email=nobody@x.io",
    "customFields[plan]=pro", "customFields[plan]=" + LONG, "customFields[plan]=" + LONG + "1",
    "customFields[plan]=b%3Dc",
    "customFields[plan%3Db]=c", "customFields[it%27s]=o%27k%5C", "customFields[vip]=true",
    "customFields[plan]=free&customFields[size]=3", "tag=none", "minScore=100",
)  # fmt: skip
_ROWS = """
SELECT id, status, source, score, created_at, updated_at, tags, assigned_to, email, custom_fields
FROM lead WHERE tenant_id = $1 AND live
"""


def draw_lead(dice: random.Random) -> dict[str, Any]:
    return {
        "status": dice.choice(STATUSES[:3]), "source": dice.choice(SOURCES[:3]),
        "score": dice.randint(0, 3), "created_at": DAY + timedelta(days=dice.randint(0, 5)),
        "updated_at": DAY + timedelta(days=dice.randint(0, 7)),
        "tags": dice.sample(TAGS, dice.randint(0, 3)), "assigned_to": dice.choice(ASSIGNEES),
        "custom_fields": dice.choice(FIELDS),
    }  # fmt: skip


@pytest.fixture(scope="module")
async def who(pool: Pool) -> Principal:
    dice = random.Random(4)
    async with pool.acquire() as conn:
        mine, other = await make_tenant(conn), await make_tenant(conn)
        for n in range(LEADS):
            await make_lead(conn, mine.id, email=f"lead{n}@x.io", **draw_lead(dice))
        for n in range(20):
            await make_lead(conn, mine.id, live=False, email=f"lead{n}@x.io", **draw_lead(dice))
            await make_lead(conn, other.id, email=f"lead{n}@x.io", **draw_lead(dice))
    return Principal("key", mine.id, True, "read")


METHODS = {
    "sorted": {},
    "scanned": {"MOST_SORTED": 0},
    "sorted after a scan": {"MOST_SORTED": 0, "MOST_SCANNED": 3},
    "from the nearer end": {"SHALLOW": -1},
}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in METHODS[request.param].items():
        monkeypatch.setattr(pages, name, value)
    if request.param != "sorted":
        for name, bound in {"FEW": 4, "SOME": 8}.items():
            monkeypatch.setattr(access_paths, name, bound)
    return str(request.param)


def is_wanted(lead: dict[str, Any], query: ListQuery) -> bool:
    def lies_between(name: str, after: str | None, before: str | None) -> bool:
        return (after is None or lead[name] > parse_moment(after)) and (
            before is None or lead[name] < parse_moment(before)
        )

    fields = msgspec.json.decode(lead["custom_fields"])
    return all((
        query.status in (None, lead["status"]),
        query.source in (None, lead["source"]),
        query.assigned_to in (None, lead["assigned_to"]),
        query.email in (None, lead["email"]),
        query.tag is None or query.tag in lead["tags"],
        query.min_score is None or lead["score"] >= query.min_score,
        query.max_score is None or lead["score"] <= query.max_score,
        lies_between("created_at", query.created_after, query.created_before),
        lies_between("updated_at", query.updated_after, query.updated_before),
        all(show(fields.get(key)) == value for key, value in query.custom_fields.items()),
    ))  # fmt: skip


def show(value: Any) -> str | None:
    """A custom field as a query string contains it."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


async def list_reference(db: Pool | Connection, who: Principal, query: ListQuery) -> list[Any]:
    """(value, id) of all matches of a query, in its order."""
    column = SORTS[query.sort_by]
    rows = [dict(row) for row in await db.fetch(_ROWS, who.tenant_id)]
    found = [(row[column], row["id"]) for row in rows if is_wanted(row, query)]
    return sorted(found, reverse=query.sort_order == "desc")


async def read_page(pool: Pool, who: Principal, text: str) -> tuple[list[str], dict[str, Any]]:
    page = msgspec.json.decode(await read_list(pool, who, parse(text)))
    return [lead["id"] for lead in page["data"]], page["pagination"]


def parse(text: str) -> ListQuery:
    return decode_query(parse_qsl(text), ListQuery)


async def check(pool: Pool, who: Principal, text: str, limit: int) -> None:
    """Checks all pages by number and by cursor, a page past the end, and the totals."""
    whole = [lead_id for _, lead_id in await list_reference(pool, who, parse(text))]
    cursor: str | None = ""
    for page in range(1, len(whole) // limit + 3):
        wanted = whole[(page - 1) * limit : page * limit]
        numbered, pagination = await read_page(pool, who, f"{text}&limit={limit}&page={page}")
        assert (numbered, pagination["total"]) == (wanted, len(whole)), text
        assert pagination["hasMore"] is (page * limit < len(whole))
        if cursor is not None:
            after = f"&cursor={cursor}" if cursor else ""
            by_cursor, pagination = await read_page(pool, who, f"{text}&limit={limit}{after}")
            assert (by_cursor, pagination["total"]) == (wanted, len(whole)), text
            cursor = pagination.get("nextCursor")
    assert cursor is None


@pytest.mark.parametrize("sort", ORDERS)
async def test_each_filter_in_each_sort_equals_the_reference(
    pool: Pool, who: Principal, method: str, sort: str
) -> None:
    for text in ("", *FILTERS):
        is_ordered_scan = not access_paths.list_access_paths(parse(f"{sort}&{text}"))
        if is_ordered_scan != (method == "from the nearer end") and method != "sorted":
            continue  # the bounds make no difference to this list
        await check(pool, who, f"{sort}&{text}", limit=35)


@pytest.mark.parametrize(
    "text", ["", "status=qualified", "createdAfter=2026-05-02", "minScore=1&sortBy=updatedAt"]
)
async def test_a_page_far_from_both_ends_is_refused_and_the_message_names_the_cursor(
    pool: Pool, who: Principal, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    for module, name, value in (
        (pages, "SHALLOW", 3), (pages, "MOST_SKIPPED", 6), (pages, "MOST_SORTED", 0)
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    whole = [lead_id for _, lead_id in await list_reference(pool, who, parse(text))]
    assert len(whole) > 20
    refused = 0
    for page in range(1, len(whole) // 2 + 4):
        asked = f"{text}&limit=2&page={page}"
        skipped = 2 * (page - 1)
        if 6 < skipped < len(whole) - 6:
            refused += 1
            with pytest.raises(InvalidRequest, match=r"cursor the pagination\.nextCursor") as error:
                await read_page(pool, who, asked)
            assert [fault.field for fault in error.value.details or ()] == ["page"]
        else:
            ids, pagination = await read_page(pool, who, asked)
            assert (ids, pagination["total"]) == (whole[skipped : skipped + 2], len(whole))
    assert refused > 2


@pytest.mark.usefixtures("method")
async def test_filters_together_equal_the_reference(pool: Pool, who: Principal) -> None:
    dice = random.Random(5)
    for _ in range(40):
        chosen: dict[str, str] = {}
        for text in dice.sample(FILTERS, dice.randint(2, 3)):
            chosen |= dict(parse_qsl(text))
        text = "&".join(
            f"{quote(name, safe='[]')}={quote(value)}" for name, value in chosen.items()
        )
        if chosen.get("minScore", "0") <= chosen.get("maxScore", "9"):
            await check(pool, who, f"{dice.choice(ORDERS)}&{text}", limit=dice.choice((7, 35)))


@pytest.mark.parametrize("text", ["", "status=qualified", "tag=plain", "minScore=1", "source=chat"])
async def test_a_cursor_continues_after_its_position_whatever_is_written_meanwhile(
    pool: Pool, text: str
) -> None:
    """Leads are created, changed and deleted between pages, also the lead that the cursor names."""
    dice = random.Random(6)
    async with pool.acquire() as conn:
        tenant = await make_tenant(conn)
    who = Principal("key", tenant.id, True, "read")
    for sort in ORDERS:
        for _ in range(30):
            await make_lead(pool, tenant.id, **draw_lead(dice))
        query, column = parse(f"{sort}&{text}"), SORTS[parse(sort).sort_by]
        position: tuple[Any, str] | None = None
        after = ""
        while True:
            ids, pagination = await read_page(pool, who, f"{sort}&{text}&limit=5{after}")
            whole = await list_reference(pool, who, query)
            if position is not None:
                descends = query.sort_order == "desc"
                whole = [e for e in whole if (e < position if descends else e > position)]
            assert ids == [lead_id for _, lead_id in whole[:5]]
            if "nextCursor" not in pagination:
                break
            position, after = whole[4], f"&cursor={pagination['nextCursor']}"
            await disturb(pool, tenant.id, dice, ids[-1], column)


async def disturb(pool: Pool, tenant_id: int, dice: random.Random, named: str, column: str) -> None:
    await make_lead(pool, tenant_id, **draw_lead(dice))
    rows = await pool.fetch("SELECT id FROM lead WHERE tenant_id = $1 ORDER BY id", tenant_id)
    new = draw_lead(dice)
    await pool.execute(
        f"UPDATE lead SET status = $3, source = $4, {column} = $5 WHERE tenant_id = $1 AND id = $2",
        tenant_id, dice.choice(rows)["id"], new["status"], new["source"], new[column],
    )  # fmt: skip
    gone = named if dice.random() < 0.5 else dice.choice(rows)["id"]
    await pool.execute("DELETE FROM lead WHERE tenant_id = $1 AND id = $2", tenant_id, gone)
