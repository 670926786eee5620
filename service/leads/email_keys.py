"""E-mail keys: the normal form in which an address is unique (NFC, lower case, domain as A-label).

email-validator makes it, which takes about 120 µs per address. Plain ASCII addresses, most of the
traffic, are recognised by a regular expression instead; a test compares its results.
"""

import re
from functools import lru_cache

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

from service.validation.characters import INVISIBLE

MAX_KEY_LENGTH = 254
"""The limit of RFC 5321 and of the column."""
_ATOM = r"[A-Za-z0-9_+'=-]+"
_LABEL = r"(?![A-Za-z0-9-]{2}--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"(?=.{{1,64}}@){_ATOM}(?:\.{_ATOM})*@((?:{_LABEL}\.)+[A-Za-z]{{2,63}})")
_SPECIAL = tuple(SPECIAL_USE_DOMAIN_NAMES)
_RESERVED = tuple(f".{name}" for name in SPECIAL_USE_DOMAIN_NAMES if name != "test")


@lru_cache(maxsize=4096)  # a request needs it twice: for validation and for its row
def make_email_key(email: str) -> str:
    """The key of an address. Raises EmailNotValidError, also for a character that cannot be seen.

    Sends no DNS query.
    """
    address = email.strip()
    key = address.lower()
    plain = _PLAIN.fullmatch(address)
    if plain is None or plain[1].lower().endswith(_SPECIAL) or len(plain[1]) > 253:  # noqa: PLR2004  # RFC 1035
        if INVISIBLE.search(address):
            raise EmailNotValidError
        found = validate_email(address, check_deliverability=False, test_environment=True)
        key = f"{found.local_part.lower()}@{found.ascii_domain.lower()}"
    if len(key) > MAX_KEY_LENGTH:
        raise EmailNotValidError
    return key


def explain_invalid(email: str) -> str:
    """Say which part of an invalid address is at fault; it continues a sentence."""
    if hidden := INVISIBLE.search(email.strip()):
        return f"it holds U+{ord(hidden[0]):04X}, which cannot be seen"
    local, at, domain = email.strip().rpartition("@")
    if not at:
        return "it has no @"
    if not _is_valid(f"{local}@example.com"):
        return "the part before the @ is not valid"
    if f".{domain.lower()}".endswith(_RESERVED):
        return "the domain after the @ is reserved, so no mail reaches it"
    if not _is_valid(f"a@{domain}"):
        return "the domain after the @ is not valid"
    return f"it is longer than {MAX_KEY_LENGTH} characters with its domain encoded"


def _is_valid(email: str) -> bool:
    try:
        make_email_key(email)
    except EmailNotValidError:
        return False
    return True
