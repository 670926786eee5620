"""Seals what must be read back but never lie about in plain text: webhook secrets and headers.

AES-256-GCM. A sealed value is the key's id (4 bytes of its SHA-256), a random nonce (12 bytes),
ciphertext and tag. What it belongs to (tenant, endpoint) is authenticated with it, so a value moved
to another row does not open there.
"""

import base64
import binascii
import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.settings import Settings, SettingsError

_KEY_BYTES = 32
_ID_BYTES = 4
_NONCE_BYTES = 12


class SealError(Exception):
    """A sealed value that none of our keys opens; the message says whose."""


class SecretBox:
    """The first key seals, each of them opens what it sealed."""

    def __init__(self, keys: list[bytes]) -> None:
        self._ciphers = {_make_key_id(key): AESGCM(key) for key in keys}
        self.current_key_id = _make_key_id(keys[0])

    def seal(self, plain: bytes, owner: str) -> bytes:
        """`owner` is what it belongs to; needed again to open it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self.current_key_id].encrypt(nonce, plain, owner.encode())
        return self.current_key_id + nonce + sealed

    def open(self, sealed: bytes, owner: str) -> bytes:
        """What was sealed for this owner. Raises SealError."""
        cipher = self._ciphers.get(sealed[:_ID_BYTES])
        if cipher is None:
            raise SealError(
                f"a secret of {owner} was sealed with another SECRET_KEY: add that key to "
                "SECRET_KEY behind the current one, with a comma in between"
            )
        nonce_end = _ID_BYTES + _NONCE_BYTES
        try:
            return cipher.decrypt(sealed[_ID_BYTES:nonce_end], sealed[nonce_end:], owner.encode())
        except InvalidTag:
            raise SealError(f"a secret of {owner} has been changed in the database") from None


def make_box(settings: Settings) -> SecretBox:
    """The box of SECRET_KEY: one key, or several with commas in between. Raises SettingsError."""
    if not settings.secret_key:
        raise SettingsError(
            "SECRET_KEY is not set: webhooks need it, to encrypt their secrets. Give 32 random "
            "bytes in URL-safe base64, such as `openssl rand -base64 32 | tr +/ -_` prints."
        )
    return SecretBox([_decode_key(part.strip()) for part in settings.secret_key.split(",")])


def _decode_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(
            "SECRET_KEY is not 32 bytes in URL-safe base64 (44 characters with the = at the end)."
        )
    return key


def _make_key_id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:_ID_BYTES]
