import pytest

from workers.delivery.lane import (
    DOUBTFUL_S,
    FIRST_WINDOW,
    MAX_DOUBTFUL,
    MAX_IN_FLIGHT,
    MAX_PAUSE_S,
    MAX_SLOW,
    MAX_WINDOW,
    ORDINARY,
    Lane,
    Lanes,
    choose_claim_size,
    choose_in_flight_limit,
)

QUICK_S = 0.02


def fail(lane: Lane, now: float, times: int = 1, *, unreachable: bool = True) -> float:
    return [
        lane.record_failure(now, QUICK_S, unreachable=unreachable, overloaded=True)
        for _ in range(times)
    ][-1]


def fill(lane: Lane, count: int, now: float, start: int = 0) -> None:
    for token in range(start, start + count):
        lane.start_request(token, now)


def test_a_window_grows_slowly_under_load_and_halves_with_a_failure() -> None:
    lane = Lane()
    lane.record_success(0, QUICK_S)
    assert lane.window == FIRST_WINDOW  # no request waited, so the window need not grow
    fill(lane, 8, 0)
    for _ in range(50):
        lane.record_success(0, QUICK_S)
    assert lane.window == pytest.approx(9)
    fill(lane, 100, 0, start=100)
    for _ in range(5000):
        lane.record_success(0, QUICK_S)
    assert lane.window == MAX_WINDOW
    fail(lane, 0)
    assert lane.window == MAX_WINDOW / 2


def test_five_lost_connections_open_the_breaker_and_one_probe_closes_it() -> None:
    lane = Lane()
    assert fail(lane, 0, 4) == 0
    assert fail(lane, 0) == 15
    assert lane.count_free(14.9) == 0
    assert lane.count_free(15.1) == 1
    lane.start_request(1, 15.1)
    assert lane.count_free(15.2) == 0
    lane.record_success(15.3, QUICK_S)
    lane.finish_request(1)
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


def test_seven_errors_in_ten_responses_open_the_breaker_and_six_do_not() -> None:
    for errors, opened in ((6, False), (7, True)):
        lane = Lane()
        for _ in range(10 - errors):
            lane.record_success(0, QUICK_S)
        assert bool(fail(lane, 0, errors, unreachable=False)) is opened


def test_old_failures_are_forgotten_after_a_minute() -> None:
    lane = Lane()
    fail(lane, 0, 6, unreachable=False)
    assert fail(lane, 61, 6, unreachable=False) == 0


def test_a_rate_limit_is_kept_over_time() -> None:
    lane = Lane()
    lane.update_settings(5, 0, 0.0)
    sent, now = 0, 0.0
    while now < 10:
        for _ in range(lane.count_free(now)):
            lane.start_request(sent, now)
            lane.finish_request(sent)
            sent += 1
        now += 0.01
    assert 50 <= sent <= 55


def test_a_lane_known_to_fail_starts_with_a_single_probe() -> None:
    lane = Lane()
    lane.update_settings(None, 3, 0.0)
    assert lane.count_free(0) == 1
    assert fail(lane, 0) == 120


def make_quick(lanes: Lanes, *names: str, window: float = MAX_WINDOW) -> None:
    for name in names:
        lanes[name].record_success(0, QUICK_S)
        lanes[name].window = window


class Traffic:
    """The requests of many lanes: `start` starts the allotted requests, `respond` ends them."""

    def __init__(self) -> None:
        self.lanes, self.now, self.token = Lanes(), 0.0, 0

    def start(self, *due: str) -> dict[str, int]:
        stuck = self.lanes.count_stuck(self.now)
        free = choose_in_flight_limit(stuck) - self.count()
        allotted = self.lanes.allot(due, self.now, free) if free >= choose_claim_size(stuck) else {}
        for name, share in allotted.items():
            for _ in range(share):
                self.token += 1
                self.lanes[name].start_request(self.token, self.now)
        return allotted

    def respond(self, name: str, response_s: float) -> None:
        for token in list(self.lanes[name].in_flight):
            self.lanes[name].record_success(self.now, response_s)
            self.lanes[name].finish_request(token)

    def count(self) -> int:
        return sum(len(lane.in_flight) for lane in self.lanes.values())


def test_hung_endpoints_never_take_all_slots() -> None:
    traffic = Traffic()
    make_quick(traffic.lanes, "good", window=FIRST_WINDOW)
    for n in range(1000):  # a new hung endpoint every 10 ms
        traffic.now += 0.01
        assert traffic.start(f"hung{n}", "good")["good"] >= FIRST_WINDOW
        traffic.respond("good", QUICK_S)
    assert traffic.count() <= MAX_DOUBTFUL


@pytest.mark.parametrize(("count", "window"), [(13, 32), (16, 32), (50, 8), (400, 8)])
def test_quick_lanes_that_hang_at_once_leave_slots_to_healthy_lanes(
    count: int, window: int
) -> None:
    traffic = Traffic()
    good = ["good0", "good1", "good2"]
    hung = [f"hung{n}" for n in range(count)]
    make_quick(traffic.lanes, *good)
    make_quick(traffic.lanes, *hung, window=window)
    served = dict.fromkeys(good, 0.0)
    for _ in range(500):  # 5 s, in which no request of a hung lane ends
        traffic.now += 0.01
        for name in traffic.start(*hung, *good):
            if name in served:
                assert traffic.now - served[name] < 2 * DOUBTFUL_S, name
                served[name] = traffic.now
        for name in good:
            traffic.respond(name, QUICK_S)
    assert min(served.values()) > 4.9
    assert traffic.count() <= MAX_IN_FLIGHT


def test_the_reserve_is_closed_while_no_request_is_stuck() -> None:
    traffic = Traffic()
    names = [f"quick{n}" for n in range(30)]
    make_quick(traffic.lanes, *names)
    traffic.start(*names)
    assert traffic.count() == ORDINARY
    traffic.now += DOUBTFUL_S / 2
    assert traffic.start(*names) == {}


@pytest.mark.parametrize(
    ("response_s", "most"), [(0.1, ORDINARY), (0.5, MAX_DOUBTFUL), (1.5, MAX_SLOW)]
)
def test_lanes_with_long_responses_get_a_part_of_the_slots(response_s: float, most: int) -> None:
    traffic = Traffic()
    names = [f"lane{n}" for n in range(40)]
    make_quick(traffic.lanes, *names)
    for _ in range(20):
        for name in names:
            traffic.respond(name, response_s)
        traffic.start(*names)
        traffic.now += response_s
    assert traffic.count() == most


def test_one_quick_response_makes_a_lane_quick() -> None:
    lane = Lane()
    assert not lane.is_quick(0)
    lane.record_success(0, QUICK_S)
    assert lane.is_quick(0)
    lane.start_request(1, 1.0)
    assert lane.is_quick(1.0 + DOUBTFUL_S / 2)
    assert not lane.is_quick(1.1 + DOUBTFUL_S)
    lane.record_failure(9, 8.0, unreachable=True, overloaded=True)
    lane.finish_request(1)
    assert not lane.is_quick(9)
    assert lane.is_slow(9)
    lane.record_success(10, QUICK_S)
    assert lane.is_quick(10)


def test_a_lane_reopens_if_the_database_reports_it_open_after_storing_the_closure() -> None:
    lane = Lane()
    lane.close(100.0)
    lane.reopen_if_saved_before(1.0)  # the closure was not stored yet
    assert lane.count_free(2.0) == 0
    lane.record_closure_saved(100.0, 3.0)
    lane.reopen_if_saved_before(2.5)  # this query ran before
    assert lane.count_free(4.0) == 0
    lane.close(200.0)  # not stored yet
    lane.reopen_if_saved_before(5.0)
    assert lane.count_free(150.0) == 0
    lane.record_closure_saved(200.0, 6.0)
    lane.reopen_if_saved_before(7.0)
    assert lane.count_free(7.0) == FIRST_WINDOW


def test_an_open_lane_keeps_its_half_open_breaker() -> None:
    lane = Lane()
    pause_s = fail(lane, 0, 5)
    lane.record_closure_saved(pause_s, 0.1)
    lane.reopen_if_saved_before(pause_s + 1)  # the pause is over; the owner did nothing
    assert lane.trips == 1


def test_unsaved_health_is_returned_once() -> None:
    lanes = Lanes()
    lanes["a"].record_success(0, QUICK_S)
    fail(lanes["a"], 0, 2)
    lanes["b"].start_request(1, 0)
    assert lanes.pop_unsaved_health() == [("a", True, 2, 0)]
    assert lanes.pop_unsaved_health() == []
