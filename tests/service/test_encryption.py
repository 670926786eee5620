import base64

import pytest

from service.encryption import DecryptionError, Encryptor, make_encryptor
from service.settings import Settings, SettingsError

OLD, NEW = bytes(32), bytes(range(32))


def encode(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode()


def test_a_sealed_value_can_be_opened_only_for_its_owner() -> None:
    box = Encryptor([OLD])
    sealed = box.seal(b"secret", "endpoint wh_1 of tenant 1")
    assert box.open(sealed, "endpoint wh_1 of tenant 1") == b"secret"
    with pytest.raises(DecryptionError, match="endpoint wh_2"):
        box.open(sealed, "endpoint wh_2 of tenant 1")


def test_sealing_a_secret_twice_gives_different_values_that_hide_it() -> None:
    box = Encryptor([OLD])
    first, second = box.seal(b"secret", "a"), box.seal(b"secret", "a")
    assert first != second
    assert b"secret" not in first


@pytest.mark.parametrize("place", [4, 16, -1])
def test_a_changed_value_cannot_be_opened(place: int) -> None:
    box = Encryptor([OLD])
    sealed = bytearray(box.seal(b"secret", "a"))
    sealed[place] ^= 1
    with pytest.raises(DecryptionError, match="changed"):
        box.open(bytes(sealed), "a")


def test_the_new_key_seals_and_the_old_key_still_opens() -> None:
    sealed = Encryptor([OLD]).seal(b"secret", "a")
    both = make_encryptor(Settings(secret_key=f"{encode(NEW)},{encode(OLD)}"))
    assert both.open(sealed, "a") == b"secret"
    again = both.seal(b"secret", "a")
    assert Encryptor([NEW]).open(again, "a") == b"secret"
    with pytest.raises(DecryptionError, match="SECRET_KEY"):
        Encryptor([NEW]).open(sealed, "a")


@pytest.mark.parametrize("text", [None, "", "short", "A" * 44, encode(bytes(31)), "é" * 43 + "="])
def test_a_missing_or_invalid_key_raises_an_error_that_names_secret_key(text: str | None) -> None:
    with pytest.raises(SettingsError, match="SECRET_KEY"):
        make_encryptor(Settings(secret_key=text))
