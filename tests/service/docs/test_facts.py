"""The numbers of the guides are those of the code."""

import re
from pathlib import Path

import sql
from service.docs.facts import make_retry_table, say_duration, say_size
from service.docs.guides import FOLDER
from workers.delivery.retry import PROFILES


def read_guide(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def test_durations_and_sizes_are_in_their_largest_even_unit() -> None:
    found = [say_duration(s) for s in (2, 90, 600, 3600, 72 * 3600, 0.25)]
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in found] == [
        "2 s", "90 s", "10 min", "1 h", "72 h", "0.25 s",
    ]  # fmt: skip
    sizes = [say_size(n).split() for n in (100, 16 * 1024, 1024**2)]
    assert sizes == [["100", "bytes"], ["16", "KiB"], ["1", "MiB"]]


def test_the_schedule_shows_every_delay_of_every_profile() -> None:
    table = make_retry_table()
    for name, profile in PROFILES.items():
        (row,) = [line for line in table.splitlines() if f"`{name}`" in line]
        assert ", ".join(map(say_duration, profile.delays_s)) in row


def test_the_days_after_which_a_webhook_is_disabled_are_those_of_the_statements() -> None:
    warn, disable = sql.endpoint_warn_failing, sql.endpoint_disable_failing
    assert "failures >= 20" in warn
    assert "interval '60 hours'" in warn
    assert "interval '96 hours'" in warn
    assert "failing_since < now() - interval '5 days'" in disable
    assert "interval '1 day'" in disable
    guide = read_guide("retries")
    assert "after 60 hours and 20 failures" in guide
    assert "after 96 hours" in guide
    assert "after 5 days, and a day after the last warning" in guide


def test_metrics_files_that_a_guide_names_exist() -> None:
    root = Path(__file__).parents[3]
    for path in FOLDER.glob("*.md"):
        for name in re.findall(r"`(deploy/[\w./-]+)`", path.read_text("utf-8")):
            assert (root / name).exists(), name
