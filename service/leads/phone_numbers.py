"""Phone numbers: which texts are taken as one, and the E.164 form that search uses.

A number is stored as sent: "(555) 014-2000" is of use to a person, and a lead must not be lost
because of it. Only a text that is no number at all is refused.
"""

import re
import unicodedata
from collections.abc import Iterable

from phonenumbers import (
    SUPPORTED_REGIONS,
    NumberParseException,
    PhoneNumberFormat,
    format_number,
    is_possible_number,
    parse,
)

from service.errors import Fault
from service.validation.characters import INVISIBLE, is_blank

MIN_DIGITS, MAX_DIGITS = 3, 20
REGIONS: frozenset[str] = frozenset(SUPPORTED_REGIONS)
"""The countries (ISO 3166-1) whose numbers are known."""
_WORDS = (
    "tel", "telephone", "telefon", "phone", "ph", "mob", "mobile", "mobil", "cell", "fax",
    "x", "ext", "extn", "extension", "durchwahl", "dw", "poste", "int", "доб",
    "内線", "内线", "내선",
)  # fmt: skip
# Brackets, dashes, dots, slashes and signs of every script; NFKC has made them plain before.
_SIGNS = r"\s+()\[\]{}<>【】「」〈〉.,:;/\\|#*'’_~=\-‐‑‒–—―−ー・·•☎☏✆📞📱"  # noqa: RUF001  # other scripts' signs
_NUMBER = re.compile(rf"(?:[\d{_SIGNS}]|(?<![^\W\d])(?:{'|'.join(_WORDS)})(?=[\d{_SIGNS}]))*")


def check_phone(phone: str) -> Iterable[Fault]:
    """Checks for 3 to 20 digits with nothing but the signs and words of phone numbers."""
    if is_blank(phone) or _is_number(_simplify(phone)):
        return ()
    message = (
        f"phone must be a phone number with {MIN_DIGITS} to {MAX_DIGITS} digits, such as "
        "+1 555 014 2000 or (0171) 2345678 ext. 22."
    )
    return (Fault("phone", "invalid_phone", message),)


def make_e164(phone: str | None, region: str | None) -> str | None:
    """The number in E.164 form, such as +15550142000; None if it cannot be known.

    `region` is the country of numbers without a country code, such as DE. Without it only
    numbers with a country code have the form.
    """
    if phone is None:
        return None
    try:
        number = parse(_simplify(phone), region)
    except NumberParseException:
        return None
    return format_number(number, PhoneNumberFormat.E164) if is_possible_number(number) else None


def _is_number(simple: str) -> bool:
    digits = sum(map(str.isdecimal, simple))
    return MIN_DIGITS <= digits <= MAX_DIGITS and _NUMBER.fullmatch(simple) is not None


def _simplify(phone: str) -> str:
    """Plain digits and signs instead of full-width ones; nothing that cannot be seen."""
    return unicodedata.normalize("NFKC", INVISIBLE.sub("", phone)).casefold()
