"""The example of an operation: what is sent, and what the service answers."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and the body of the response to it."""

    ids: Mapping[str, str] = {}
    """The ids in the path, by the name of the parameter."""
    query: Mapping[str, str] = {}
    body: Any = None
    reply: Any = None
    also: Mapping[int, Any] = {}
    """The bodies of other responses that are no errors, by status."""


LEAD_ID = "lead_01K8Z7M2T4V6X8A0C2E4G6J8M0"
KEY_ID = "key_01K8Z7N5B7D9F1H3K5M7P9R1T3"
WEBHOOK_ID = "wh_01K8Z7P1C3E5G7J9M1P3R5T7V9"
DELIVERY_ID = "dlv_1f0b5a7c92d46e38b7c1a4e05d9f2863"
REPLAY_ID = "rpl_01K8Z7R2F4H6K8M0P2R4T6V8X0"
