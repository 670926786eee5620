from typing import Any

import pytest

from workers.scoring.amounts import parse_number, parse_yearly_sum


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("50-100", 50), ("10-25", 10), ("500+", 500), ("about 40 people", 40),
        ("1,200", 1200), ("1.200", 1200), ("1 200", 1200), ("1'200", 1200), ("1.234.567", 1234567),
        ("1.5", 1.5), ("1,5", 1.5), ("5k", 5000), ("5-10k", 5000), ("5k-10k", 5000), ("2-3", 2),
        ("10\u201320 Tsd.", 10_000), ("1.5M", 1_500_000), ("2 Mio. EUR", 2e6), ("5 mil", 5000),
        ("10 lakh", 1_000_000), ("3万", 30_000), ("2 billion", 2_000_000_000), ("٩", 9),
        (12000, 12000), (2500.5, 2500.5),
    ],
)  # fmt: skip
def test_numbers_are_parsed_in_every_common_notation(text: Any, number: float) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    ("text", "dollars"),
    [
        ("$5k-$10k/mo", 60_000), ("$10k+/mo", 120_000), ("€ 20.000", 20_000), (12_000, 12_000),
        ("3.000,50 € monatlich", 36_000), ("$1,000 per week", 52_000), ("100k p.a.", 100_000),
        ("¥15,000,000", 100_000), ("R$ 50 mil", 10_000), ("20k per quarter", 80_000),
        ("85 lakh INR", 100_000),
    ],
)  # fmt: skip
def test_a_budget_is_converted_to_dollars_a_year(text: Any, dollars: float) -> None:
    assert parse_yearly_sum(text) == dollars


@pytest.mark.parametrize(
    "value", ["", "unknown", "tbd", "none", None, True, -5, 0, [5], {"a": 5}, float("nan"), "0"]
)
def test_a_value_without_an_amount_gives_none(value: Any) -> None:
    assert parse_yearly_sum(value) is None


def test_absurd_amounts_are_bounded() -> None:
    assert parse_yearly_sum(10**400) == parse_yearly_sum("9" * 90 + "bn/mo") == 1e12
