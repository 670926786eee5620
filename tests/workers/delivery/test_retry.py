from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.delivery.retry import (
    HOUR_S,
    MAX_FREE_RETRIES,
    PROFILES,
    AttemptResult,
    decide,
    parse_retry_after,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STANDARD = PROFILES["standard"]
FAILED = AttemptResult(500, "status")


def test_2xx_is_delivered() -> None:
    assert decide(AttemptResult(204, None), STANDARD, 1, None, NOW).outcome == "delivered"


def test_an_endpoint_that_always_fails_is_tried_about_13_times_over_72_hours() -> None:
    for _ in range(50):
        elapsed, attempts, left = 0.0, 1, None
        while True:
            decision = decide(FAILED, STANDARD, attempts, left, NOW)
            if decision.outcome == "failed":
                break
            attempts += 1
            elapsed += decision.due_in_s
            left = decision.budget_s - decision.due_in_s
        assert elapsed == pytest.approx(72 * HOUR_S)
        assert 12 <= attempts <= 14


@pytest.mark.parametrize(("profile", "hours"), [("fast", 0.25), ("standard", 72), ("long", 192)])
def test_a_budget_is_a_time_and_the_last_attempt_is_at_its_end(profile: str, hours: float) -> None:
    assert decide(FAILED, PROFILES[profile], 1, None, NOW).budget_s == hours * HOUR_S
    last = decide(FAILED, PROFILES[profile], 40, 3.0, NOW)
    assert (last.outcome, last.due_in_s) == ("retry", 3.0)
    assert decide(FAILED, PROFILES[profile], 41, 0.0, NOW).outcome == "failed"


@pytest.mark.parametrize("attempts", range(1, 15))
def test_jitter_adds_up_to_a_quarter_and_never_shortens_a_delay(attempts: int) -> None:
    delay = STANDARD.delays_s[min(attempts, 12) - 1]
    found = {decide(FAILED, STANDARD, attempts, None, NOW).due_in_s for _ in range(50)}
    assert len(found) == 50
    assert min(found) >= delay
    assert max(found) <= delay + max(delay / 4, 2)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_pauses_the_lane_and_leaves_the_budget_as_it_was(status: int) -> None:
    decision = decide(AttemptResult(status, "status", "120"), STANDARD, 3, 1000.0, NOW)
    assert (decision.outcome, decision.due_in_s, decision.pause_lane_s) == ("retry", 120.0, 120.0)
    assert decision.budget_s == 1000.0


@pytest.mark.parametrize("profile", PROFILES)
def test_a_delivery_fails_at_last_if_the_receiver_always_asks_for_a_pause(profile: str) -> None:
    elapsed, attempts, left = 0.0, 1, None
    while True:
        result = AttemptResult(429, "status", "0")
        decision = decide(result, PROFILES[profile], attempts, left, NOW)
        assert decision.pause_lane_s == 1.0
        if decision.outcome == "failed":
            break
        if attempts <= MAX_FREE_RETRIES:
            assert (decision.due_in_s, decision.budget_s) == (1.0, PROFILES[profile].budget_s)
        else:
            elapsed += decision.due_in_s
            left = decision.budget_s - decision.due_in_s
        attempts += 1
    assert elapsed == pytest.approx(PROFILES[profile].budget_s)
    assert MAX_FREE_RETRIES + 3 < attempts < MAX_FREE_RETRIES + 15


def test_retry_after_is_ignored_unless_the_status_is_429_or_503() -> None:
    assert decide(AttemptResult(500, "status", "120"), STANDARD, 1, None, NOW).pause_lane_s == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0), ("1.5", 1.5), ("0", 1.0), ("-5", 1.0), ("1e9", 6 * HOUR_S),
        ("99999999999999999999", 6 * HOUR_S), ("nan", None), ("inf", None), ("soon", None),
        ("", None), ("1" * 101, None), (None, None), ("Fri, 31 Dec 9999 23:59:59 GMT", 6 * HOUR_S),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1.0), ("Sun, 99 Nov 2026 12:00:00 GMT", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        ("Sun, 22 Nov 2026 12:01:30 -0000", 90.0),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_every_form(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, NOW) == seconds


@given(st.text(max_size=120))
def test_any_retry_after_gives_a_bounded_pause_or_none(text: str) -> None:
    found = parse_retry_after(text, NOW)
    assert found is None or 1 <= found <= 6 * HOUR_S


def test_410_disables_and_keeps_the_delivery() -> None:
    decision = decide(AttemptResult(410, "status"), STANDARD, 1, None, NOW)
    assert (decision.outcome, decision.disable) == ("retry", "The receiver responded 410 Gone.")


def test_a_receiver_may_ask_to_be_disabled_or_to_drop_the_message() -> None:
    assert (
        decide(AttemptResult(400, "status", None, "disable"), STANDARD, 1, None, NOW).disable
        is not None
    )
    aborted = decide(AttemptResult(400, "status", None, "abort-message"), STANDARD, 1, None, NOW)
    assert aborted.outcome == "failed"


@pytest.mark.parametrize("error", ["blocked_address", "invalid_url"])
def test_a_permanent_error_is_not_retried(error: str) -> None:
    assert decide(AttemptResult(None, error), STANDARD, 1, None, NOW).outcome == "failed"


@pytest.mark.parametrize("status", [301, 400, 401, 404, 408, 425, 500, 502, 504])
def test_every_other_failure_is_retried(status: int) -> None:
    assert decide(AttemptResult(status, "status"), STANDARD, 1, None, NOW).outcome == "retry"
