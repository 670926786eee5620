import random
import re
from typing import Any

import pytest
from rich.console import Console

import sql
from tests.bench import plan
from tests.bench.load import pgbench, wrk
from tests.bench.output import report
from tests.bench.output.figures import Figure, compute_figures, measure_spread, summarize_steps
from tests.bench.plan import Idle, Run, Step
from tests.bench.programs import LoadError

WRK = """\
Running 1s test @ http://127.0.0.1:38783
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    11.66ms   13.74ms  96.28ms   93.27%
    Req/Sec     1.76k   702.85     2.98k    70.00%
  1760 requests in 1.01s, 1.43MB read
Requests/sec:   1744.57
Transfer/sec:      1.42MB
RESULT {"requests":1760,"duration_us":1008842,"failures":0,"p50_us":8108,"p90_us":16823,\
"p99_us":79480,"max_us":96276}
"""
WRK_REFUSED = """\
Running 1s test @ http://127.0.0.1:38783
  2175 requests in 1.00s, 635.08KB read
  Non-2xx or 3xx responses: 2175
RESULT {"requests":2175,"duration_us":1000640,"failures":2175,"p50_us":1273,"p90_us":4506,\
"p99_us":9262,"max_us":16593}
"""
PGBENCH = """\
pgbench (18.6)
transaction type: /tmp/tmpf4j2_pkr.sql
scaling factor: 1
query mode: prepared
number of clients: 4
number of threads: 2
maximum number of tries: 1
duration: 1 s
number of transactions actually processed: 940
number of failed transactions: 0 (0.000%)
latency average = 4.212 ms
initial connection time = 20.565 ms
tps = 949.574560 (without initial connection time)
"""
SMALL, BIG = 10_000, 1_000_000


def make_run(**fields: Any) -> Run:
    given: dict[str, Any] = {
        "act": "capacity",
        "workload": "get",
        "contestant": "service-1",
        "leads": SMALL,
    }
    return Run(**(given | {"round": 1, "per_second": 1000.0} | fields))


def find_figure(figures: list[Figure], title: str) -> Figure:
    return next(figure for figure in figures if figure.title == title)


def test_the_output_of_wrk_is_parsed() -> None:
    result = wrk.parse_wrk(WRK)
    assert result.per_second == pytest.approx(1744.57, abs=0.01)
    assert (result.p50_us, result.p99_us, result.failures) == (8108, 79480, 0)


def test_refused_requests_do_not_count() -> None:
    assert wrk.parse_wrk(WRK_REFUSED).per_second == 0


def test_wrk_without_a_result_is_an_error_that_quotes_it() -> None:
    with pytest.raises(LoadError, match="unable to connect"):
        wrk.parse_wrk("unable to connect to 127.0.0.1:1 Connection refused")


def test_a_missing_wrk_is_an_error_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LoadError, match="apt-get install wrk"):
        wrk.find_wrk()


def test_pauses_give_the_wanted_rate() -> None:
    assert wrk.choose_think(connections=64, per_second=200) == 320


def test_the_output_of_pgbench_is_parsed() -> None:
    result = pgbench.parse_pgbench(PGBENCH)
    assert (result.per_second, result.mean_ms, result.failures) == (949.57456, 4.212, 0)


def test_pgbench_without_a_result_is_an_error_that_quotes_it() -> None:
    with pytest.raises(LoadError, match="too many clients"):
        pgbench.parse_pgbench("pgbench: error: FATAL: sorry, too many clients already")


@pytest.mark.parametrize("workload", pgbench.SCRIPTS)
def test_a_script_is_our_own_statement_with_every_parameter_given(workload: str) -> None:
    script = pgbench.SCRIPTS[workload]
    text = pgbench.make_script(script)
    assert f"/* {script.statement} */" in text
    for argument in script.arguments:
        assert f"({argument})" in text
        text = text.replace(f"({argument})", "")
    assert not re.search(r"\$\d", text)


def test_a_statement_with_new_parameters_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sql.STATEMENTS, "lead_get_many", "SELECT $1, $2, $3, $4, $5")
    with pytest.raises(LoadError, match="lead_get_many"):
        pgbench.make_script(pgbench.SCRIPTS["get"])


def test_each_round_runs_every_step_once_and_starts_with_another_step() -> None:
    steps = plan.plan_capacity([plan.find_workload("get")], [SMALL, BIG])
    order = list(plan.order_rounds(steps, 3))
    rounds = [[step for number, step in order if number == wanted] for wanted in (1, 2, 3)]
    assert all(set(each) == set(steps) and len(each) == len(steps) for each in rounds)
    assert len({each[0] for each in rounds}) == 3


def test_writes_and_rivals_run_only_on_the_smallest_table() -> None:
    at_big = [
        step for step in plan.plan_capacity(plan.WORKLOADS, [SMALL, BIG]) if step.leads == BIG
    ]
    assert {step.contestant for step in at_big} == {"service-1"}
    assert not {"post", "patch"} & {step.workload for step in at_big}
    assert Step("half", "deep", "service-1", BIG) in plan.plan_half(plan.WORKLOADS, [SMALL, BIG])


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine is three times as fast in round 2: ratios of medians would not be 0.5.
    runs = [
        make_run(round=number, contestant=who, per_second=rate * speed)
        for number, speed in ((1, 1), (2, 3), (3, 1))
        for who, rate in (("service-1", 500 + number), ("empty-1", 1000))
    ]
    figure = find_figure(compute_figures(runs, [], [SMALL]), "GET one ÷ empty Starlette reply")
    assert figure.rounds == [0.501, 0.502, 0.503]
    assert figure.spread == measure_spread([0.501, 0.502, 0.503])
    assert figure.verdict == "reached"


@pytest.mark.parametrize(("at_big", "verdict"), [(10.5, "aim"), (14, "reached"), (16, "missed")])
def test_a_lower_latency_is_better(at_big: float, verdict: str) -> None:
    runs = [
        make_run(act="half", workload="list", leads=leads, p99_ms=p99_ms)
        for leads, p99_ms in ((SMALL, 10.0), (BIG, at_big))
    ]
    figures = compute_figures(runs, [], [SMALL, BIG])
    assert find_figure(figures, "p99 of list: 1,000,000 ÷ 10,000 leads").verdict == verdict


def test_a_step_that_was_left_out_is_not_measured() -> None:
    figures = compute_figures([], [], [SMALL, BIG])
    assert {figure.verdict for figure in figures} == {"not measured"}


def test_batching_and_memory_are_separate_figures() -> None:
    runs = [make_run(round=number, rss_mib=80 + number) for number in (1, 2, 3)]
    idle = [Idle(round=number, direct_ms=0.4, batched_ms=0.404) for number in (1, 2, 3)]
    *_, added, memory = compute_figures(runs, idle, [SMALL])
    assert (added.rounds, added.verdict) == ([0.0, 0.0, 0.0], "aim")
    assert (memory.rounds, memory.verdict) == ([81.0, 82.0, 83.0], "aim")


def test_a_row_has_the_median_of_its_rounds_and_the_sum_of_its_failures() -> None:
    rates = [100.0, 300.0, 200.0]
    random.shuffle(rates)
    runs = [
        make_run(round=number, per_second=rate, failures=number, p50_ms=rate / 10)
        for number, rate in enumerate(rates, 1)
    ]
    (row,) = summarize_steps(runs)
    assert row.per_second == measure_spread([100, 200, 300])
    assert row.p50_ms == measure_spread([10, 20, 30])
    assert (row.p99_ms, row.failures) == (None, 6)


def test_the_tables_show_spread_and_verdict() -> None:
    runs = [make_run(round=1, per_second=401.0), make_run(round=2, per_second=403.0)]
    runs += [make_run(round=n, contestant="empty-1", per_second=1000.0) for n in (1, 2)]
    console = Console(width=120)
    with console.capture() as captured:
        console.print(report.make_rate_table("Rates", summarize_steps(runs)))
        console.print(report.make_figure_table(compute_figures(runs, [], [SMALL])))
    text = captured.get()
    assert "402 (401 to 403)" in text
    assert re.search(
        r"GET one ÷ empty Starlette reply +│ +0\.40 \(0\.40 to 0\.40\) .* reached", text
    )
