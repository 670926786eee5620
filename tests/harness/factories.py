"""Makes valid rows, one function per table; a test gives the values that matter by keyword."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec
from ulid import ULID

import sql
from service.access.api_keys import Scope, create_key
from service.database.connect import Connection, Pool
from service.leads.email_keys import make_email_key

Database: TypeAlias = Connection | Pool

SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


@dataclass(frozen=True)
class Tenant:
    """A tenant with a key of each scope in both modes."""

    id: int
    name: str
    keys: dict[tuple[Scope, bool], str] = field(repr=False)

    def key(self, scope: Scope = "admin", *, live: bool = True) -> str:
        return self.keys[scope, live]


async def make_tenant(conn: Connection, name: str | None = None) -> Tenant:
    name = name or f"tenant {ULID()}"
    tenant_id = await conn.fetchval(sql.tenant_insert, name)
    keys = {
        (scope, live): (await create_key(conn, tenant_id, live, f"{scope} key", scope)).key
        for scope in SCOPES
        for live in (True, False)
    }
    return Tenant(tenant_id, name, keys)


async def make_lead(db: Database, tenant_id: int, live: bool = True, **columns: Any) -> str:
    """Inserts a lead without an event and returns its id. `email_key` is made from `email`."""
    now = datetime.now(UTC).replace(microsecond=0)
    lead_id = columns.get("id", f"lead_{ULID()}")
    email = columns.get("email", f"{lead_id.lower()}@example.com")
    row: dict[str, Any] = {
        "tenant_id": tenant_id,
        "live": live,
        "id": lead_id,
        "email": email,
        "email_key": make_email_key(email),
        "status": "new",
        "source": "api",
        "first_seen_at": now,
        "last_active_at": now,
        "created_at": now,
        "updated_at": now,
        **columns,
    }
    if "custom_fields" in row:
        row["custom_fields"] = msgspec.json.encode(row["custom_fields"]).decode()
    places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await db.execute(f"INSERT INTO lead ({', '.join(row)}) VALUES ({places})", *row.values())
    return str(lead_id)
