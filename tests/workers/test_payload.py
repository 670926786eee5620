"""Test events have the fields of real events, and thin events name their subject."""

import json
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest

from service.database.connect import Pool
from service.events.event_types import EventType
from service.events.payload import make_thin
from service.leads.models import Lead
from service.webhooks.sample_events import make_test_event
from tests.harness.worker_harness import WorkerHarness

TYPES = get_args(EventType)


def make(event_type: str) -> dict[str, Any]:
    body = make_test_event("evt_1", event_type, "wh_1", datetime.now(UTC))
    event: dict[str, Any] = json.loads(body)
    return event


def find_shape(data: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
    """Lists the fields of an event's data, each with the fields of its object."""
    return [
        (name, sorted(value) if isinstance(value, dict) and name != "changes" else None)
        for name, value in sorted(data.items())
        if name != "test"
    ]


async def test_a_test_event_of_a_lead_has_the_fields_of_a_real_event(
    harness: WorkerHarness,
) -> None:
    lead_id = await harness.capture('{"email": "one@example.com"}')
    await harness.patch(lead_id, '{"status": "qualified"}')
    await harness.patch(lead_id, '{"status": "converted"}')
    await harness.delete(lead_id)
    real = {event["type"]: json.loads(event["data"]) for event in await harness.events(lead_id)}
    assert set(real) == {event_type for event_type in TYPES if event_type.startswith("lead.")}
    for event_type, data in real.items():
        assert find_shape(make(event_type)["data"]) == find_shape(data), event_type
    assert make("lead.converted")["data"]["lead"]["status"] == "converted"
    assert list(make("lead.created")["data"]["lead"]) == list(Lead.__struct_encode_fields__)


@pytest.mark.parametrize("event_type", ["webhook.failing", "webhook.disabled", "webhook.expired"])
async def test_a_test_event_of_a_webhook_has_the_fields_of_a_real_event(
    pool: Pool, event_type: str
) -> None:
    async def list_fields(row_type: str) -> list[str]:
        rows = await pool.fetch(
            "SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
            "WHERE c.relname = $1 ORDER BY a.attnum", row_type,
        )  # fmt: skip
        return [row["attname"] for row in rows]

    data = make(event_type)["data"]
    is_expired = event_type == "webhook.expired"
    row_type = "webhook_expired_data" if is_expired else "webhook_event_data"
    assert [*data] == [*await list_fields(row_type), "test"]
    assert [*data["webhook"]] == await list_fields("webhook_on_wire")
    assert not is_expired or [*data["expired"]] == await list_fields("webhook_expiry")


@pytest.mark.parametrize("event_type", TYPES)
def test_a_thin_event_has_the_id_of_its_subject_instead_of_the_subject(event_type: str) -> None:
    whole = make(event_type)
    thin = json.loads(make_thin(msgspec.json.encode(whole)))
    noun = next(noun for noun in ("lead", "conversation", "webhook") if noun in whole["data"])
    assert noun == {"message": "conversation", "intent": "conversation"}.get(
        event_type.partition(".")[0], event_type.partition(".")[0]
    )
    kept = {"expired": whole["data"]["expired"]} if event_type == "webhook.expired" else {}
    assert thin.pop("data") == {
        f"{noun}Id": whole["data"][noun]["id"], **kept, "version": 1, "actor": "test", "test": True,
    }  # fmt: skip
    assert thin == {name: whole[name] for name in ("id", "type", "apiVersion", "createdAt")}
