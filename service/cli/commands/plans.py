"""Commands for plans: the request limits of a tenant's keys."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from service.access.plans import MAX_LIMIT
from service.cli.commands.access import run_in_database
from service.cli.commands.output import AsJson, print_rows
from service.cli.processes import StartError
from service.settings import PLAN_NAME

if TYPE_CHECKING:
    from service.database.connect import Connection

COLUMNS = ("name", "perMinute", "perDay", "concurrent", "routes", "tenants")
Name = Annotated[str, typer.Argument(help="The plan.")]
Limit = Annotated[int | None, typer.Option(min=1, max=MAX_LIMIT, help="None if left out.")]

plans = typer.Typer(
    help=(
        "Plans: request limits of each API key of a tenant. A tenant has no limits without a plan: "
        "assign one by leadlog tenants plan, or one for all others by DEFAULT_PLAN."
    ),
    no_args_is_help=True,
)


@plans.command("list", epilog="For example: leadlog plans list --json")
def list_plans(as_json: AsJson = False) -> None:
    """List the plans, with their limits by route and their number of tenants."""
    import sql

    async def read(conn: "Connection") -> list[dict[str, Any]]:
        return [
            {
                "name": row["name"],
                "perMinute": row["per_minute"],
                "perDay": row["per_day"],
                "concurrent": row["concurrent"],
                "routes": msgspec.json.decode(row["routes"]),
                "tenants": row["tenants"],
            }
            for row in await conn.fetch(sql.plan_list)
        ]

    rows = run_in_database(read)
    if not as_json:
        for row in rows:
            row["routes"] = ", ".join(f"{route}={n}" for route, n in row["routes"].items())
    print_rows(rows, COLUMNS, as_json=as_json)


@plans.command(
    "set",
    epilog="For example: leadlog plans set busy --per-minute 6000 --route 'GET /leads/search=600'",
)
def save_plan(
    name: Name,
    per_minute: Limit = None,
    per_day: Limit = None,
    concurrent: Limit = None,
    route: Annotated[
        list[str] | None,
        typer.Option(help="Lower limit per minute for a route: 'POST /leads=30'; repeatable."),
    ] = None,
) -> None:
    """Create or replace a plan; keys follow within a second."""
    import sql

    if re.fullmatch(PLAN_NAME, name) is None:
        raise typer.BadParameter(
            f"{name!r} is not a valid name: use a-z, 0-9 and -, at most 40 characters."
        )
    routes = [_read_route(text) for text in route or []]
    methods, paths, limits = ([each[n] for each in routes] for n in range(3))

    async def save(conn: "Connection") -> None:
        await conn.execute(
            sql.plan_save, name, per_minute, per_day, concurrent, methods, paths, limits
        )

    run_in_database(save)
    typer.echo(f"{name} is saved.", err=True)


@plans.command("remove", epilog="For example: leadlog plans remove busy")
def remove_plan(name: Name) -> None:
    """Remove a plan that no tenant uses."""
    import asyncpg

    import sql

    async def remove(conn: "Connection") -> str | None:
        try:
            found: str | None = await conn.fetchval(sql.plan_delete, name)
        except asyncpg.ForeignKeyViolationError:
            raise StartError(
                f"Tenants use the plan {name!r}: give them another one by `leadlog tenants plan`."
            ) from None
        return found

    if run_in_database(remove) is None:
        raise StartError(f"There is no plan named {name!r}: see `leadlog plans list`.")
    typer.echo(f"{name} is removed.", err=True)


def _read_route(text: str) -> tuple[str, str, int]:
    """Parses `POST /leads=30` into method, path and limit. Raises typer.BadParameter."""
    from service.app import API

    route, _, limit = text.rpartition("=")
    method, _, path = route.partition(" ")
    if not limit.isascii() or not limit.isdecimal() or not 1 <= int(limit) <= MAX_LIMIT:
        raise typer.BadParameter(f"{text!r} is not like 'POST /leads=30'.")
    if route not in {operation.route for operation in API}:
        known = ", ".join(sorted({operation.route for operation in API}))
        raise typer.BadParameter(f"there is no route {route!r}; there are {known}.")
    return method, path, int(limit)
