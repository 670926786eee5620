"""Commands for tenants and their API keys."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from service.cli.commands.output import AsJson, print_rows
from service.cli.processes import StartError
from service.settings import load_settings

if TYPE_CHECKING:
    from service.database.connect import Connection

Result = TypeVar("Result")
KEY_COLUMNS = ("id", "name", "scope", "mode", "last4", "createdAt", "expiresAt", "lastUsedAt")
TENANT_COLUMNS = ("id", "name", "plan", "phoneRegion", "activeKeys", "createdAt")

MAX_NAME_LENGTH = 100
SAMPLE_ID = "key_01M82WKZ3Q4X9GVTFZNN549ESM"


def check_name(name: str) -> str:
    """Returns the name. Raises typer.BadParameter if the database would refuse it."""
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise typer.BadParameter(f"A name has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}.")
    return name


def check_region(region: str | None) -> str | None:
    """The code in capitals. Raises typer.BadParameter if no phone number begins with it."""
    from service.leads.phone_numbers import REGIONS

    if region is None or region.upper() in REGIONS:
        return region and region.upper()
    raise typer.BadParameter(f"{region!r} is no country code of two letters such as DE or US.")


Tenant = Annotated[str, typer.Option(help="Tenant of the keys.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, such as key_01J…; see keys list.")]

keys = typer.Typer(
    help="API keys: each belongs to a tenant and is shown only once.", no_args_is_help=True
)
tenants = typer.Typer(help="Tenants: their leads are separate.", no_args_is_help=True)


@keys.command("create", epilog="For example: leadlog keys create 'CRM sync' --scope write")
def create_key(
    name: Annotated[
        str, typer.Argument(callback=check_name, help="Purpose of the key, such as 'CRM sync'.")
    ],
    scope: Annotated[
        Literal["read", "write", "admin"],
        typer.Option(help="read: GET. write: leads and conversations too. admin: all."),
    ] = "write",
    mode: Annotated[
        Literal["live", "test"], typer.Option(help="Live and test data are separate.")
    ] = "live",
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=36500, help="Without it the key never expires.")
    ] = None,
    tenant: Tenant = "default",
) -> None:
    """Create a key. Standard output is the key alone: KEY=$(leadlog keys create 'CRM sync')."""
    import sql
    from service.access import api_keys

    async def create(conn: "Connection") -> api_keys.NewKey:
        expires_at = None
        if expires_in_days is not None:  # the database's clock, which also decides the expiry
            now = datetime.fromtimestamp(await conn.fetchval(sql.clock_read), UTC)
            expires_at = now + timedelta(days=expires_in_days)
        tenant_id = await _find_tenant(conn, tenant)
        live = mode == "live"
        return await api_keys.create_key(conn, tenant_id, live, name, scope, expires_at)

    _show_new_key(run_in_database(create))


@keys.command("list", epilog="For example: leadlog keys list --tenant acme")
def list_keys(tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """List the valid keys."""
    import msgspec

    from service.access import api_keys

    async def read(conn: "Connection") -> str:
        return await api_keys.list_keys(conn, await _find_tenant(conn, tenant), live=True)

    rows = msgspec.json.decode(f"[{run_in_database(read)}]")
    print_rows(rows, KEY_COLUMNS, as_json=as_json)


@keys.command("revoke", epilog=f"For example: leadlog keys revoke {SAMPLE_ID}")
def revoke_key(key_id: KeyId, tenant: Tenant = "default") -> None:
    """Revoke a key: every process refuses it within a second."""
    from service.access import api_keys

    async def revoke(conn: "Connection") -> bool:
        return await api_keys.revoke_key(conn, await _find_tenant(conn, tenant), True, key_id)

    if not run_in_database(revoke):
        raise _unknown_key(tenant, key_id)
    typer.echo(f"{key_id} is revoked.", err=True)


@keys.command("rotate", epilog=f"For example: leadlog keys rotate {SAMPLE_ID} --grace-seconds 3600")
def rotate_key(
    key_id: KeyId,
    grace_seconds: Annotated[
        int, typer.Option(min=0, max=30 * 86400, help="How long the old key stays valid.")
    ] = 86400,
    tenant: Tenant = "default",
) -> None:
    """Replace a key by a new one; the old key stays valid for a while. Prints the new key."""
    from service.access import api_keys

    async def rotate(conn: "Connection") -> api_keys.NewKey | None:
        tenant_id = await _find_tenant(conn, tenant)
        return await api_keys.rotate_key(conn, tenant_id, True, key_id, grace_seconds)

    made = run_in_database(rotate)
    if made is None:
        raise _unknown_key(tenant, key_id)
    _show_new_key(made)


@tenants.command("create", epilog="For example: leadlog tenants create acme")
def create_tenant(
    name: Annotated[
        str,
        typer.Argument(callback=check_name, help="A name of your choice, used by these commands."),
    ],
) -> None:
    """Create a tenant. Then give it a key: leadlog keys create 'CRM sync' --tenant NAME."""
    import sql

    async def create(conn: "Connection") -> int | None:
        tenant_id: int | None = await conn.fetchval(sql.tenant_insert, name)
        return tenant_id

    tenant_id = run_in_database(create)
    if tenant_id is None:
        raise StartError(f"There is a tenant named {name!r} already: choose another name.")
    typer.echo(tenant_id)


@tenants.command("plan", epilog="For example: leadlog tenants plan acme starter")
def set_plan(
    name: Annotated[str, typer.Argument(help="The tenant.")],
    plan: Annotated[
        str | None, typer.Argument(help="Name of the plan; without it DEFAULT_PLAN applies.")
    ] = None,
) -> None:
    """Change the plan of a tenant; its keys follow within a second. See leadlog plans list."""
    import sql
    from service.database.plan_choice import find_plan_fault

    async def give(conn: "Connection") -> int | None:
        if plan is not None and (fault := await find_plan_fault(conn, plan)):
            raise StartError(fault)
        tenant_id: int | None = await conn.fetchval(sql.tenant_set_plan, name, plan)
        return tenant_id

    if run_in_database(give) is None:
        raise _unknown_tenant(name)
    typer.echo(f"{name} has the plan {plan or 'that DEFAULT_PLAN names, if any'}.", err=True)


@tenants.command("phone-region", epilog="For example: leadlog tenants phone-region acme DE")
def set_phone_region(
    name: Annotated[str, typer.Argument(help="The tenant.")],
    region: Annotated[
        str | None,
        typer.Argument(callback=check_region, help="Such as DE or US; without it there is none."),
    ] = None,
) -> None:
    """Set the country of phone numbers that leads come with and that have no country code.

    Search then finds 0171 2345678 by +49 171 2345678 too, for leads written from now on.
    """
    import sql

    async def give(conn: "Connection") -> int | None:
        tenant_id: int | None = await conn.fetchval(sql.tenant_set_phone_region, name, region)
        return tenant_id

    if run_in_database(give) is None:
        raise _unknown_tenant(name)
    typer.echo(f"{name} has the phone region {region or 'none'}.", err=True)


@tenants.command("list", epilog="For example: leadlog tenants list --json")
def list_tenants(as_json: AsJson = False) -> None:
    """List the tenants."""
    import sql

    async def read(conn: "Connection") -> list[dict[str, Any]]:
        rows = await conn.fetch(sql.tenant_list)
        return [
            {
                "id": row["id"],
                "name": row["name"],
                "plan": row["plan"],
                "phoneRegion": row["phone_region"],
                "activeKeys": row["active_keys"],
                "createdAt": f"{row['created_at']:%Y-%m-%dT%H:%M:%SZ}",
            }
            for row in rows
        ]

    print_rows(run_in_database(read), TENANT_COLUMNS, as_json=as_json)


def run_in_database(query: Callable[["Connection"], Awaitable[Result]]) -> Result:
    """Runs `query` in a transaction. Raises DatabaseError if it fails or a migration is missing."""
    from service.cli.commands.addresses import add_dev_addresses
    from sql.connection import connect
    from sql.errors import DatabaseError
    from sql.migrate import check_server, find_pending

    dsn = add_dev_addresses(load_settings(os.environ)).require_database_url()

    async def run() -> Result:
        async with connect(dsn) as conn:
            await check_server(conn)
            if await find_pending(conn):
                raise DatabaseError("The database's schema is behind: run `leadlog migrate` first.")
            async with conn.transaction():
                return await query(conn)

    return asyncio.run(run())


async def _find_tenant(conn: "Connection", name: str) -> int:
    import sql

    tenant_id: int | None = await conn.fetchval(sql.tenant_get_by_name, name)
    if tenant_id is None:
        raise _unknown_tenant(name)
    return tenant_id


def _unknown_tenant(name: str) -> StartError:
    return StartError(f"There is no tenant named {name!r}: see `leadlog tenants list`.")


def _show_new_key(made: Any) -> None:
    typer.echo(made.key)
    until = f", until {made.expires_at}" if made.expires_at else ""
    typer.echo(
        f"{made.id}: {made.mode}, {made.scope}{until}. It is shown only once: store it safely.",
        err=True,
    )


def _unknown_key(tenant: str, key_id: str) -> StartError:
    return StartError(
        f"The tenant {tenant!r} has no working key {key_id!r}: see `leadlog keys list`."
    )
