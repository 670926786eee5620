"""Commands for plans: how much the keys of a tenant may ask for."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from service.commands.access import ask_database
from service.commands.output import AsJson, print_rows
from service.limits.plans import MOST, NAME
from service.processes import StartError

if TYPE_CHECKING:
    from service.db import Connection

COLUMNS = ("name", "perMinute", "perDay", "concurrent", "routes", "tenants")
Name = Annotated[str, typer.Argument(help="The plan.")]
Limit = Annotated[int | None, typer.Option(min=1, max=MOST, help="None if left out.")]

plans = typer.Typer(
    help=(
        "Plans: limits of each API key of a tenant. Off until a tenant has a plan "
        "(leadlog tenants plan) or DEFAULT_PLAN names one for all others."
    ),
    no_args_is_help=True,
)


@plans.command("list")
def list_plans(as_json: AsJson = False) -> None:
    """List the plans, with their stricter routes and how many tenants have them."""
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

    rows = ask_database(read)
    if not as_json:
        for row in rows:
            row["routes"] = ", ".join(f"{route}={n}" for route, n in row["routes"].items())
    print_rows(rows, COLUMNS, as_json=as_json)


@plans.command("set")
def save_plan(
    name: Name,
    per_minute: Limit = None,
    per_day: Limit = None,
    concurrent: Limit = None,
    route: Annotated[
        list[str] | None,
        typer.Option(help="A stricter limit a minute: 'POST /leads=30'; again for more."),
    ] = None,
) -> None:
    """Make a plan or replace what one says; keys follow it within a second.

    leadlog plans set busy --per-minute 6000 --concurrent 50 --route 'GET /leads/search=600'
    """
    import sql

    if re.fullmatch(NAME, name) is None:
        raise typer.BadParameter(f"{name!r} is no name: use a-z, 0-9 and -, at most 40 of them.")
    routes = [_read_route(text) for text in route or []]
    methods, paths, limits = ([each[n] for each in routes] for n in range(3))

    async def save(conn: "Connection") -> None:
        await conn.execute(
            sql.plan_save, name, per_minute, per_day, concurrent, methods, paths, limits
        )

    ask_database(save)
    typer.echo(f"{name} is saved.", err=True)


@plans.command("remove")
def remove_plan(name: Name) -> None:
    """Remove a plan that no tenant has."""
    import asyncpg

    import sql

    async def remove(conn: "Connection") -> str | None:
        try:
            found: str | None = await conn.fetchval(sql.plan_delete, name)
        except asyncpg.ForeignKeyViolationError:
            raise StartError(
                f"Tenants have the plan {name!r}: give them another one by `leadlog tenants plan`."
            ) from None
        return found

    if ask_database(remove) is None:
        raise StartError(f"There is no plan named {name!r}: see `leadlog plans list`.")
    typer.echo(f"{name} is removed.", err=True)


def _read_route(text: str) -> tuple[str, str, int]:
    """From `POST /leads=30`. Raises typer.BadParameter."""
    from service.app import API

    route, _, limit = text.rpartition("=")
    method, _, path = route.partition(" ")
    if not limit.isascii() or not limit.isdecimal() or not 1 <= int(limit) <= MOST:
        raise typer.BadParameter(f"{text!r} is not like 'POST /leads=30'.")
    if route not in {operation.route for operation in API}:
        known = ", ".join(sorted({operation.route for operation in API}))
        raise typer.BadParameter(f"there is no route {route!r}; there are {known}.")
    return method, path, int(limit)
