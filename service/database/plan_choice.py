"""Finds out whether a plan that a setting or a command names exists."""

from typing import Any

import sql

MOST_SHOWN = 10


async def find_plan_fault(conn: Any, name: str) -> str | None:
    """Return a sentence with the plans that exist if there is no such plan; else None."""
    if await conn.fetchval(sql.plan_find, name) is not None:
        return None
    known = [row["name"] for row in await conn.fetch(sql.plan_list)]
    shown = ", ".join(known[:MOST_SHOWN]) + (", …" if len(known) > MOST_SHOWN else "")
    choice = f"choose one of {shown}, or create it" if known else "create it"
    return f"There is no plan {name!r}: {choice} by `leadlog plans set`."
