"""The examples of the API's description: each request is sent, and gets the response shown."""

import json
from typing import Any

from aiohttp import web

from service.app import API, SERVICE
from service.database.connect import Pool
from service.docs.openapi.document import make_document
from service.docs.openapi.examples.call import KEY_ID, WEBHOOK_ID
from service.settings import Settings
from tests.harness.api_client import Api, ApiResponse
from tests.harness.running_service import RunningService, run_service, wait_until
from tests.loopback.receiver import Received, run_receiver
from tests.service.docs.example_matching import Matcher

Json = dict[str, Any]
DOCUMENT: Json = make_document(API, SERVICE, "https://leadlog.test/docs")
BY_NAME = {
    operation["operationId"]: (method, path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "servers"
}
WITHOUT_WORKERS = (
    "create_webhook", "update_webhook", "get_webhook", "list_webhooks", "rotate_webhook_secret",
    "test_webhook", "start_webhook_replay", "list_webhook_replays", "get_webhook_replay",
    "cancel_webhook_replay", "delete_webhook", "create_api_key", "list_api_keys",
    "rotate_api_key", "revoke_api_key", "report_live", "report_metrics", "send_openapi",
)  # fmt: skip
"""In an order that works: what a request needs was made by those before it."""
WITH_WORKERS = (
    "create_webhook", "capture_lead", "update_lead", "get_lead", "list_leads", "search_leads",
    "get_score", "list_events", "list_webhook_deliveries", "get_webhook_delivery",
    "resend_webhook_delivery", "report_ready", "delete_lead",
)  # fmt: skip


class Story:
    """Sends examples one after the other, with the ids that the service has given."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.matcher = Matcher()

    async def tell(self, name: str) -> ApiResponse:
        """Send the request of an operation, and compare the response with the example."""
        method, path, operation = BY_NAME[name]
        response = await self.send(method, path, operation)
        status, documented = next(iter(operation["responses"].items()))
        assert str(response.status) == status, (name, response.body)
        content = documented.get("content", {}).get("application/json", {})
        if "example" in content:
            self.compare(name, content["example"], response.json)
        return response

    async def send(self, method: str, path: str, operation: Json) -> ApiResponse:
        query = {}
        for each in operation.get("parameters", []):
            if each["in"] == "path":
                path = path.replace(f"{{{each['name']}}}", self.matcher.find(each["example"]))
            elif "example" in each:
                query[each["name"]] = each["example"]
        if (body := operation.get("requestBody")) is None:
            return await self.api.call(method.upper(), path, params=query)
        example = body["content"]["application/json"]["example"]
        return await self.api.call(method.upper(), path, json.dumps(example))

    def compare(self, name: str, example: Json, real: Json) -> None:
        if name == "list_api_keys":  # the tenant has other keys too
            names = {entry["name"] for entry in example["data"]}
            real = {"data": [entry for entry in real["data"] if entry["name"] in names]}
        self.matcher.check(example, real)


def test_the_stories_send_the_request_of_every_operation() -> None:
    assert {*WITHOUT_WORKERS, *WITH_WORKERS} == set(BY_NAME)


async def test_the_requests_of_the_document_get_the_responses_that_it_shows(fresh: Api) -> None:
    story = Story(fresh)
    for name in WITHOUT_WORKERS:
        await story.tell(name)


async def accept(_: Received) -> web.StreamResponse:
    return web.Response(status=204)


async def test_the_story_of_a_lead_is_as_the_document_shows_it(
    settings: Settings, committed: Pool
) -> None:
    async with run_receiver(accept) as receiver, run_service(settings, committed) as service:
        story = Story(service.api)
        story.matcher.name(KEY_ID, await find_key_id(service))
        await story.tell("create_webhook")
        path = f"/v1/webhooks/{story.matcher.find(WEBHOOK_ID)}"
        await service.api.patch(path, {"url": f"{receiver.url}/hooks/leads"})
        lead = (await story.tell("capture_lead")).json
        await wait_for_timeline(service, lead["id"], 2)
        await story.tell("update_lead")
        await wait_for_timeline(service, lead["id"], 5)
        await service.wait_finished(story.matcher.find(WEBHOOK_ID), 2)
        for name in WITH_WORKERS[3:]:
            await story.tell(name)
        await committed.execute("DELETE FROM webhook_event")
        method, path, operation = BY_NAME["resend_webhook_delivery"]
        refused = await story.send(method, path, operation)
        example = operation["responses"]["409"]["content"]["application/json"]["example"]
        assert (refused.status, refused.json) == (409, example)


async def find_key_id(service: RunningService) -> str:
    return str(
        await service.pool.fetchval(
            "SELECT id FROM api_key WHERE tenant_id = $1 AND live AND scope = 'admin'",
            service.api.tenant.id,
        )
    )


async def wait_for_timeline(service: RunningService, lead_id: str, count: int) -> None:
    """Wait until the timeline has so many entries; the newest is that of a new score."""

    async def look() -> bool:
        return len((await service.api.get(f"/v1/leads/{lead_id}")).json["timeline"]) == count

    await wait_until(look)
