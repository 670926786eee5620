"""Encrypts values at rest, such as webhook secrets and headers, with AES-256-GCM.

A sealed value is the id of the key (4 bytes of its SHA-256), a random nonce (12 bytes), ciphertext
and tag. Its owner (tenant, endpoint) is authenticated with it, so a value that is moved to another
row cannot be opened there.
"""

import base64
import binascii
import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.errors import Unavailable
from service.settings import Settings, SettingsError

_KEY_BYTES = 32
_ID_BYTES = 4
_NONCE_BYTES = 12


class DecryptionError(Exception):
    """A sealed value cannot be opened with the keys; the message names its owner."""


def check_secret_key(settings: Settings) -> None:
    """Raises SettingsError if SECRET_KEY is set and cannot be used."""
    if settings.secret_key:
        make_encryptor(settings)


class Encryptor:
    """Seals with the first key; opens values sealed with any of the keys."""

    def __init__(self, keys: list[bytes]) -> None:
        self._ciphers = {_make_key_id(key): AESGCM(key) for key in keys}
        self.current_key_id = _make_key_id(keys[0])
        self.key_ids = list(self._ciphers)

    def seal(self, plain: bytes, owner: str) -> bytes:
        """Encrypt a value; `owner` names what it belongs to, and is needed to open it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self.current_key_id].encrypt(nonce, plain, owner.encode())
        return self.current_key_id + nonce + sealed

    def open(self, sealed: bytes, owner: str) -> bytes:
        """Decrypt a value sealed for this owner. Raises DecryptionError."""
        cipher = self._ciphers.get(sealed[:_ID_BYTES])
        if cipher is None:
            raise DecryptionError(
                f"a secret of {owner} was sealed with another SECRET_KEY: add that key to "
                "SECRET_KEY behind the current one, with a comma in between"
            )
        nonce_end = _ID_BYTES + _NONCE_BYTES
        try:
            return cipher.decrypt(sealed[_ID_BYTES:nonce_end], sealed[nonce_end:], owner.encode())
        except InvalidTag:
            raise DecryptionError(f"a secret of {owner} has been changed in the database") from None


def make_encryptor(settings: Settings) -> Encryptor:
    """The encryptor for SECRET_KEY, one key or several with commas. Raises SettingsError."""
    if not settings.secret_key:
        raise SettingsError(
            "SECRET_KEY is not set: webhooks need it, to encrypt their secrets. Give 32 random "
            "bytes in URL-safe base64, such as `openssl rand -base64 32 | tr +/ -_` prints."
        )
    return Encryptor([_decode_key(part.strip()) for part in settings.secret_key.split(",")])


def open_encryptor(settings: Settings) -> Encryptor:
    """As make_encryptor, but raises Unavailable with the same message."""
    try:
        return make_encryptor(settings)
    except SettingsError as error:
        raise Unavailable(str(error), retry_after_s=60) from None


def _decode_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(
            "SECRET_KEY must be 32 random bytes in URL-safe base64 (44 characters, with the =), "
            "such as `openssl rand -base64 32 | tr +/ -_` prints."
        )
    return key


def _make_key_id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:_ID_BYTES]
