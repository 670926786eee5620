"""The Standard Webhooks signature (version 1.0): HMAC-SHA256 over id, time, body."""

import base64
import hmac
from collections.abc import Sequence


def sign(keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one `v1,…` for each key, in their order.

    `timestamp` in Unix seconds.
    """
    message = b"%b.%d.%b" % (event_id.encode(), timestamp, body)
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key, message, "sha256")).decode() for key in keys
    )
