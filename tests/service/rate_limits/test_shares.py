"""The share of one process in one limit; the test takes the place of Redis."""

from service.access.plans import Plan, Rule, list_rules
from service.rate_limits.key_usage import IDLE_S, KeyUsage
from service.rate_limits.share import AHEAD_PART, MOST_AHEAD, SPENT_S, Share

NOON = 1_743_854_400.0
MINUTE = Rule("minute", 60, 60)


def grant(share: Share, waiting: int, granted: int, others: int = 0, now: float = NOON) -> None:
    share.request(waiting, idle=False)
    share.apply_grant(granted, others, now)


def use(share: Share, count: int, sharers: int = 0) -> int:
    """Admits up to `count` requests, and returns how many had room."""
    used = 0
    for _ in range(count):
        if share.has_room(sharers):
            share.used += 1
            used += 1
    return used


def test_the_rules_of_a_route_are_its_own_and_those_of_the_plan() -> None:
    plan = Plan("starter", 60, 10_000, 5, {"POST /leads": 30})
    assert [(r.name, r.limit, r.span_s) for r in list_rules(plan, "POST /leads")] == [
        ("POST /leads", 30, 60), ("minute", 60, 60), ("day", 10_000, 86_400), ("concurrent", 5, 0),
    ]  # fmt: skip
    assert [r.name for r in list_rules(plan, "GET /leads")] == ["minute", "day", "concurrent"]
    assert list(list_rules(Plan("unlimited"), "GET /leads")) == []


def test_windows_begin_with_the_minute_and_the_day() -> None:
    assert Share(MINUTE, NOON + 59.9).ends_at == NOON + 60
    assert Share(MINUTE, NOON + 60).ends_at == NOON + 120
    assert Share(Rule("day", 9, 86_400), NOON).ends_at == NOON + 43_200


def test_grants_are_used_without_a_call_and_remaining_counts_down() -> None:
    share = Share(MINUTE, NOON)
    grant(share, 1, granted=3)
    assert share.remaining == 60
    for left in (59, 58, 57):
        assert use(share, 1) == 1
        assert share.remaining == left
    assert use(share, 1) == 0


def test_a_busy_key_is_granted_ahead_and_an_idle_key_is_not() -> None:
    usage = KeyUsage("key_1", Plan("busy", per_minute=60), NOON)
    (share,) = usage.list_shares("GET /leads", NOON)
    usage.use([share], NOON)
    assert not usage.is_idle(NOON + IDLE_S / 2)
    assert share.request(1, idle=False)[3] == MOST_AHEAD
    assert usage.is_idle(NOON + IDLE_S * 2)
    assert share.request(1, idle=True)[3] == 0


def test_a_spent_limit_is_not_requested_again_at_once() -> None:
    share = Share(MINUTE, NOON)
    grant(share, 1, granted=0, others=60)
    assert not share.has_room(0)
    assert NOON + SPENT_S / 2 < share.spent_until < NOON + SPENT_S * 2
    share.start(NOON + 60)
    assert share.spent_until < NOON + 60
    assert share.remaining == 60


def test_a_limit_with_a_partial_grant_is_not_spent() -> None:
    share = Share(MINUTE, NOON)
    grant(share, 5, granted=2, others=58)
    assert share.spent_until == 0
    assert use(share, 5) == 2
    grant(share, 3, granted=2, others=58)
    assert share.spent_until > NOON


def test_a_response_that_arrives_in_the_next_minute_is_not_counted_there() -> None:
    share = Share(MINUTE, NOON + 59)
    share.request(1, idle=False)
    share.start(NOON + 60)
    share.apply_grant(2, 58, NOON + 60)
    assert (share.granted, share.remaining) == (0, 60)


def test_unneeded_grants_are_returned_and_not_used_meanwhile() -> None:
    share = Share(Rule("minute", 10 * AHEAD_PART, 60), NOON)
    grant(share, 1, granted=6)
    assert use(share, 1) == 1
    assert not share.has_surplus(idle=False)
    assert share.has_surplus(idle=True)
    share.request(0, idle=True)
    assert use(share, 1) == 0
    share.apply_grant(1, 0, NOON)
    assert not share.has_surplus(idle=True)
    assert share.remaining == 10 * AHEAD_PART - 1


def test_near_the_limit_unused_slots_are_not_kept() -> None:
    slots = Share(Rule("concurrent", AHEAD_PART, 0), NOON)
    grant(slots, 4, granted=4)
    assert use(slots, 4) == 4
    assert not slots.has_surplus(idle=False)
    slots.used -= 1
    assert slots.has_surplus(idle=False)


def test_without_redis_a_process_admits_its_part_and_reports_it_later() -> None:
    share = Share(MINUTE, NOON)
    assert use(share, 50, sharers=2) == 30
    limit, used, wanted, *_ = share.request(0, idle=False)
    assert (limit, used, wanted) == (60, 30, 30)
    share.apply_grant(30, 12, NOON + 2)
    assert share.remaining == 18
    assert not share.has_surplus(idle=True)


def test_requests_admitted_with_redis_count_towards_the_local_part() -> None:
    share = Share(MINUTE, NOON)
    grant(share, 40, granted=40)
    assert use(share, 40) == 40
    assert use(share, 1, sharers=2) == 0


def test_a_change_of_plan_keeps_the_counts() -> None:
    usage = KeyUsage("key_1", Plan("small", per_minute=10), NOON)
    usage.use(usage.list_shares("GET /leads", NOON), NOON)
    usage.set_plan(Plan("large", per_minute=50, concurrent=2))
    window, slots = usage.list_shares("GET /leads", NOON)
    assert (window.remaining, slots.remaining) == (49, 1)
