"""The Standard Webhooks signature (version 1.0): HMAC-SHA256 over event id, time and body."""

import base64
import hmac
from collections.abc import Sequence


def sign(keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes) -> str:
    """Make the value of the header `webhook-signature`: one `v1,…` for each key, in their order.

    `timestamp` is in Unix seconds.
    """
    message = b"%b.%d.%b" % (event_id.encode(), timestamp, body)
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key, message, "sha256")).decode() for key in keys
    )


def verify(keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes, header: str) -> bool:
    """Whether a signature in the header `webhook-signature` was made with one of the keys.

    The receiver checks by itself that the timestamp is recent.
    """
    expected = [each.encode() for each in sign(keys, event_id, timestamp, body).split()]
    received = [each.encode() for each in header.split()]
    return any(hmac.compare_digest(one, other) for one in expected for other in received)
