"""The usual stack with the same routes: FastAPI, SQLAlchemy 2 (async, asyncpg), Pydantic 2, orjson.

It is written as the documentation of these libraries advises: a session per request; return types,
so that Pydantic prints the JSON in Rust; a pool; queries built once; no refresh after a commit; one
statement for a lead and its timeline. It keeps the promises that we keep: the key is looked up by
its hash and cached for half a second like ours, a lead and its event are one transaction, a taken
address is 409 with the id of its lead, a change locks its row, a repeated Idempotency-Key gets the
first response (stored in the same transaction), search finds parts of words by an index. It does
less where that makes it faster: no log line, metrics or limits per request, no ranking or typos in
search. Totals come from a count(*).
"""

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from ulid import ULID

from tests.bench.peer.models import LeadDetail, LeadOut, LeadPage, LeadPatch, NewLead, PageInfo
from tests.bench.peer.queries import (
    COUNT_LEADS,
    COUNT_MATCHES,
    FIND_ANSWER,
    FIND_HOLDER,
    FIND_KEY,
    GET_LEAD,
    LIST_LEADS,
    LOCK_LEAD,
    SEARCH_LEADS,
)
from tests.bench.peer.tables import ApiKey, Event, Lead, StoredResponse

POOL_SIZE = 8
"""The number of connections; a process of ours has as many."""
KEY_CACHE_S = 0.5
RANK = {"read": 0, "write": 1, "admin": 2}
bearer = HTTPBearer()


def create_engine(dsn: str) -> AsyncEngine:
    """An engine for one of our own DSNs."""
    return create_async_engine(
        dsn.replace("postgresql://", "postgresql+asyncpg://", 1),
        pool_size=POOL_SIZE,
        max_overflow=0,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={"server_settings": {"jit": "off", "TimeZone": "UTC"}},
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine = create_engine(os.environ["DATABASE_URL"])
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.state.keys = {}
    yield
    await engine.dispose()


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(open_session)]


async def find_key(session: AsyncSession, cache: dict[bytes, Any], secret: str) -> ApiKey | None:
    """The key's row; a look-up is cached for KEY_CACHE_S."""
    digest = hashlib.sha256(secret.encode()).digest()
    now = time.monotonic()
    found = cache.get(digest)
    if found is None or found[0] < now:
        found = cache[digest] = (
            now + KEY_CACHE_S,
            await session.scalar(FIND_KEY, {"digest": digest}),
        )
    key: ApiKey | None = found[1]
    return key


def require(scope: str) -> Callable[..., Any]:
    """A dependency: the caller's key; 401 if it is not valid, 403 if its scope is too low."""

    async def authenticate(
        request: Request,
        session: Session,
        given: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
    ) -> ApiKey:
        key = await find_key(session, request.app.state.keys, given.credentials)
        if key is None:
            raise HTTPException(401, "This API key is unknown, revoked or expired.")
        if RANK[key.scope] < RANK[scope]:
            raise HTTPException(403, f"This needs a key of scope {scope}.")
        return key

    return authenticate


Reader = Annotated[ApiKey, Depends(require("read"))]
Writer = Annotated[ApiKey, Depends(require("write"))]


async def report_ready() -> dict[str, str]:
    return {"status": "ok"}


async def get_lead(lead_id: str, key: Reader, session: Session) -> LeadDetail:
    lead = await session.scalar(GET_LEAD, name_lead(key, lead_id))
    if lead is None:
        raise HTTPException(404, f"There is no lead with the id {lead_id}.")
    return LeadDetail.model_validate(lead)


async def list_leads(
    key: Reader,
    session: Session,
    page: Annotated[int, Query(ge=1)] = 1,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> LeadPage:
    own = {"tenant": key.tenant_id, "live": key.live}
    bounds = {"limit": limit, "offset": (page - 1) * limit}
    leads = (await session.scalars(LIST_LEADS, own | bounds)).all()
    total = await session.scalar(COUNT_LEADS, own) or 0
    return make_page(leads, page, limit, total)


async def search_leads(
    q: Annotated[str, Query(min_length=2)],
    key: Reader,
    session: Session,
    page: Annotated[int, Query(ge=1)] = 1,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> LeadPage:
    escaped = q.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    own = {"tenant": key.tenant_id, "live": key.live, "pattern": f"%{escaped}%"}
    bounds = {"limit": limit, "offset": (page - 1) * limit}
    leads = (await session.scalars(SEARCH_LEADS, own | bounds)).all()
    total = await session.scalar(COUNT_MATCHES, own) or 0
    return make_page(leads, page, limit, total)


def make_page(leads: Sequence[Lead], page: int, limit: int, total: int) -> LeadPage:
    pages = -(-total // limit)
    info = PageInfo.model_construct(
        page=page, limit=limit, total=total, total_pages=pages, has_more=page < pages
    )
    rows = [LeadOut.model_validate(lead) for lead in leads]
    return LeadPage.model_construct(data=rows, pagination=info)


class Once:
    """A dependency: the response stored under the request's Idempotency-Key, if it has one."""

    def __init__(
        self,
        request: Request,
        key: Writer,
        session: Session,
        idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
    ) -> None:
        self._request, self._session, self._given = request, session, idempotency_key
        self._owner = {"tenant_id": key.tenant_id, "live": key.live}

    async def find(self) -> Response | None:
        """The stored response. Raises 422 if it belongs to another request."""
        if self._given is None:
            return None
        url = self._request.url.path
        self._key = hashlib.sha256(f"{self._request.method} {url} {self._given}".encode()).digest()
        self._asked = hashlib.sha256(await self._request.body()).digest()
        own = {"tenant": self._owner["tenant_id"], "live": self._owner["live"], "key": self._key}
        kept = await self._session.scalar(FIND_ANSWER, own)
        if kept is None:
            return None
        if kept.request != self._asked:
            raise HTTPException(422, "This Idempotency-Key was used with another request.")
        headers = {"Idempotency-Replayed": "true"}
        if kept.location is not None:
            headers["Location"] = kept.location
        return Response(kept.body, kept.status, headers, "application/json")

    def keep(self, status: int, body: LeadOut, location: str | None = None) -> None:
        """Stores the response in the same transaction."""
        if self._given is not None:
            self._session.add(
                StoredResponse(
                    **self._owner, key=self._key, request=self._asked, status=status,
                    location=location, body=body.model_dump_json(by_alias=True),
                )
            )  # fmt: skip


DoOnce = Annotated[Once, Depends()]


async def capture_lead(
    new: NewLead, key: Writer, session: Session, once: DoOnce, response: Response
) -> LeadOut | Response:
    if (kept := await once.find()) is not None:
        return kept
    now = now_ms()
    lead = Lead(
        tenant_id=key.tenant_id, live=key.live, id=f"lead_{ULID()}", email_key=new.email.lower(),
        version=1, score=0, conversation_count=0, first_seen_at=now, last_active_at=now,
        created_at=now, updated_at=now, **new.model_dump(),
    )  # fmt: skip
    body = LeadOut.model_validate(lead)
    session.add_all([lead, make_event(lead, key, "lead.created", {"lead": body})])
    once.keep(201, body, f"/v1/leads/{lead.id}")
    await commit(session, lead, once)
    response.headers["Location"] = f"/v1/leads/{lead.id}"
    return body


async def update_lead(
    lead_id: str, patch: LeadPatch, key: Writer, session: Session, once: DoOnce
) -> LeadOut | Response:
    if (kept := await once.find()) is not None:
        return kept
    lead = await session.scalar(LOCK_LEAD, name_lead(key, lead_id))
    if lead is None:
        raise HTTPException(404, f"There is no lead with the id {lead_id}.")
    changes = apply_patch(lead, patch)
    if not changes:
        return LeadOut.model_validate(lead)
    lead.version += 1
    lead.updated_at = lead.last_active_at = now_ms()
    body = LeadOut.model_validate(lead)
    session.add(make_event(lead, key, "lead.updated", {"lead": body, "changes": changes}))
    once.keep(200, body)
    await commit(session, lead, once)
    return body


def name_lead(key: ApiKey, lead_id: str) -> dict[str, Any]:
    """The parameters of a query for one lead."""
    return {"tenant": key.tenant_id, "live": key.live, "lead_id": lead_id}


def apply_patch(lead: Lead, patch: LeadPatch) -> dict[str, Any]:
    """Changes the lead; returns the old and the new value of each changed field."""
    changes = {}
    for name, value in patch.model_dump(exclude_unset=True).items():
        new, old = value, getattr(lead, name)
        if name == "custom_fields":
            merged = {**old, **(value or dict.fromkeys(old))}
            new = {field: content for field, content in merged.items() if content is not None}
        if name == "tags":
            new = value or []
        if new != old:
            changes[name] = {"from": old, "to": new}
            setattr(lead, name, new)
    if "email" in changes:
        lead.email_key = lead.email.lower()
    return changes


def make_event(lead: Lead, key: ApiKey, kind: str, data: dict[str, Any]) -> Event:
    content = data | {
        "lead": data["lead"].model_dump(mode="json", by_alias=True),
        "version": lead.version,
        "actor": key.id,
    }
    return Event(
        tenant_id=key.tenant_id, live=key.live, lead_id=lead.id, version=lead.version,
        event_id=f"evt_{ULID()}", type=kind, actor=key.id, at=lead.updated_at, data=content,
    )  # fmt: skip


async def commit(session: AsyncSession, lead: Lead, once: Once) -> None:
    """Commits the transaction; 409 if the Idempotency-Key or the address is taken."""
    wanted = {"tenant": lead.tenant_id, "live": lead.live, "email_key": lead.email_key}
    try:
        await session.commit()
    except IntegrityError:
        await session.rollback()
        if await once.find() is not None:
            raise HTTPException(409, "This request is still at work; repeat it.") from None
        holder = await session.scalar(FIND_HOLDER, wanted)
        raise HTTPException(
            409, {"message": "This address is taken.", "existingLeadId": holder}
        ) from None


def now_ms() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def create_app() -> FastAPI:
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None)
    app.get("/health/ready")(report_ready)
    app.get("/v1/leads")(list_leads)
    app.post("/v1/leads", status_code=201, response_model=LeadOut)(capture_lead)
    app.get("/v1/leads/search")(search_leads)
    app.get("/v1/leads/{lead_id}")(get_lead)
    app.patch("/v1/leads/{lead_id}", response_model=LeadOut)(update_lead)
    return app
