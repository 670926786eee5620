"""Faults of DATABASE_URL and REDIS_URL that are visible without a connection."""

import pytest

from service.server_urls import find_database_url_fault, find_redis_url_fault
from service.settings import SettingsError, load_settings

PORT = "has a port that is not a number from 1 to 65535"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgres://leadlog@/leadlog?host=/run/postgresql&port=5432",
        "postgresql://u:p@[::1]:5432/x",
        "postgresql://u:p@[::1]/x",
        "postgresql://a:5432,b:5433,c/x?sslmode=verify-full",
        "postgresql://u:a:b@h/x?host=a,b&port=5432,5433",
    ],
)
def test_a_good_database_address_has_no_fault(url: str) -> None:
    assert find_database_url_fault(url) is None


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("postgresql://u:geheim@h:abc/x", PORT),
        ("postgresql://u:geheim@h:99999/x", PORT),
        ("postgresql://u:geheim@h:0/x", PORT),
        ("postgresql://u:geheim@a:5432,b:x/x", PORT),
        ("postgresql://u:geheim@/x?port=x", PORT),
        ("postgresql://u:geheim@[::1/x", "must be an address that begins with postgresql://"),
        ("postgresql://u:geheim@h/x?sslmode=geheim", "has an sslmode other than allow,"),
    ],
)
def test_a_bad_database_address_is_named_without_its_value(url: str, fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"DATABASE_URL": url})
    assert f"DATABASE_URL {fault}" in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://h:6379/3",
        "redis://h/",
        "rediss://u:p@[::1]:6379/0?ssl_cert_reqs=none",
        "unix:///run/valkey.sock?db=1",
        "redis://h?socket_timeout=5&health_check_interval=10",
    ],
)
def test_a_good_redis_address_has_no_fault(url: str) -> None:
    assert find_redis_url_fault(url) is None


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis://u:geheim@h:x", PORT),
        ("redis://u:geheim@h:99999", PORT),
        ("redis://u:geheim@h/foo", "must end with the number of a database"),
        ("redis://u:geheim@h/0?socket_timeout=abc", "has an option after the ?"),
        ("redis://u:geheim@h/0?nosuch=abc", "has an option after the ?"),
        ("redis://u:geheim@h/0?protocol=abc", "has an option after the ?"),
        ("rediss://u:geheim@h/0?ssl_cert_reqs=abc", "has an option after the ?"),
        ("unix://", "must have the path of a socket after unix://"),
        ("unix://?db=0", "must have the path of a socket after unix://"),
        ("http://u:geheim@h", "must be an address that begins with redis://"),
    ],
)
def test_a_bad_redis_address_is_named_without_its_value(url: str, fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"REDIS_URL": url})
    assert f"REDIS_URL {fault}" in str(caught.value)
    assert "geheim" not in str(caught.value)
