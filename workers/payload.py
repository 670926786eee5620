"""The thin form of an event: what happened to which lead, without personal data (pure)."""

from typing import Any

import msgspec

_KEPT = ("version", "actor", "test")


class _Envelope(msgspec.Struct):
    id: str
    type: str
    api_version: str = msgspec.field(name="apiVersion")
    created_at: str = msgspec.field(name="createdAt")
    data: dict[str, Any]


def make_thin(body: bytes) -> bytes:
    """The same envelope; its data only has `leadId` or `conversationId`, version and actor.

    Always the same bytes for the same event, as a repeated attempt must have them.
    """
    envelope = msgspec.json.decode(body, type=_Envelope)
    thin = {
        f"{noun}Id": envelope.data[noun]["id"]
        for noun in ("lead", "conversation")
        if noun in envelope.data
    }
    thin |= {name: envelope.data[name] for name in _KEPT if name in envelope.data}
    envelope.data = thin
    return msgspec.json.encode(envelope)
