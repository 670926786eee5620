"""Which requests are refused and which are served, in simulated time."""

import random

import pytest

from service.load.admission import CROWD_LIMITS, REQUEST_LIFE_S, STALLED_S
from tests.service.load.simulation import Simulation

LIMIT_S = 0.15
CROWD_S = CROWD_LIMITS * LIMIT_S
STATEMENT_S = 0.01


def cold(served: int) -> float:
    """The duration of a statement: the first ones open connections and make plans."""
    return 0.8 if served <= 4 else 0.1 if served <= 40 else STATEMENT_S


def spread(rate: float, begin: float, end: float, seed: int = 1) -> list[float]:
    """Random arrival times, `rate` a second on average."""
    rng, time, times = random.Random(seed), begin, []
    while (time := time + rng.expovariate(rate)) < end:
        times.append(time)
    return times


@pytest.mark.parametrize("clients", [32, 200, 1_000])
async def test_the_first_crowd_after_a_start_is_served_completely(clients: int) -> None:
    simulation = Simulation(cold, servers=4, limit_s=LIMIT_S)
    simulation.arrive("key", spread(clients / 0.3, 0, 0.3))
    simulation.run()
    assert simulation.outcomes["key"].refused == 0


async def test_a_crowd_is_served_completely_although_little_is_served_while_it_arrives() -> None:
    simulation = Simulation(lambda n: 0.8 if n <= 4 else 0.005, servers=4, limit_s=LIMIT_S)
    simulation.arrive("key", spread(1_900, 0, 1))
    simulation.run()
    assert simulation.outcomes["key"].refused == 0
    assert max(simulation.outcomes["key"].waited_s) < REQUEST_LIFE_S


@pytest.mark.parametrize(("clients", "requests"), [(32, 60), (64, 400), (100, 500)])
async def test_a_first_crowd_whose_clients_send_more_requests_is_served_completely(
    clients: int, requests: int
) -> None:
    simulation = Simulation(cold, servers=4, limit_s=LIMIT_S)
    simulation.loop("key", clients, requests)
    simulation.run()
    assert simulation.outcomes["key"].refused == 0
    assert len(simulation.outcomes["key"].waited_s) == requests


async def test_a_crowd_is_served_completely_after_a_calm_but_not_right_after_an_overload() -> None:
    simulation = Simulation(lambda _: STATEMENT_S, servers=1, limit_s=LIMIT_S)
    simulation.arrive("flood", spread(200, 0, 10))
    simulation.arrive("after", [10.5] * 100)
    simulation.arrive("calm", [40 + n / 1000 for n in range(200)])
    simulation.run()
    assert simulation.outcomes["flood"].refused > 100
    assert 70 < simulation.outcomes["after"].refused < 95
    assert simulation.outcomes["calm"].refused == 0


@pytest.mark.parametrize("servers", [1, 4])
async def test_at_twice_the_capacity_half_is_served_within_the_limit(servers: int) -> None:
    simulation = Simulation(lambda _: STATEMENT_S, servers=servers, limit_s=LIMIT_S)
    capacity = servers / STATEMENT_S
    simulation.arrive("key", spread(2 * capacity, 0, 60))
    simulation.run()
    outcome = simulation.outcomes["key"]
    assert len(outcome.waited_s) == pytest.approx(60 * capacity, rel=0.05)
    settled = int(capacity * 2 * CROWD_S)  # by then the first crowd is served
    assert outcome.find_p99(after=settled) < 2 * LIMIT_S


async def test_waits_stay_bounded_when_the_server_becomes_slower() -> None:
    simulation = Simulation(
        lambda n: 0.01 if n < 1000 else 0.04, servers=1, limit_s=LIMIT_S
    )  # n < 1000: 10 s
    simulation.arrive("key", spread(120, 0, 30))
    simulation.run()
    outcome = simulation.outcomes["key"]
    assert outcome.find_p99(after=1100) < 3 * LIMIT_S


async def test_a_stalled_queue_refuses_all_newcomers_after_three_seconds() -> None:
    simulation = Simulation(lambda _: 1e9, servers=4, limit_s=LIMIT_S)
    simulation.arrive("key", [0] * 20)
    simulation.arrive("late", [STALLED_S + 0.1] * 10)
    simulation.arrive("other", [STALLED_S + 0.2] * 10)
    simulation.run(until=60)
    assert simulation.outcomes["key"].refused == 0
    assert simulation.outcomes["late"].refused == simulation.outcomes["other"].refused == 10


async def test_a_flooding_owner_is_refused_and_a_modest_owner_waits_briefly() -> None:
    simulation = Simulation(lambda _: STATEMENT_S, servers=1, limit_s=LIMIT_S)
    simulation.arrive("flood", spread(1_000, 0, 60))
    simulation.arrive("modest", spread(20, 0, 60, seed=2))
    simulation.run()
    flood, modest = simulation.outcomes["flood"], simulation.outcomes["modest"]
    assert modest.refused == 0
    assert max(modest.waited_s) < 10 * STATEMENT_S
    assert flood.refused > 50_000
    assert max(flood.waited_s) < 1.5 * REQUEST_LIFE_S
    assert flood.find_p99(after=2_000) < 2 * LIMIT_S  # after the first crowd
    assert len(flood.waited_s) + len(modest.waited_s) == pytest.approx(6_000, rel=0.02)


async def test_owners_with_equal_demand_are_served_equally() -> None:
    simulation = Simulation(lambda _: STATEMENT_S, servers=2, limit_s=LIMIT_S)
    for owner in range(5):
        simulation.arrive(owner, spread(100, 0, 60, seed=owner))
    simulation.run()
    served = [len(outcome.waited_s) for outcome in simulation.outcomes.values()]
    assert max(served) < 1.15 * min(served)
