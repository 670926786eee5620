"""Signing secrets of webhooks: their form, and the owner of an encrypted secret."""

import base64
import binascii
import secrets

SECRET_BYTES = 32
_SECRET_PREFIX = "whsec_"  # noqa: S105  # a prefix, no secret
_MIN_SECRET_BYTES, _MAX_SECRET_BYTES = 24, 64


def decode_secret(secret: str) -> bytes:
    """Decode the key of a `whsec_…` secret. Raises ValueError; its message continues `secret …`."""
    text = secret.removeprefix(_SECRET_PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if text == secret or not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
        raise ValueError(
            f"must be {_SECRET_PREFIX} and {_MIN_SECRET_BYTES} to {_MAX_SECRET_BYTES} bytes "
            "in base64."
        )
    return key


def make_secret() -> str:
    """Make a random secret in the form of Standard Webhooks."""
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def make_secret_owner(tenant_id: int, endpoint_id: str) -> str:
    """Name the owner to which an encrypted secret or header is bound; see service/encryption.py."""
    return f"endpoint {endpoint_id} of tenant {tenant_id}"
