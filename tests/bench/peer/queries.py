"""The peer's queries, built once: building them for each request costs a quarter of the rate."""

from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    String,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.orm import with_expression

from tests.bench.peer.tables import ApiKey, Lead, StoredResponse, TimelineEntry

TENANT: BindParameter[int] = bindparam("tenant")
LIVE: BindParameter[bool] = bindparam("live")
LEAD_ID: BindParameter[str] = bindparam("lead_id")
_OWN: tuple[ColumnElement[bool], ...] = (Lead.tenant_id == TENANT, Lead.live == LIVE)


def _select_timeline() -> Any:
    """The newest 20 entries of a lead as one JSON value, so that a lead takes one statement."""
    newest = (
        select(TimelineEntry)
        .where(
            TimelineEntry.tenant_id == TENANT,
            TimelineEntry.live == LIVE,
            TimelineEntry.lead_id == LEAD_ID,
        )
        .order_by(TimelineEntry.version.desc())
        .limit(20)
        .subquery()
    )
    entry = func.json_build_object(
        "id", newest.c.event_id, "type", newest.c.type, "at", newest.c.at,
        "summary", newest.c.summary, "actor", newest.c.actor,
    )  # fmt: skip
    entries = func.coalesce(func.json_agg(entry), literal_column("'[]'::json"))
    return select(entries).scalar_subquery()


FIND_KEY = select(ApiKey).where(
    ApiKey.hash == bindparam("digest"),
    ApiKey.revoked_at.is_(None),
    ApiKey.expires_at.is_(None) | (ApiKey.expires_at > func.now()),
)
LOCK_LEAD = select(Lead).where(*_OWN, Lead.id == LEAD_ID).with_for_update()
GET_LEAD = (
    select(Lead)
    .where(*_OWN, Lead.id == LEAD_ID)
    .options(with_expression(Lead.timeline, _select_timeline()))
)
FIND_HOLDER = select(Lead.id).where(*_OWN, Lead.email_key == bindparam("email_key"))
LIST_LEADS = (
    select(Lead)
    .where(*_OWN)
    .order_by(Lead.created_at.desc(), Lead.id.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
COUNT_LEADS = select(func.count()).select_from(Lead).where(*_OWN)
FIND_ANSWER = select(StoredResponse).where(
    StoredResponse.tenant_id == TENANT,
    StoredResponse.live == LIVE,
    StoredResponse.key == bindparam("key"),
)
_MATCHES = Lead.search_text.like(bindparam("pattern", type_=String))
SEARCH_LEADS = (
    select(Lead)
    .where(*_OWN, _MATCHES)
    .order_by(Lead.score.desc(), Lead.id.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
COUNT_MATCHES = select(func.count()).select_from(Lead).where(*_OWN, _MATCHES)
