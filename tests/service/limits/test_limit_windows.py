"""One window as one process keeps it, with Redis played by the test."""

from service.limits.plans import Plan, Rule, list_rules
from service.limits.windows import MOST_AHEAD, SPENT_S, Window

NOON = 1_743_854_400.0
MINUTE = Rule("minute", 60, 60)


def grant(window: Window, waiting: int, granted: int, used: int, now: float = NOON) -> None:
    ask = window.ask_for(waiting, now)
    assert ask is not None
    window.hear(ask, granted, used, now)


def test_a_plans_rules_for_a_route_are_its_own_and_those_of_all() -> None:
    plan = Plan("starter", 60, 10_000, 5, {"POST /leads": 30})
    assert [(r.name, r.limit, r.span_s) for r in list_rules(plan, "POST /leads")] == [
        ("POST /leads", 30, 60), ("minute", 60, 60), ("day", 10_000, 86_400),
    ]  # fmt: skip
    assert [r.name for r in list_rules(plan, "GET /leads")] == ["minute", "day"]
    assert list(list_rules(Plan("unlimited"), "GET /leads")) == []


def test_windows_are_those_of_the_clock() -> None:
    assert Window(MINUTE, NOON + 59.9).ends_at == NOON + 60
    assert Window(MINUTE, NOON + 60).ends_at == NOON + 120
    assert Window(Rule("day", 9, 86_400), NOON).ends_at == NOON + 43_200


def test_what_is_granted_is_used_without_asking_and_remaining_counts_down() -> None:
    window = Window(MINUTE, NOON)
    grant(window, 1, granted=3, used=3)
    assert window.remaining == 60
    for left in (59, 58, 57):
        window.take()
        assert window.remaining == left
    assert not window.held
    assert window.ask_for(2, NOON) is not None


def test_who_comes_often_asks_for_more_at_once_and_who_comes_seldom_for_less() -> None:
    window = Window(MINUTE, NOON)
    asked = []
    for n in range(14):
        ask = window.ask_for(1, NOON + n * 0.1)
        assert ask is not None
        assert ask.least == 1
        asked.append(ask.most - ask.least)
    assert asked == sorted(asked)
    assert asked[-1] == MOST_AHEAD
    ask = window.ask_for(1, NOON + 30)
    assert ask is not None
    assert ask.most - ask.least == MOST_AHEAD // 2


def test_a_window_that_is_spent_is_not_asked_for_again_at_once() -> None:
    window = Window(MINUTE, NOON)
    grant(window, 1, granted=0, used=60)
    assert window.is_spent(NOON + SPENT_S / 2)
    assert not window.is_spent(NOON + SPENT_S * 2)
    window.roll(NOON + 60)
    assert not window.is_spent(NOON + 60)
    assert window.remaining == 60


def test_an_answer_that_comes_in_the_next_minute_is_not_counted_there() -> None:
    window = Window(MINUTE, NOON + 59)
    ask = window.ask_for(1, NOON + 59)
    assert ask is not None
    window.roll(NOON + 60)
    window.hear(ask, 2, 60, NOON + 60)
    assert (window.held, window.remaining) == (0, 60)


def test_what_is_not_used_is_given_back_once() -> None:
    window = Window(MINUTE, NOON)
    grant(window, 1, granted=5, used=5)
    window.take()
    assert window.give_back(NOON + 0.5, 1.0) is None
    ask = window.give_back(NOON + 1.5, 1.0)
    assert ask is not None
    assert (ask.least, ask.most, window.held) == (-4, -4, 0)
    window.hear(ask, -4, 1, NOON + 1.5)
    assert (window.remaining, window.give_back(NOON + 3, 1.0)) == (59, None)
    assert not window.is_spent(NOON + 1.5)


def test_without_redis_a_process_lets_its_share_through_and_reports_it_later() -> None:
    window = Window(MINUTE, NOON)
    through = 0
    for _ in range(50):
        if not window.held:
            ask = window.ask_for(1, NOON)
            assert ask is not None
            window.lend(ask, processes=2, now=NOON)
        if window.held:
            window.take()
            through += 1
    assert through == 30
    assert window.is_spent(NOON)
    report = window.give_back(NOON + 2, 1.0)
    assert report is not None
    assert (report.least, report.unreported) == (0, 30)
    window.hear(report, 0, 42, NOON + 2)
    assert window.remaining == 18
    assert not window.is_open


def test_what_was_let_through_with_redis_counts_towards_the_share() -> None:
    window = Window(MINUTE, NOON)
    grant(window, 40, granted=40, used=40)
    for _ in range(40):
        window.take()
    ask = window.ask_for(1, NOON)
    assert ask is not None
    window.lend(ask, processes=2, now=NOON)
    assert not window.held
