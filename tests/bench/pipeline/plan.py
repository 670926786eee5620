"""The loads and the variants of the pipeline bench. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

Kind = Literal["idle", "paced", "closed"]
"""idle: no requests. paced: a fixed rate, however slow the responses are. closed: each connection
sends its next request after the response."""
Variant = Literal["plain", "endpoints", "mix"]
"""plain: creates, no endpoint. endpoints: with ENDPOINTS. mix: creates, patches, deletes."""
VARIANTS: tuple[Variant, ...] = ("plain", "endpoints", "mix")
ENDPOINTS = 10
LEADS_PER_CONNECTION = 20
"""The leads/s of one connection of a paced load: a response may take 50 ms before requests wait."""
_NAME = re.compile(r"(?P<rate>\d+(?:\.\d+)?)(?:/s)?|(?P<connections>\d+)c")


class LoadSpec(msgspec.Struct, frozen=True):
    """One load: its number of connections and, if it is paced, its rate in leads/s."""

    name: str
    kind: Kind
    connections: int = 0
    rate: float = 0.0


class Step(msgspec.Struct, frozen=True):
    """One measurement of a tree."""

    load: LoadSpec
    variant: Variant

    @property
    def title(self) -> str:
        return self.load.name if self.variant == "plain" else f"{self.load.name}, {self.variant}"


def parse_load(text: str) -> LoadSpec:
    """`idle` or `0`, `100/s` or `100`, `32c`. Raises ValueError for any other text."""
    text = text.strip()
    match = _NAME.fullmatch(text)
    if text == "idle" or (match and match["rate"] and not float(match["rate"])):
        return LoadSpec("idle", "idle")
    if match and match["rate"]:
        rate = float(match["rate"])
        return LoadSpec(f"{rate:g}/s", "paced", -(-int(rate) // LEADS_PER_CONNECTION) or 1, rate)
    if match and (connections := int(match["connections"])):
        return LoadSpec(f"{connections}c", "closed", connections)
    raise ValueError(f"{text!r} is no load: write idle, 100/s or 32c")


def plan_steps(loads: Sequence[LoadSpec], variants: Sequence[Variant]) -> list[Step]:
    """All loads of the first variant, then of the next. Idle is measured in the first one only."""
    return [
        Step(load, variant)
        for variant in variants
        for load in loads
        if load.kind != "idle" or variant == variants[0]
    ]


def order_rounds(steps: Sequence[Step], rounds: int) -> Iterator[tuple[int, Step]]:
    """Every step once a round, with the round's number from 1."""
    for number in range(1, rounds + 1):
        yield from ((number, step) for step in steps)
