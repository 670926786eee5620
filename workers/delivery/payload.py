"""The thin form of an event: what happened to what, without personal data (pure)."""

from typing import Any

import msgspec

_NOUNS = ("lead", "conversation", "webhook")
_KEPT = ("expired", "version", "actor", "test")


class _Envelope(msgspec.Struct):
    id: str
    type: str
    api_version: str = msgspec.field(name="apiVersion")
    created_at: str = msgspec.field(name="createdAt")
    data: dict[str, Any]


def make_thin(body: bytes) -> bytes:
    """The same envelope; its data only has the id of what it is about, version and actor.

    And `expired` of `webhook.expired`, which is what that says. Always the same bytes for the same
    event, as a repeated attempt must have them.
    """
    envelope = msgspec.json.decode(body, type=_Envelope)
    thin = {f"{noun}Id": envelope.data[noun]["id"] for noun in _NOUNS if noun in envelope.data}
    thin |= {name: envelope.data[name] for name in _KEPT if name in envelope.data}
    envelope.data = thin
    return msgspec.json.encode(envelope)
