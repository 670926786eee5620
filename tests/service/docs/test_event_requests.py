"""The section `webhooks` of the API's description: as the requests that receivers get."""

from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest

from service.app import API, SERVICE
from service.database.connect import Pool
from service.docs.openapi.document import make_document
from service.events.event_types import EventType
from service.events.payload import make_thin
from service.settings import Settings
from service.webhooks.event_models import Event, ThinEvent
from service.webhooks.sample_events import make_test_event
from tests.harness.running_service import run_service
from tests.loopback.receiver import run_receiver

DOCUMENT: dict[str, Any] = make_document(API, SERVICE, "https://leadlog.test/docs")
TYPES = get_args(EventType)
OF_HTTP = {"host", "accept", "accept-encoding", "content-type", "content-length"}


def test_there_is_a_request_for_every_event_type_and_no_other() -> None:
    assert list(DOCUMENT["webhooks"]) == list(TYPES)
    assert [kind.__struct_config__.tag for kind in get_args(Event)] == list(TYPES)
    event = DOCUMENT["components"]["schemas"]["Event"]
    assert list(event["discriminator"]["mapping"]) == list(TYPES)
    assert len(event["oneOf"]) == len(TYPES)


@pytest.mark.parametrize("event_type", TYPES)
def test_a_test_event_has_the_fields_of_its_schema_and_is_the_example(event_type: str) -> None:
    at = datetime(2026, 10, 14, 13, 5, 48, 917_000, UTC)
    body = make_test_event("evt_01K8Z7QH3R5T7V9X1Z3B5D7F9H", event_type, "wh_1", at)
    assert_has_all_fields(body, Event)
    assert_has_all_fields(make_thin(body), ThinEvent)
    request = DOCUMENT["webhooks"][event_type]["post"]["requestBody"]
    content = request["content"]["application/json"]
    kind = type(msgspec.json.decode(body, type=Event))
    assert content["schema"] == {"$ref": f"#/components/schemas/{kind.__name__}"}
    example = msgspec.json.encode(content["example"])
    assert example == body.replace(b'"wh_1"', b'"wh_01K8Z7P1C3E5G7J9M1P3R5T7V9"')


def assert_has_all_fields(body: bytes, kind: Any) -> None:
    """Assert that the JSON is of the type, and has no field that the type lacks."""
    decoded = msgspec.json.decode(body, type=kind)
    assert msgspec.to_builtins(decoded) == msgspec.json.decode(body)


async def test_a_real_request_has_the_headers_and_the_body_that_are_described(
    settings: Settings, committed: Pool
) -> None:
    async with run_receiver() as receiver, run_service(settings, committed) as service:
        events = ["lead.created", "lead.updated", "lead.converted", "lead.deleted"]
        await service.add_webhook(receiver.url, *events)
        lead_id = await service.add_lead("real@example.com", customFields={"industry": "SaaS"})
        await service.api.patch(f"/v1/leads/{lead_id}", {"status": "converted"})
        await receiver.wait_for(4)
        await service.api.delete(f"/v1/leads/{lead_id}")
        received = await receiver.wait_for(5)
        log = (await service.api.get("/v1/events")).json["data"]
    for request in received:
        described = DOCUMENT["webhooks"][request.event["type"]]["post"]
        names = {each["$ref"].rpartition("/")[2].lower() for each in described["parameters"]}
        assert set(request.headers) - OF_HTTP == names
        shown = DOCUMENT["components"]["parameters"]["User-Agent"]["example"]
        assert request.headers["user-agent"] == shown
        assert_has_all_fields(request.body, Event)
    for event in log:
        assert_has_all_fields(msgspec.json.encode(event), Event)
