"""The measurements of both trees, side by side, and their ratios. Pure.

A ratio is taken within each round, in which both trees ran in the same minute.
"""

from typing import Literal

import msgspec

from tests.bench.output.figures import Spread, measure_spread

TOLERANCE = 0.05
Verdict = Literal["better", "same", "worse", "unclear"]


class Pair(msgspec.Struct, kw_only=True):
    """One measure of both trees, by round."""

    what: str
    unit: str
    more: bool | None
    """Whether a higher value is better; None: neither is, and there is no verdict."""
    ours: list[float] = []
    theirs: list[float] = []
    ratios: list[float] = []
    """Ours ÷ theirs; a round has no ratio if theirs is zero or one tree has no value."""

    def add(self, ours: float | None, theirs: float | None) -> None:
        if ours is not None:
            self.ours.append(ours)
        if theirs is not None:
            self.theirs.append(theirs)
        if ours is not None and theirs:
            self.ratios.append(ours / theirs)

    @property
    def ratio(self) -> Spread | None:
        return measure_spread(self.ratios)

    @property
    def verdict(self) -> Verdict:
        """`same` if the median is within TOLERANCE of 1; else `unclear` if the rounds disagree."""
        if self.ratio is None:
            return "unclear"
        gain = self.ratio.median - 1 if self.more else 1 - self.ratio.median
        if abs(gain) <= TOLERANCE:
            return "same"
        if self.ratio.low <= 1 <= self.ratio.high:
            return "unclear"
        return "better" if gain > 0 else "worse"


class Pairs:
    """All pairs of a run, in the order in which they were first measured."""

    def __init__(self) -> None:
        self._by_name: dict[str, Pair] = {}

    def add(
        self, what: str, unit: str, *, more: bool | None, ours: float | None, theirs: float | None
    ) -> None:
        pair = self._by_name.setdefault(what, Pair(what=what, unit=unit, more=more))
        pair.add(ours, theirs)

    def list_all(self) -> list[Pair]:
        return list(self._by_name.values())
