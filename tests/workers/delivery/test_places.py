import pytest

from workers.delivery.places import InvalidUrlError, Origin, Place, parse_place
from workers.delivery.sender import Target, make_head


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://a.test", Place(Origin(True, "a.test", 443), "/", "a.test")),
        ("http://a.test:80/x?y=1", Place(Origin(False, "a.test", 80), "/x?y=1", "a.test")),
        ("https://A.Test:8443/X", Place(Origin(True, "a.test", 8443), "/X", "a.test:8443")),
        ("https://[2001:DB8::1]:1/", Place(Origin(True, "2001:db8::1", 1), "/", "[2001:db8::1]:1")),
        ("https://zoë.test/ä b%20c", Place(
            Origin(True, "xn--zo-ija.test", 443), "/%C3%A4%20b%20c", "xn--zo-ija.test")),
        ("http://①②⑦.0.0.1/", Place(Origin(False, "127.0.0.1", 80), "/", "127.0.0.1")),
        ("https://a.test/?q=a b\x7f", Place(Origin(True, "a.test", 443), "/?q=a%20b%7F", "a.test")),
    ],
)  # fmt: skip
def test_a_url_becomes_what_a_request_needs(url: str, place: Place) -> None:
    assert parse_place(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "", "a.test", "ftp://a.test/", "https://", "https:///x", "https://u@a.test/",
        "https://a b.test/", "https://a.test:x/", "https://a.test:99999/", "https://[::1/",
        "https://[fe80::1%25eth0]/", "https://a.test\x00/", "https://ä..test/",
    ],
)  # fmt: skip
def test_what_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(InvalidUrlError):
        parse_place(url)


@pytest.mark.parametrize("value", ["a\r\nwebhook-id: evt_2", "a\nb", "a\rb", "a\r\n\r\nGET /"])
def test_a_header_cannot_smuggle_another_in(value: str) -> None:
    target = Target(
        1, True, "wh_1", "https://a.test/", (b"k",), {"X": value}, 1.0, False, "", None, 0
    )
    with pytest.raises(ValueError, match="line break"):
        make_head(parse_place(target.url), target, "evt_1", 1, 0, b"{}")
