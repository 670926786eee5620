import pytest

from tests.loopback.raw_server import make_endpoint_config
from workers.delivery.parsed_url import InvalidUrlError, Origin, ParsedUrl, parse_url
from workers.delivery.sender import make_head


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://a.test", ParsedUrl(Origin(True, "a.test", 443), "/", "a.test")),
        ("http://a.test:80/x?y=1", ParsedUrl(Origin(False, "a.test", 80), "/x?y=1", "a.test")),
        ("https://A.Test:8443/X", ParsedUrl(Origin(True, "a.test", 8443), "/X", "a.test:8443")),
        ("https://[2001:DB8::1]:1/", ParsedUrl(
            Origin(True, "2001:db8::1", 1), "/", "[2001:db8::1]:1")),
        ("https://zoë.test/ä b%20c", ParsedUrl(
            Origin(True, "xn--zo-ija.test", 443), "/%C3%A4%20b%20c", "xn--zo-ija.test")),
        ("http://①②⑦.0.0.1/", ParsedUrl(Origin(False, "127.0.0.1", 80), "/", "127.0.0.1")),
        ("https://a.test/?q=a b\x7f", ParsedUrl(
            Origin(True, "a.test", 443), "/?q=a%20b%7F", "a.test")),
    ],
)  # fmt: skip
def test_a_url_is_parsed_into_origin_target_and_host(url: str, place: ParsedUrl) -> None:
    assert parse_url(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "", "a.test", "ftp://a.test/", "https://", "https:///x", "https://u@a.test/",
        "https://a b.test/", "https://a.test:x/", "https://a.test:99999/", "https://[::1/",
        "https://[fe80::1%25eth0]/", "https://a.test\x00/", "https://ä..test/",
    ],
)  # fmt: skip
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidUrlError):
        parse_url(url)


@pytest.mark.parametrize("value", ["a\r\nwebhook-id: evt_2", "a\nb", "a\rb", "a\r\n\r\nGET /"])
def test_a_header_with_a_line_break_is_refused(value: str) -> None:
    endpoint = make_endpoint_config("https://a.test/", headers={"X": value})
    with pytest.raises(ValueError, match="line break"):
        make_head(parse_url(endpoint.url), endpoint, "evt_1", 1, 0, b"{}")
