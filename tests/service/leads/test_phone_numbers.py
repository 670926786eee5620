import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.leads.phone_numbers import check_phone, make_e164

# What people write, and its E.164 form without and with a default country (Germany).
NUMBERS = [
    ("+1-555-0142", "+15550142", "+15550142"),
    ("+1 555 014 2000", "+15550142000", "+15550142000"),
    ("+1 555 014 2000 x22", "+15550142000", "+15550142000"),
    ("+1 555 014 2000x22", "+15550142000", "+15550142000"),
    ("1-800-555-0100 Ext. 4", None, "+4918005550100"),
    ("tel:+1-201-555-0123;ext=2", "+12015550123", "+12015550123"),
    ("555-0142,,22#", None, "+495550142"),
    ("(555) 014-2000", None, "+495550142000"),
    ("0171 2345678", None, "+491712345678"),
    ("0171\u20132345678", None, "+491712345678"),
    ("030/1234 567", None, "+49301234567"),
    ("+49 (0) 171 / 23 45 678", "+491712345678", "+491712345678"),
    ("+49\u00a0171\u20112345678", "+491712345678", "+491712345678"),
    ("\u202a+49 171 2345678\u202c", "+491712345678", "+491712345678"),
    ("Tel. 0171.234.5678", None, "+491712345678"),
    ("Mobile: 0171 2345678", None, "+491712345678"),
    ("\u260e 0171 2345678", None, "+491712345678"),
    ("\uff0b\uff14\uff19\uff08\uff11\uff17\uff11\uff09\uff12\uff13\uff14\uff0d\uff15\uff16\uff17\uff18",
     "+491712345678", "+491712345678"),
    ("٠١٧١ ٢٣٤٥٦٧٨", None, "+491712345678"),
    ("+४९ १७१ २३४५६७८", "+491712345678", "+491712345678"),
    ("03ー1234ー5678", None, "+49312345678"),
    ("112", None, "+49112"),
]  # fmt: skip


@pytest.mark.parametrize(("phone", "alone", "in_germany"), NUMBERS)
def test_a_number_as_people_write_it(phone: str, alone: str | None, in_germany: str) -> None:
    assert not list(check_phone(phone))
    assert make_e164(phone, None) == alone
    assert make_e164(phone, "DE") == in_germany


@pytest.mark.parametrize(
    "phone",
    ["12", "+1", "1" * 21, "+++", "none", "n/a", "call me", "five five five", "1x", "ab12345",
     "0171 2345678 after 6", "ann@example.com", "2 of 3 offices"],
)  # fmt: skip
def test_words_are_no_number(phone: str) -> None:
    [fault] = check_phone(phone)
    assert (fault.field, fault.code) == ("phone", "invalid_phone")


def test_no_phone_has_no_form() -> None:
    assert make_e164(None, "DE") is None


@given(st.text(max_size=50))
@settings(deadline=None)
def test_any_text_is_read_without_an_error(text: str) -> None:
    list(check_phone(text))
    number = make_e164(text, "US")
    assert number is None or (number.isascii() and number[1:].isdigit() and len(number) <= 16)


@pytest.mark.parametrize("text", ["ext" * 16, "x1" * 25, "1ext" * 12, "int1" * 12 + "!", "(" * 50])
def test_a_long_text_is_checked_quickly(text: str) -> None:
    began = time.process_time()
    list(check_phone(text))
    assert time.process_time() - began < 0.1
