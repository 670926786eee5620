"""Writes that lose a race against another transaction are tried again."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from service.leads.results import LostRaceError
from service.leads.rows import LeadRow, PatchRow

WRITE_TRIES = 3
Row = TypeVar("Row", LeadRow, PatchRow)
Result = TypeVar("Result")


async def retry_lost_races(
    write: Callable[[list[Row]], Awaitable[dict[str, Result]]], rows: list[Row]
) -> dict[str, Result | LostRaceError]:
    """Writes the rows, and again those that lost a race, at most WRITE_TRIES times.

    A row loses a race when another transaction commits between the snapshot of our statement and
    its write. If that transaction stored the row's e-mail address or idempotency key, the statement
    fails with UniqueViolationError and writes nothing. If it deleted the lead that had the address,
    the row is refused with LostRaceError. The next try sees what was committed.
    """
    results: dict[str, Result | LostRaceError] = {}
    pending = rows
    for _ in range(WRITE_TRIES):
        try:
            results |= await write(pending)
        except Exception as error:
            if results:  # other rows are written; these keep their refusal
                break
            if len(rows) > 1 or not isinstance(error, asyncpg.UniqueViolationError):
                raise  # nothing is written; the Batcher divides a batch that fails
        else:
            pending = [r for r in pending if isinstance(results[r.event_id], LostRaceError)]
            if not pending:
                break
    if not results:
        [row] = rows
        results[row.event_id] = LostRaceError(
            "Other transactions keep taking this e-mail address; try again."
        )
    return results
