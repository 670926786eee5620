"""Search over the words of leads: its query, its terms, its pages."""

from typing import Annotated, Any

from msgspec import Meta

import sql
from service.auth import Principal
from service.cursor import NextCursor, Place, decode_cursor, encode_cursor
from service.db import Pool
from service.models import Input, Limit, Moment, Page, Pagination, Status, Wire
from service.pages import encode_page, make_pagination

MAX_TERMS = 10
"""Of the words of a query the longest count: the others would only cost."""
WHOLE_TRIGRAM = 3
"""Shorter terms match beginnings of words only: the insides of words are found by trigrams."""


class SearchQuery(Input):
    """The query of GET /v1/leads/search."""

    q: Annotated[
        str,
        Meta(min_length=2, max_length=200, description="Words, beginnings or parts of words."),
    ]
    page: Page | None = None
    limit: Limit = 25
    cursor: NextCursor | None = None
    status: Annotated[Status, Meta(description="Only leads of this status.")] | None = None


class LeadHit(Wire):
    """A lead that was found, and the field that matched best."""

    id: str
    email: str
    name: str | None
    company: str | None
    status: Status
    score: int
    match_field: str
    last_active_at: Moment


class SearchPage(Wire):
    """Hits by how well they match, then by score."""

    data: list[LeadHit]
    pagination: Pagination


async def search_leads(pool: Pool, principal: Principal, query: SearchQuery) -> bytes:
    """One page of hits as JSON. Raises InvalidRequest for a cursor that is not of this search."""
    terms = split_terms(await pool.fetchval(sql.search_fold, query.q))
    belongs_to = (query.q, query.status)
    number = 1 if query.page is None else query.page
    after: tuple[Any, ...] = (None, None, None)
    offset = (number - 1) * query.limit
    if query.cursor is not None:
        place = decode_cursor(query.cursor, belongs_to, kinds=(int, int))
        after, offset = (*place.values, place.id), 0
    rows = await _fetch_hits(pool, principal, terms, query, offset, after)
    total = rows[0]["total"] if rows else 0
    hits = [row for row in rows if row["id"] is not None]
    shown, has_more = hits[: query.limit], len(hits) > query.limit
    next_cursor = None
    if has_more:
        last = shown[-1]
        place = Place((str(last["tier"]), str(last["score"])), last["id"])
        next_cursor = encode_cursor(place, belongs_to)
    page = None if query.cursor is not None else number
    return encode_page(
        [row["body"] for row in shown],
        make_pagination(page, query.limit, total, has_more=has_more, next_cursor=next_cursor),
    )


async def _fetch_hits(
    pool: Pool,
    principal: Principal,
    terms: list[str],
    query: SearchQuery,
    offset: int,
    after: tuple[Any, ...],
) -> list[Any]:
    """What holds the terms as they are; if nothing does, what is spelled like them."""
    if not terms:
        return []
    rows: list[Any] = []
    for pattern in (make_pattern(terms[0]), None):
        rows = await pool.fetch(
            sql.lead_search, principal.tenant_id, principal.live, terms, pattern, terms[0],
            query.status, query.limit + 1, offset, *after,
        )  # fmt: skip
        if rows[0]["total"]:
            break
    return rows


def split_terms(folded: str) -> list[str]:
    """The distinct terms of a folded query, longest first."""
    return sorted(set(folded.split()), key=lambda term: (-len(term), term))[:MAX_TERMS]


def make_pattern(term: str) -> str:
    """The LIKE pattern that an index can look up for a term."""
    return f"%{term}%" if len(term) >= WHOLE_TRIGRAM else f"% {term}%"
