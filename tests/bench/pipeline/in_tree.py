"""Runs with the measured tree: the imports of service, sql and tests are that tree's code.

`in_tree.py describe` prints the PostgreSQL settings of `leadlog dev` and the statements by name.
`in_tree.py fill DSN LEADS` migrates the database, fills it, makes a tenant with
a plan, and prints an API key. Each prints one line of JSON.
"""

import asyncio
import sys

import msgspec

import service
import sql
from service.access.api_keys import create_key
from service.cli.dev.first_key import ensure_tenant
from service.cli.dev.tuning import choose_settings, measure_memory
from sql.connection import connect
from sql.migrate import migrate
from tests.bench.fill import fill_leads

TENANT, MANY = "bench", 2_000_000_000
"""The name of the tenant and of its plan; the plan's limits: counted, but too high to reach."""


async def fill(dsn: str, leads: int) -> dict[str, object]:
    await migrate(dsn)
    async with connect(dsn) as conn:
        tenant_id = await ensure_tenant(conn, TENANT)
        await fill_leads(conn, tenant_id, leads)
        key = await create_key(conn, tenant_id, True, "bench", "admin")
        await conn.execute(sql.plan_save, TENANT, MANY, MANY, MANY, ["POST"], ["/leads"], [MANY])
        await conn.execute(sql.tenant_set_plan, TENANT, TENANT)
    return {"key": key.key}


def describe() -> dict[str, object]:
    return {
        "root": service.__path__[0],
        "settings": choose_settings(measure_memory(), durable=True),
        "statements": sql.STATEMENTS,
    }


def main(action: str, *arguments: str) -> None:
    if action == "describe":
        told = describe()
    else:
        dsn, leads = arguments
        told = asyncio.run(fill(dsn, int(leads)))
    print(msgspec.json.encode(told).decode(), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
