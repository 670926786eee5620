"""Test events look like real ones, and thin ones still say what they are about."""

import json
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest

from service.db import Pool
from service.models import Lead
from service.webhooks.endpoints import EventType
from service.webhooks.sample_events import make_test_event
from tests.workbench import Workbench
from workers.delivery.payload import make_thin

TYPES = get_args(EventType)


def make(event_type: str) -> dict[str, Any]:
    body = make_test_event("evt_1", event_type, "wh_1", datetime.now(UTC))
    found: dict[str, Any] = json.loads(body)
    return found


def find_shape(data: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
    """Every field, and the fields of what it holds."""
    return [
        (name, sorted(value) if isinstance(value, dict) and name != "changes" else None)
        for name, value in sorted(data.items())
        if name != "test"
    ]


async def test_a_test_event_of_a_lead_has_the_fields_of_a_real_one(bench: Workbench) -> None:
    lead_id = await bench.capture('{"email": "one@example.com"}')
    await bench.patch(lead_id, '{"status": "qualified"}')
    await bench.patch(lead_id, '{"status": "converted"}')
    await bench.delete(lead_id)
    real = {event["type"]: json.loads(event["data"]) for event in await bench.events(lead_id)}
    assert set(real) == {kind for kind in TYPES if kind.startswith("lead.")}
    for kind, data in real.items():
        assert find_shape(make(kind)["data"]) == find_shape(data), kind
    assert make("lead.converted")["data"]["lead"]["status"] == "converted"
    assert list(make("lead.created")["data"]["lead"]) == list(Lead.__struct_encode_fields__)


@pytest.mark.parametrize("kind", ["webhook.failing", "webhook.disabled", "webhook.expired"])
async def test_a_test_event_of_a_webhook_has_the_fields_of_a_real_one(
    pool: Pool, kind: str
) -> None:
    async def list_fields(row_type: str) -> list[str]:
        rows = await pool.fetch(
            "SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
            "WHERE c.relname = $1 ORDER BY a.attnum", row_type,
        )  # fmt: skip
        return [row["attname"] for row in rows]

    data = make(kind)["data"]
    is_expired = kind == "webhook.expired"
    row_type = "webhook_expired_data" if is_expired else "webhook_event_data"
    assert [*data] == [*await list_fields(row_type), "test"]
    assert [*data["webhook"]] == await list_fields("webhook_on_wire")
    assert not is_expired or [*data["expired"]] == await list_fields("webhook_expiry")


@pytest.mark.parametrize("kind", TYPES)
def test_a_thin_event_names_what_it_is_about_and_nothing_else(kind: str) -> None:
    whole = make(kind)
    thin = json.loads(make_thin(msgspec.json.encode(whole)))
    noun = next(noun for noun in ("lead", "conversation", "webhook") if noun in whole["data"])
    assert noun == {"message": "conversation", "intent": "conversation"}.get(
        kind.partition(".")[0], kind.partition(".")[0]
    )
    kept = {"expired": whole["data"]["expired"]} if kind == "webhook.expired" else {}
    assert thin.pop("data") == {
        f"{noun}Id": whole["data"][noun]["id"], **kept, "version": 1, "actor": "test", "test": True,
    }  # fmt: skip
    assert thin == {name: whole[name] for name in ("id", "type", "apiVersion", "createdAt")}
