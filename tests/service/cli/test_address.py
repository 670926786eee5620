import socket

import pytest

from service.cli.address import check_port, find_reachable_host, make_url
from service.cli.processes import StartError


def test_a_free_port_passes_and_stays_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "127.0.0.1"])
def test_a_port_taken_on_loopback_is_taken_for_all_addresses(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StartError, match=f"^Port {port} on {host} is taken: "):
            check_port(host, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a" * 300])
def test_a_host_that_is_not_this_machine_is_named(host: str) -> None:
    with pytest.raises(StartError, match=f"^HOST {host} is not an address of this machine "):
        check_port(host, 8080)


def test_urls_have_the_form_that_browsers_accept() -> None:
    assert make_url("127.0.0.1", 8080) == "http://127.0.0.1:8080"
    assert make_url("::1", 8080) == "http://[::1]:8080"


def test_a_server_on_all_addresses_is_reached_on_loopback() -> None:
    assert find_reachable_host("0.0.0.0") == "127.0.0.1"
    assert find_reachable_host("::") == "::1"
    assert find_reachable_host("10.0.0.7") == "10.0.0.7"
