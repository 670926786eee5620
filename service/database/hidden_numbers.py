"""Hides the numbers that count the work of all tenants, in ids and cursors that clients see.

Deliveries, events and ticks are numbered over all tenants. Two such numbers, some time apart, would
tell each tenant how much all of them do. The key is a row of the database: it needs no setting, and
a backup holds it together with the numbers. It protects nothing else, and is never changed.
"""

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

import sql
from service.database.connect import Pool

_NUMBER_BYTES = 8
_ID_DIGITS = 4 * _NUMBER_BYTES
_PADDED_BYTES = 80
"""The size of a text before it is sealed: its length would tell how long its numbers are."""


class NumberCipher:
    """Encrypts numbers; the same number gives the same text every time."""

    def __init__(self, key: bytes) -> None:
        # Each number is one block of its own, so ECB is AES itself: a keyed permutation.
        ids = Cipher(algorithms.AES256(_derive(key, b"ids")), modes.ECB())  # noqa: S305
        self._encryptor, self._decryptor = ids.encryptor(), ids.decryptor()
        self._texts = AESSIV(_derive(key, b"texts"))

    def hide(self, tenant_id: int, live: bool, number: int) -> str:
        """The number of an object of this tenant and mode, as 32 digits."""
        return self._encryptor.update(_encode(tenant_id * 2 + live) + _encode(number)).hex()

    def find(self, tenant_id: int, live: bool, text: str) -> int | None:
        """The hidden number; None for any text that is not a number of this tenant and mode."""
        try:
            block = bytes.fromhex(text)
        except ValueError:
            return None
        if block.hex() != text or len(text) != _ID_DIGITS:
            return None
        plain = self._decryptor.update(block)
        owner, number = plain[:_NUMBER_BYTES], plain[_NUMBER_BYTES:]
        return int.from_bytes(number) if owner == _encode(tenant_id * 2 + live) else None

    def seal(self, plain: bytes) -> bytes:
        """Encrypt a short text with numbers in it."""
        return self._texts.encrypt(plain.ljust(_PADDED_BYTES), None)

    def open(self, sealed: bytes) -> bytes | None:
        """Decrypt a sealed text; blanks may follow it. None if it was not sealed with this key."""
        try:
            return self._texts.decrypt(sealed, None)
        except (InvalidTag, ValueError):
            return None


class HiddenNumbers:
    """The cipher of a database, which is read once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._cipher: NumberCipher | None = None

    async def open(self) -> NumberCipher:
        """The cipher, read from the database by the first call."""
        if self._cipher is None:
            self._cipher = NumberCipher(await self._pool.fetchval(sql.number_key_get))
        return self._cipher


def _derive(key: bytes, purpose: bytes) -> bytes:
    return hashlib.sha256(purpose + b":" + key).digest()


def _encode(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES)
