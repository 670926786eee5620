import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.leads.email_keys import _PLAIN, explain_invalid, make_email_key


def make_reference_key(address: str) -> str | None:
    try:
        found = validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return None
    return f"{found.local_part.lower()}@{found.ascii_domain.lower()}"


plain_looking = st.from_regex(_PLAIN, fullmatch=True) | st.from_regex(
    r"[a-zA-Z0-9._+'=-]{1,70}@[a-zA-Z0-9.-]{1,80}\.(com|test|local|arpa|localhost|onion|x--y)",
    fullmatch=True,
)


@given(plain_looking)
@example("0@0---0.com")
@settings(max_examples=150, deadline=None)
def test_the_regular_expression_never_differs_from_email_validator(address: str) -> None:
    expected = make_reference_key(address)
    if expected is None or len(expected) > 254:
        with pytest.raises(EmailNotValidError):
            make_email_key(address)
    else:
        assert make_email_key(address) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Sarah@ACME.com", "sarah@acme.com"),
        (" sarah@acme.com ", "sarah@acme.com"),
        ("user@müller.de", "user@xn--mller-kva.de"),
        ("user@STRASSE.de", "user@strasse.de"),
        ("jose\u0301@acme.com", "josé@acme.com"),
    ],
)
def test_spellings_of_one_address_share_a_key(one: str, other: str) -> None:
    assert make_email_key(one) == make_email_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("user@straße.de", "user@strasse.de"),
        ("a+b@acme.com", "a@acme.com"),
        ("a.b@gmail.com", "ab@gmail.com"),
    ],
)
def test_different_mailboxes_keep_different_keys(one: str, other: str) -> None:
    assert make_email_key(one) != make_email_key(other)


@pytest.mark.parametrize(
    "address",
    [
        "a b@acme.com",
        '"a b"@acme.com',
        "a@",
        "@b.com",
        "a@b",
        "a@@b.com",
        "a@[127.0.0.1]",
        "a@b..com",
        "a" * 250 + "@b.com",
        "x" * 60 + "@" + "é" * 60 + ".com" * 40,
    ],
)
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(EmailNotValidError):
        make_email_key(address)


@pytest.mark.parametrize(
    "hidden",
    [
        "\u00ad", "\u034f", "\u115f", "\u17b4", "\u180e", "\u200b", "\u200d", "\u202e", "\u2060",
        "\u2800", "\u3164", "\ufe0f", "\ufeff", "\uffa0", "\U0001d159", "\U00013441", "\U000e0100",
    ],
)  # fmt: skip
@pytest.mark.parametrize("address", ["a{}nn@example.com", "ann{}@example.com", "ann@exam{}ple.com"])
def test_an_address_has_no_character_that_cannot_be_seen(address: str, hidden: str) -> None:
    with pytest.raises(EmailNotValidError):
        make_email_key(address.format(hidden))
    assert explain_invalid(address.format(hidden)).startswith(f"it holds U+{ord(hidden):04X}")
