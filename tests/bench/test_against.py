"""Tests of `--against`: end to end against HEAD with the smallest numbers, and the arithmetic.

`pytest -m long tests/bench` runs the two tests that start servers.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.cli.dev.supervisor import PROJECT
from tests.bench.against import deliveries, requests
from tests.bench.against.pairs import Pair, Pairs
from tests.bench.against.tree import LOCK, check_out, has_our_packages, run_git
from tests.bench.conduct import Options
from tests.bench.programs import LoadError
from tests.bench.webhooks.parts import Row

needs_git = pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="not a git checkout")
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def compare_with_head(module: str, folder: Path, *arguments: str) -> tuple[str, Any]:
    """Runs the module against HEAD; returns its output and the results that it wrote."""
    options = ["--against", "HEAD", "--results", str(folder), *arguments]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", module, *options],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*-against.json")
    return done.stdout, json.loads(path.read_text())


def check_pairs(results: Any, titles: list[str], rounds: int) -> None:
    pairs = {pair["what"]: pair for pair in results["pairs"]}
    assert pairs.keys() >= set(titles)
    for title in titles:
        pair = pairs[title]
        assert min(*pair["ours"], *pair["theirs"]) > 0
        expected = [a / b for a, b in zip(pair["ours"], pair["theirs"], strict=True)]
        assert pair["ratios"] == pytest.approx(expected)
        assert len(expected) == rounds


@pytest.mark.long
@needs_git
@needs_wrk
def test_requests_to_this_tree_are_compared_with_requests_to_head(tmp_path: Path) -> None:
    data = tmp_path / "data"
    text, results = compare_with_head(
        "tests.bench", tmp_path, "--only=get", "--rounds=2", "--seconds=1", "--leads=1000",
        f"--data-dir={data}",
    )  # fmt: skip
    titles = ["GET one, one client, 1,000 leads", "GET one, 1,000 leads"]
    check_pairs(results, titles, rounds=2)
    assert results["their_commit"] == run_git("rev-parse", "HEAD").strip()
    assert results["notes"] == []
    assert "This tree against HEAD; a ratio is ours ÷ theirs" in text
    assert list(data.iterdir()) == []


@pytest.mark.long
@needs_git
def test_deliveries_of_this_tree_are_compared_with_deliveries_of_head(tmp_path: Path) -> None:
    text, results = compare_with_head(
        "tests.bench.webhooks", tmp_path, "--only=drain", "--count=300", "--runs=2"
    )
    check_pairs(results, ["drain of 300 endpoints by one dispatcher"], rounds=2)
    assert "CPU of dispatcher" in text


@needs_git
@pytest.mark.parametrize("ends", ["well", "with an error", "with Ctrl-C"])
async def test_the_other_tree_is_removed_however_the_run_ends(ends: str) -> None:
    errors = {"with an error": LoadError, "with Ctrl-C": asyncio.CancelledError}
    roots = []

    async def run() -> None:
        async with check_out("HEAD", lambda _: None) as tree:
            roots.append(tree.root)
            assert (tree.root / "service" / "app.py").exists()
            assert str(tree.root) in run_git("worktree", "list")
            if ends in errors:
                raise errors[ends]

    if ends in errors:
        with pytest.raises(errors[ends]):
            await run()
    else:
        await run()
    (root,) = roots
    assert not root.parent.exists()
    assert str(root) not in run_git("worktree", "list")


@needs_git
async def test_an_unknown_commit_is_an_error_that_names_it() -> None:
    with pytest.raises(LoadError, match="no commit 'nowhere'"):
        async with check_out("nowhere", lambda _: None):
            pass


def test_packages_are_shared_only_between_equal_locks(tmp_path: Path) -> None:
    lock = tmp_path / LOCK
    lock.parent.mkdir()
    lock.write_bytes((PROJECT / LOCK).read_bytes())
    assert has_our_packages(tmp_path)
    lock.write_bytes(lock.read_bytes() + b"six==1.17.0\n")
    assert not has_our_packages(tmp_path)


@pytest.mark.parametrize(
    ("more", "ratios", "verdict"),
    [
        (True, [0.96, 1.04, 0.97], "same"),
        (True, [0.80, 0.90, 0.85], "worse"),
        (True, [1.20, 1.10, 1.15], "better"),
        (False, [1.20, 1.10, 1.15], "worse"),
        (False, [0.80, 0.90, 0.85], "better"),
        (False, [1.50, 1.20, 0.70], "unclear"),
        (True, [], "unclear"),
    ],
)
def test_a_difference_counts_only_if_all_rounds_agree(
    more: bool, ratios: list[float], verdict: str
) -> None:
    assert Pair(what="", unit="", more=more, ratios=ratios).verdict == verdict


def test_a_ratio_is_taken_within_each_round_unless_theirs_is_zero() -> None:
    pairs = Pairs()
    # The machine is three times as fast in round 2, but the ratio within each round is about 0.5.
    for ours, theirs in ((50, 100), (153, 300), (52, 100), (1, 0)):
        pairs.add("rate", "per second", more=True, ours=ours, theirs=theirs)
    (pair,) = pairs.list_all()
    assert pair.ratios == [0.5, 0.51, 0.52]
    assert pair.ratio is not None
    assert (pair.ratio.median, pair.ratio.low, pair.ratio.high) == (0.51, 0.5, 0.52)


def test_rows_that_only_one_tree_measures_are_left_out() -> None:
    pairs = Pairs()
    ours: list[Row] = [("a", [2.0], "per second", ""), ("b", [1.0], "MB", "")]
    deliveries.add_rows(pairs, ours, [("c", [9.0], "MB", ""), ("a", [4.0], "per second", "")])
    (pair,) = pairs.list_all()
    assert (pair.what, pair.more, pair.ratios) == ("a", True, [0.5])


def test_every_round_has_all_steps_and_writes_come_last() -> None:
    options = Options(
        rounds=2, seconds=1, sizes=[1_000, 9_000], only=["post", "get"], connections=1,
        with_workers=False, settings={},
    )  # fmt: skip
    steps = list(requests.plan_steps(options))
    order = [(number, step.title) for number, step in requests.order_steps(steps, 2)]
    reads = ["GET one, one client, 1,000 leads", "GET one, 1,000 leads", "GET one, 9,000 leads"]
    writes = ["POST, one client, 1,000 leads", "POST, 1,000 leads"]
    assert order == [(n, title) for group in (reads, writes) for n in (1, 2) for title in group]
