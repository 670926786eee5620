"""The thin form of an event: its type and the ids concerned, without personal data (pure)."""

from typing import Any

import msgspec

_NOUNS = ("lead", "conversation", "webhook")
_KEPT = ("expired", "version", "actor", "test")


class _Envelope(msgspec.Struct, rename="camel"):
    id: str
    type: str
    api_version: str
    created_at: str
    data: dict[str, Any]


def make_thin(body: bytes) -> bytes:
    """Reduce the data of an envelope to the id of its subject and the fields of `_KEPT`.

    The same event always gives the same bytes: a repeated attempt must have the same body.
    """
    envelope = msgspec.json.decode(body, type=_Envelope)
    thin = {f"{noun}Id": envelope.data[noun]["id"] for noun in _NOUNS if noun in envelope.data}
    thin |= {name: envelope.data[name] for name in _KEPT if name in envelope.data}
    envelope.data = thin
    return msgspec.json.encode(envelope)
