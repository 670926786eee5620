import pytest

from workers.lane import (
    FIRST_WINDOW,
    MAX_DOUBTFUL,
    MAX_IN_FLIGHT,
    MAX_PAUSE_S,
    MAX_SLOW,
    MAX_WINDOW,
    Lane,
    Lanes,
)


def fail(lane: Lane, now: float, times: int = 1, *, unreachable: bool = True) -> float:
    return [lane.note_failure(now, unreachable=unreachable, crowded=True) for _ in range(times)][-1]


def fill(lane: Lane, count: int, now: float, start: int = 0) -> None:
    for token in range(start, start + count):
        lane.begin(token, now)


def test_a_window_grows_slowly_under_load_and_halves_with_trouble() -> None:
    lane = Lane()
    lane.note_success(0)
    assert lane.window == FIRST_WINDOW  # nothing was waiting, so nothing is learnt
    fill(lane, 8, 0)
    for _ in range(50):
        lane.note_success(0)
    assert lane.window == pytest.approx(9)
    fill(lane, 100, 0, start=100)
    for _ in range(5000):
        lane.note_success(0)
    assert lane.window == MAX_WINDOW
    fail(lane, 0)
    assert lane.window == MAX_WINDOW / 2


def test_five_dead_connections_open_the_breaker_and_one_probe_closes_it() -> None:
    lane = Lane()
    assert fail(lane, 0, 4) == 0
    assert fail(lane, 0) == 15
    assert lane.count_free(14.9) == 0
    assert lane.count_free(15.1) == 1
    lane.begin(1, 15.1)
    assert lane.count_free(15.2) == 0
    lane.note_success(15.3)
    lane.end(1)
    assert lane.trips == 0
    assert lane.count_free(15.4) == 2


def test_a_failed_probe_doubles_the_pause_up_to_ten_minutes() -> None:
    lane, now = Lane(), 0.0
    pauses = [fail(lane, now, 5)]
    for _ in range(8):
        now += pauses[-1] + 0.1
        pauses.append(fail(lane, now))
    assert pauses == [15, 30, 60, 120, 240, 480, MAX_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S]


def test_failures_that_end_while_the_breaker_is_open_do_not_prolong_it() -> None:
    lane = Lane()
    fail(lane, 0, 5)
    assert fail(lane, 1, 20) == 0
    assert lane.trips == 1


def test_seven_errors_of_ten_answers_open_the_breaker_and_six_do_not() -> None:
    for errors, opened in ((6, False), (7, True)):
        lane = Lane()
        for _ in range(10 - errors):
            lane.note_success(0)
        assert bool(fail(lane, 0, errors, unreachable=False)) is opened


def test_old_failures_are_forgotten_after_a_minute() -> None:
    lane = Lane()
    fail(lane, 0, 6, unreachable=False)
    assert fail(lane, 61, 6, unreachable=False) == 0


def test_a_rate_limit_is_kept_over_time() -> None:
    lane = Lane()
    lane.learn(5, 0, 0.0)
    sent, now = 0, 0.0
    while now < 10:
        for _ in range(lane.count_free(now)):
            lane.begin(sent, now)
            lane.end(sent)
            sent += 1
        now += 0.01
    assert 50 <= sent <= 55


def test_a_lane_known_to_fail_starts_with_a_single_probe() -> None:
    lane = Lane()
    lane.learn(None, 3, 0.0)
    assert lane.count_free(0) == 1
    assert fail(lane, 0) == 120


def test_no_number_of_hung_endpoints_takes_all_slots() -> None:
    lanes, now, in_flight = Lanes(), 0.0, 0
    lanes["good"].note_success(0)
    for n in range(1000):  # a new hung endpoint every 10 ms
        now += 0.01
        allotted = lanes.allot([f"hung{n}", "good"], now, MAX_IN_FLIGHT - in_flight)
        for _ in range(allotted.get(f"hung{n}", 0)):
            lanes[f"hung{n}"].begin(in_flight, now)
            in_flight += 1
        assert allotted["good"] == FIRST_WINDOW
    assert in_flight <= MAX_DOUBTFUL


def test_slow_endpoints_share_a_quarter_of_all_slots() -> None:
    lanes, token = Lanes(), 0
    for n in range(50):
        lanes[f"slow{n}"].proven = True
        lanes[f"slow{n}"].begin(token := token + 1, 0.0)
    lanes["quick"].proven = True
    now = 10.0
    for _ in range(100):
        for name, share in lanes.allot([f"slow{n}" for n in range(50)], now, MAX_IN_FLIGHT).items():
            for _ in range(share):
                lanes[name].begin(token := token + 1, now)
    slow = sum(len(lane.begun) for name, lane in lanes.items() if name != "quick")
    assert slow <= MAX_SLOW
    assert lanes.allot(["quick"], now, MAX_IN_FLIGHT) == {"quick": FIRST_WINDOW}


def test_tallies_are_told_once() -> None:
    lanes = Lanes()
    lanes["a"].note_success(0)
    fail(lanes["a"], 0, 2)
    lanes["b"].begin(1, 0)
    assert lanes.take_tallies() == [("a", True, 2, 0)]
    assert lanes.take_tallies() == []
