import base64

import pytest

from service.secretbox import SealError, SecretBox, make_box
from service.settings import Settings, SettingsError

OLD, NEW = bytes(32), bytes(range(32))


def encode(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode()


def test_what_is_sealed_opens_for_its_owner_and_nobody_else() -> None:
    box = SecretBox([OLD])
    sealed = box.seal(b"secret", "endpoint wh_1 of tenant 1")
    assert box.open(sealed, "endpoint wh_1 of tenant 1") == b"secret"
    with pytest.raises(SealError, match="endpoint wh_2"):
        box.open(sealed, "endpoint wh_2 of tenant 1")


def test_the_same_secret_never_looks_the_same_and_never_shows() -> None:
    box = SecretBox([OLD])
    first, second = box.seal(b"secret", "a"), box.seal(b"secret", "a")
    assert first != second
    assert b"secret" not in first


@pytest.mark.parametrize("place", [4, 16, -1])
def test_a_changed_value_does_not_open(place: int) -> None:
    box = SecretBox([OLD])
    sealed = bytearray(box.seal(b"secret", "a"))
    sealed[place] ^= 1
    with pytest.raises(SealError, match="changed"):
        box.open(bytes(sealed), "a")


def test_a_new_key_seals_while_the_old_one_still_opens() -> None:
    sealed = SecretBox([OLD]).seal(b"secret", "a")
    both = make_box(Settings(secret_key=f"{encode(NEW)},{encode(OLD)}"))
    assert both.open(sealed, "a") == b"secret"
    again = both.seal(b"secret", "a")
    assert SecretBox([NEW]).open(again, "a") == b"secret"
    with pytest.raises(SealError, match="SECRET_KEY"):
        SecretBox([NEW]).open(sealed, "a")


@pytest.mark.parametrize("text", [None, "", "short", "A" * 44, encode(bytes(31)), "é" * 43 + "="])
def test_a_key_that_is_none_is_refused_in_a_sentence(text: str | None) -> None:
    with pytest.raises(SettingsError, match="SECRET_KEY"):
        make_box(Settings(secret_key=text))
