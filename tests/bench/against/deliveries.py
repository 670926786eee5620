"""`make bench-webhooks ARGS='--against REF'`: the parts of both trees' delivery bench, in turns."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench.against.pairs import Pairs
from tests.bench.against.session import Session, Sides
from tests.bench.programs import LoadError
from tests.bench.webhooks.parts import Amounts, Row

SCRIPT = "tests/bench/webhooks/parts.py"
MORE_IS_BETTER = {"per second"}
"""Units of which more is better; of every other unit less is better."""


async def compare_deliveries(
    sides: Sides, parts: Sequence[str], amounts: Amounts, runs: int
) -> Pairs:
    pairs = Pairs()
    for number in range(1, runs + 1):
        for part in parts:
            rows = {side: await run_part(side, part, amounts) for side in sides.in_turn(number)}
            add_rows(pairs, rows[sides.ours], rows[sides.theirs])
    return pairs


async def run_part(side: Session, part: str, amounts: Amounts) -> list[Row]:
    """The rows of one run of a part in one tree."""
    answer = await side.ask(part=part, amounts=msgspec.to_builtins(amounts))
    if Path(answer["root"]).parent != side.tree.root:
        raise LoadError(f"The tree {side.tree.name} ran the code of {answer['root']}.")
    return msgspec.convert(answer["rows"], list[Row])


def add_rows(pairs: Pairs, ours: Sequence[Row], theirs: Sequence[Row]) -> None:
    """Adds the rows that both trees measure; a row of only one tree is left out."""
    values = {what: value for what, (value,), *_ in theirs}
    for what, (value,), unit, _ in ours:
        if what in values:
            more = unit in MORE_IS_BETTER
            pairs.add(what, unit, more=more, ours=value, theirs=values[what])
