"""The peer's tables, in their own schema, and the copying of our leads into them."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Computed,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, query_expression
from sqlalchemy.types import BigInteger, SmallInteger, String

SCHEMA = "peer"


SEARCH_TEXT = (
    "lower(coalesce(name, '') || ' ' || email || ' ' || coalesce(company, '') || ' ' "
    "|| (custom_fields)::text)"
)


class Base(DeclarativeBase):
    metadata = MetaData(schema=SCHEMA)
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy wants it so
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSON,
        list[str]: ARRAY(String),
        bytes: LargeBinary,
    }


class ApiKey(Base):
    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(BigInteger)
    live: Mapped[bool]
    scope: Mapped[str]
    hash: Mapped[bytes] = mapped_column(unique=True)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Lead(Base):
    __tablename__ = "lead"
    __table_args__ = (
        UniqueConstraint("tenant_id", "live", "email_key", name="peer_lead_email_key"),
        Index("peer_lead_by_created_at", "tenant_id", "live", "created_at", "id"),
        Index(
            "peer_lead_by_text", "search_text", postgresql_using="gin",
            postgresql_ops={"search_text": "gin_trgm_ops"},
        ),
    )  # fmt: skip

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    live: Mapped[bool] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, default=1)
    email: Mapped[str]
    email_key: Mapped[str]
    name: Mapped[str | None]
    company: Mapped[str | None]
    title: Mapped[str | None]
    phone: Mapped[str | None]
    status: Mapped[str]
    score: Mapped[int] = mapped_column(SmallInteger, default=0)
    source: Mapped[str]
    tags: Mapped[list[str]]
    custom_fields: Mapped[dict[str, Any]]
    assigned_to: Mapped[str | None]
    conversation_count: Mapped[int] = mapped_column(default=0)
    last_intent: Mapped[str | None]
    conversation_summary: Mapped[str | None]
    first_seen_at: Mapped[datetime]
    last_active_at: Mapped[datetime]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    search_text: Mapped[str] = mapped_column(Computed(SEARCH_TEXT, persisted=True), deferred=True)
    timeline: Mapped[Any] = query_expression()


class TimelineEntry(Base):
    __tablename__ = "timeline"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "live", "lead_id"], [Lead.tenant_id, Lead.live, Lead.id]
        ),
    )

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    live: Mapped[bool] = mapped_column(primary_key=True)
    lead_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    event_id: Mapped[str]
    type: Mapped[str]
    at: Mapped[datetime]
    summary: Mapped[str]
    actor: Mapped[str]


class Event(Base):
    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    tenant_id: Mapped[int] = mapped_column(BigInteger)
    live: Mapped[bool]
    lead_id: Mapped[str]
    version: Mapped[int] = mapped_column(BigInteger)
    event_id: Mapped[str]
    type: Mapped[str]
    actor: Mapped[str]
    at: Mapped[datetime]
    data: Mapped[dict[str, Any]]


class StoredResponse(Base):
    """The response stored under an Idempotency-Key."""

    __tablename__ = "kept_answer"

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    live: Mapped[bool] = mapped_column(primary_key=True)
    key: Mapped[bytes] = mapped_column(primary_key=True)
    request: Mapped[bytes]
    status: Mapped[int]
    location: Mapped[str | None]
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


async def make_tables(engine: AsyncEngine) -> None:
    """Recreates the schema, and copies the leads, timelines and keys of our own tables into it."""
    async with engine.begin() as conn:
        await conn.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
        await conn.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        await conn.run_sync(Base.metadata.create_all)
        for model in (ApiKey, Lead, TimelineEntry):
            stored = [column for column in model.__table__.columns if column.computed is None]
            columns = ", ".join(column.name for column in stored)
            name = model.__tablename__
            await conn.execute(
                text(f"INSERT INTO {SCHEMA}.{name} ({columns}) SELECT {columns} FROM public.{name}")
            )
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as conn:
        await conn.execute(text(f"VACUUM (ANALYZE) {SCHEMA}.lead, {SCHEMA}.timeline"))
