"""The URLs and addresses to which a webhook may go."""

# ruff: noqa: SIM905  # readable tables, with full-width digits

import pytest

from service.webhooks.url_policy import (
    BlockedAddressError,
    TargetError,
    check_url,
    is_allowed_address,
)

BAD_ADDRESSES = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 127.0.0.1 127.255.255.254 169.254.0.1
169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9 192.0.2.1 192.31.196.1 192.52.193.1
192.88.99.1 192.168.0.1 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.9 224.0.0.1
239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 ::ffff:0:7f00:1 ::5efe:7f00:1
64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1 100::1 2001::1 2001:2::1 2001:10::1 2001:20::1
2001:db8::1 2002:7f00:1:: 2002:a00:1::1 2620:4f:8000::1 3fff::1 5f00::1 fc00::1 fd12:3456::1
168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254 fd20:ce::254
fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 2606:4700::1%2 localhost example.com 1.2.3 0x7f000001
""".split()
GOOD_ADDRESSES = """
1.1.1.1 8.8.8.8 9.9.9.9 93.184.215.14 100.63.255.255 100.128.0.1 172.15.255.255 172.32.0.1
192.167.255.255 192.169.0.1 198.17.255.255 198.20.0.1 223.255.255.255 2606:4700:4700::1111
2001:4860:4860::8888 2a00:1450:4001:81b::200e 2400:cb00:2048:1::c629:d7a2
""".split()
PRIVATE_ADDRESSES = ["127.0.0.1", "::1", "10.1.2.3", "172.20.0.5", "192.168.1.9", "fd00::5"]
NEVER_ADDRESSES = """
0.0.0.0 224.0.0.1 fe80::1 :: ::ffff:127.0.0.1 169.254.169.254 169.254.170.2 100.100.100.200
192.0.0.192 168.63.129.16 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:c1::a9fe:a9fe fd00:42::42
fd00:a9fe:a9fe::1
""".split()

BAD_URLS = """
http://example.com/ ftp://example.com/ file:///etc/passwd gopher://example.com/ javascript:alert(1)
//example.com/ example.com https:// https:///x https://user@example.com/ https://u:p@example.com/
https://@example.com/ https://example.com/#part https://example.com/# https://example.com:0/
https://example.com:22/ https://example.com:25/ https://example.com:1023/ https://example.com:99999/
https://example.com:x/ https://127.0.0.1/ https://127.1/ https://0x7f.1/ https://2130706433/
https://0177.0.0.1/ https://0/ https://127.0.0.1./ https://[::1]/ https://[::ffff:127.0.0.1]/
https://[64:ff9b::7f00:1]/ https://[fe80::1%25eth0]/ https://[v1.x]/ https://[]/ https://[::1
https://localhost/ https://a.localhost/ https://localhost./ https://LOCALHOST/ https://10.0.0.8/
https://169.254.169.254/latest/meta-data/ https://①②⑦.0.0.1/ https://１２７.0.0.1/ https://-a.example/
https://exa_mple..com/ https://example.com\\@127.0.0.1/ https://a%00b.example/ https://1.2.3.4.5/
https://999.1.1.1/ https://example.com%2f@evil.example/ https://ex*mple.com/ HTTP://example.com/
""".split()
GOOD_URLS = """
https://example.com https://example.com/ https://example.com/hook?a=1&b=%20 HTTPS://EXAMPLE.COM/x
https://example.com:443/ https://example.com:80/ https://example.com:1024/ https://example.com:65535/
https://8.8.8.8/ https://[2606:4700:4700::1111]/hook https://bücher.example/ https://例え.jp/フック
https://xn--bcher-kva.example/ https://a_b.example.com/ https://example.com./
""".split()


def test_the_tables_have_enough_distinct_addresses() -> None:
    assert len(set(BAD_ADDRESSES)) >= 50
    assert len(set(GOOD_ADDRESSES)) >= 10


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_no_webhook_goes_to_a_private_or_reserved_address(address: str) -> None:
    assert not is_allowed_address(address, private=False)


@pytest.mark.parametrize("address", GOOD_ADDRESSES)
def test_webhooks_go_to_public_addresses(address: str) -> None:
    assert is_allowed_address(address, private=False)


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_private_networks_are_allowed_only_by_the_setting(address: str) -> None:
    assert is_allowed_address(address, private=True)
    assert not is_allowed_address(address, private=False)


@pytest.mark.parametrize("address", NEVER_ADDRESSES)
def test_the_setting_allows_no_other_networks(address: str) -> None:
    assert not is_allowed_address(address, private=True)


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_with_a_forbidden_host_port_or_form_is_refused(url: str) -> None:
    with pytest.raises(TargetError):
        check_url(url, private=False)


@pytest.mark.parametrize("character", [" ", "\t", "\n", "\r", "\0", "\x7f", "\u2028"])
def test_a_url_with_a_space_or_control_character_is_refused(character: str) -> None:
    with pytest.raises(TargetError):
        check_url(f"https://example.com/a{character}b", private=False)


def test_a_url_has_at_most_2048_characters() -> None:
    head = "https://example.com/"
    assert check_url(head + "a" * (2048 - len(head)), private=False) == "example.com"
    with pytest.raises(TargetError, match="2048"):
        check_url(head + "a" * (2049 - len(head)), private=False)


@pytest.mark.parametrize("url", GOOD_URLS)
def test_an_ordinary_url_is_accepted(url: str) -> None:
    assert check_url(url, private=False)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/x", "http://localhost:22/", "http://[::1]/"]
)
def test_the_setting_allows_plain_http_and_this_machine(url: str) -> None:
    assert check_url(url, private=True)
    with pytest.raises(TargetError):
        check_url(url, private=False)


@pytest.mark.parametrize("private", [True, False])
def test_port_0_is_refused_even_with_the_setting(private: bool) -> None:
    with pytest.raises(TargetError, match="port 0"):
        check_url("https://example.com:0/", private=private)


def test_an_address_in_an_unusual_form_is_refused_even_with_the_setting() -> None:
    with pytest.raises(BlockedAddressError):
        check_url("http://127.1/", private=True)
