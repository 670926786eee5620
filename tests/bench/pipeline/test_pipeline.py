"""Tests of the arithmetic of the pipeline bench, and one short run of all of it.

`pytest -m long tests/bench` runs the test that starts servers.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sql
from service.cli.dev.supervisor import PROJECT
from tests.bench.against.pairs import Pairs
from tests.bench.against.report import make_pair_table
from tests.bench.load.wrk import parse_wrk
from tests.bench.pipeline.client import make_request, parse_response
from tests.bench.pipeline.compare import add_pair
from tests.bench.pipeline.consumer import find_created
from tests.bench.pipeline.cpu import TICKS, Snapshot, compute_percents, parse_cpu_s, subtract
from tests.bench.pipeline.picture import draw_costs
from tests.bench.pipeline.plan import order_rounds, parse_load, plan_steps
from tests.bench.pipeline.probe import Latency, Size, subtract_sizes
from tests.bench.pipeline.profile import parse_stacks
from tests.bench.pipeline.run import Run
from tests.bench.pipeline.statements import (
    Names,
    Statement,
    choose_top,
    count_calls,
    count_window_reads,
    merge_statements,
)
from tests.bench.pipeline.tables import compute_beyond_idle


def make_run(tree: str = "ours", changes: int = 100, **changed: object) -> Run:
    fields = {
        "tree": tree, "round": 1, "load": "10/s" if changes else "idle", "variant": "plain",
        "seconds": 10.0, "changes": changes, "failures": 0, "catch_up_s": 0.0,
        "has_caught_up": True, "lag_s": {},
        "cpu_s": {"PostgreSQL": 0.4, "Valkey": 0.1, "API": 0.2, "worker": 0.3},
        "percents": {"PostgreSQL": 1.0, "Valkey": 1.0, "API": 1.0, "worker": 2.0, "others": 9.0},
        "latencies": {"request": Latency(1.0, 2.0)}, "statements": [],
        "sizes": {"lead": Size(1000, 500)}, "wal_bytes": 3000,
    }  # fmt: skip
    return Run(**(fields | changed))  # type: ignore[arg-type]


def make_statement(name: str, exec_ms: float, *, top_level: bool = True) -> Statement:
    return Statement(
        name=name, calls=10, rows=20, plans=1, plan_ms=1.0, exec_ms=exec_ms, wal_bytes=0,
        top_level=top_level,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind", "connections", "rate"),
    [
        ("idle", "idle", 0, 0), ("0", "idle", 0, 0), ("0/s", "idle", 0, 0),
        ("10", "paced", 1, 10), ("100/s", "paced", 5, 100), ("500/s", "paced", 25, 500),
        ("0.5/s", "paced", 1, 0.5), ("1c", "closed", 1, 0), (" 128c ", "closed", 128, 0),
    ],
)  # fmt: skip
def test_a_load_is_parsed_from_its_name(
    text: str, kind: str, connections: int, rate: float
) -> None:
    load = parse_load(text)
    assert (load.kind, load.connections, load.rate) == (kind, connections, rate)
    assert parse_load(load.name) == load


@pytest.mark.parametrize("text", ["", "c", "0c", "-1", "ten", "10/m"])
def test_another_text_is_no_load(text: str) -> None:
    with pytest.raises(ValueError, match="is no load"):
        parse_load(text)


def test_idle_is_measured_once_and_every_round_has_all_steps() -> None:
    loads = [parse_load("idle"), parse_load("1c")]
    steps = plan_steps(loads, ["plain", "mix"])
    assert [step.title for step in steps] == ["idle", "1c", "1c, mix"]
    assert [number for number, _ in order_rounds(steps, 2)] == [1, 1, 1, 2, 2, 2]


def test_processor_time_is_read_after_any_name_of_a_process() -> None:
    numbers = " ".join(["0"] * 10)
    text = f"7 (a) b (c) R {numbers} {3 * TICKS} {TICKS} 500 500 0"
    assert parse_cpu_s(text) == 4.0


def test_others_are_the_rest_of_the_machine() -> None:
    earlier = Snapshot(10.0, {"API": 1.0, "worker": 2.0}, machine=10.0)
    later = Snapshot(20.0, {"API": 2.0, "worker": 5.0}, machine=19.0)
    assert subtract(later, earlier) == {"API": 1.0, "worker": 3.0}
    assert compute_percents(later, earlier) == {"API": 10.0, "worker": 30.0, "others": 50.0}


def test_statements_are_named_by_their_text_without_constants_and_comments() -> None:
    names = Names(sql.STATEMENTS)
    for name in ("window_read_many", "lead_insert_many", "score_write_many", "ticker_cut"):
        assert names.find(sql.STATEMENTS[name]) == name
    # PostgreSQL drops the comment before a statement and replaces constants.
    seen = sql.STATEMENTS["ticker_cut"].partition("*/")[2].replace("'{0,1,2,3,4,5,6,7}'", "$2")
    assert names.find(seen) == "ticker_cut"
    assert names.find("BEGIN;") == "BEGIN"


def test_a_statement_whose_end_was_changed_is_named_by_its_beginning() -> None:
    begin = "SELECT id, name, company FROM lead WHERE tenant_id = $1 AND live = $2 AND status"
    names = Names({"lead_pick": f"{begin} IN (1, 2, 3)", "lead_count": "SELECT count(*) FROM lead"})
    assert names.find(f"{begin} IN ($3 /*, ... */)") == "lead_pick"
    assert names.find("SELECT 1") == "SELECT ?"


def test_the_top_statements_are_those_with_the_most_time_of_one_level() -> None:
    merged = merge_statements(
        [
            make_statement("a", 5.0), make_statement("window_read_many", 4.0),
            make_statement("window_read_many", 4.0), make_statement("b", 99.0, top_level=False),
        ]
    )  # fmt: skip
    assert [each.name for each in choose_top(merged)] == ["window_read_many", "a"]
    assert [each.name for each in choose_top(merged, limit=1)] == ["window_read_many"]
    assert [each.name for each in choose_top(merged, top_level=False)] == ["b"]
    assert (count_calls(merged), count_window_reads(merged)) == (30, 20)
    assert merged[1].total_ms == 10.0


def test_growth_lists_only_tables_that_have_changed_the_largest_first() -> None:
    earlier = {"a": Size(10, 10), "b": Size(5, 5)}
    later = {"a": Size(10, 10), "b": Size(6, 5), "c": Size(100, 8)}
    assert subtract_sizes(later, earlier) == {"c": Size(100, 8), "b": Size(1, 0)}
    assert list(subtract_sizes(later, earlier)) == ["c", "b"]


def test_costs_are_divided_by_the_leads() -> None:
    run = make_run(statements=[make_statement("window_read_many", 1.0)], catch_up_s=10.0)
    assert run.total_cpu_us == pytest.approx(10_000)
    assert (run.per_second, run.sustained) == (10.0, 5.0)
    assert (run.calls, run.window_reads) == (0.1, 0.1)
    assert (run.table_bytes, run.index_bytes, run.wal) == (10, 5, 30)
    assert make_run(has_caught_up=False).sustained is None


def test_an_idle_run_has_rates_and_no_costs() -> None:
    run = make_run(changes=0, statements=[make_statement("a", 1.0)])
    assert (run.total_cpu_us, run.cpu_us, run.wal) == (None, {}, None)
    assert run.calls == 1.0
    assert compute_beyond_idle(make_run(), [run]) == pytest.approx(10_000 - 5_000)
    assert compute_beyond_idle(make_run(), [make_run()]) is None


def test_a_figure_that_one_tree_lacks_is_blank_beside_the_other() -> None:
    pairs = Pairs()
    for _ in range(2):
        ours = make_run(statements=[make_statement("a", 1.0)], wal_bytes=1500)
        add_pair(pairs, ours, make_run("REF"))
    found = {pair.what: pair for pair in pairs.list_all()}
    assert (found["statements"].ours, found["statements"].theirs) == ([0.1, 0.1], [])
    assert found["statements"].ratios == []
    assert found["WAL"].ratios == [0.5, 0.5]
    assert "createdAt → webhook, p50" not in found
    assert make_pair_table(pairs.list_all(), "REF").row_count == len(found)


def test_a_profile_gives_own_and_total_time_of_functions() -> None:
    text = (
        'process 7:"leadlog";main (app/main.py:3);work (app/jobs.py:9) 3\n'
        "main (app/main.py:4);work (app/jobs.py:11);work (app/jobs.py:9) 5\n"
        "main (app/main.py:3) 2\n"
    )
    first, second = parse_stacks(text)
    assert (first.name, first.own, first.total) == ("work (app/jobs.py)", 0.8, 0.8)
    assert (second.name, second.own, second.total) == ("main (app/main.py)", 0.2, 1.0)
    assert parse_stacks("") == []


def test_a_response_is_complete_with_its_last_byte() -> None:
    whole = b"HTTP/1.1 201 Created\r\nX: y\r\nContent-Length: 2\r\n\r\nok"
    assert [parse_response(whole[:end]) for end in (0, 20, len(whole) - 1)] == [None] * 3
    assert parse_response(whole) == (201, b"ok")
    assert parse_response(b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n") == (204, b"")


def test_a_request_has_a_length_only_with_a_body() -> None:
    head, _, body = make_request("POST", "/v1/leads", "k", "r", b"{}").partition(b"\r\n\r\n")
    assert b"Content-Length: 2" in head
    assert body == b"{}"
    assert b"Idempotency-Key" not in make_request("DELETE", "/v1/leads/x", "k", "r")


def test_only_created_leads_have_an_arrival() -> None:
    envelope = b'{"id":"evt_1","createdAt":"2026-11-22T00:00:00.000Z"}'
    fields = [b"type", b"lead.created", b"envelope", envelope]
    assert find_created(fields) == b"2026-11-22T00:00:00.000Z"
    assert find_created([b"type", b"lead.updated", b"envelope", envelope]) is None


def test_the_picture_has_both_trees_and_idle_loads(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs = [make_run(), make_run("REF"), make_run(changes=0), make_run("REF", changes=0)]
    assert draw_costs(runs, tmp_path / "costs.png")
    assert (tmp_path / "costs.png").stat().st_size > 1000
    assert not draw_costs([], tmp_path / "none.png")


def test_the_generator_reports_as_wrk_does() -> None:
    line = (
        'RESULT {"requests":3,"duration_us":1000000,"failures":1,"p50_us":1,"p90_us":2,'
        '"p99_us":3,"max_us":4}'
    )
    assert parse_wrk(f"warning\n{line}\n").per_second == 2


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="not a git checkout")
def test_this_tree_is_measured_against_head(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603
        [
            sys.executable, "-m", "tests.bench.pipeline", "--seconds=2", "--loads=20/s,4c",
            "--variants=endpoints,mix", "--against=HEAD", "--pairs=1", "--leads=1000", "--save",
            f"--results={tmp_path / 'results'}", f"--data-dir={tmp_path / 'data'}",
        ],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "results").glob("*.json")
    results = json.loads(path.read_text())
    assert results["notes"] == []
    assert len(results["runs"]) == 8
    for run in results["runs"]:
        assert run["changes"] > 0
        assert run["has_caught_up"]
        assert {"request", "score", "stream"} <= run["latencies"].keys()
        if run["variant"] == "endpoints":
            assert run["deliveries"] == 10 * run["changes"]
    assert list((tmp_path / "data").iterdir()) == []
