import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ulid import ULID

from service.database.connect import Pool
from service.settings import Settings
from tests.harness.api_client import Api
from tests.harness.factories import Tenant
from workers.main import work
from workers.scorer import rescore_leads


@pytest.fixture
async def james(api: Api) -> Any:
    """The lead of the reference product's example, new and not scored yet."""
    response = await api.post(
        "/v1/leads",
        {
            "email": f"james.rodriguez.{ULID()}@techstart.io",
            "name": "James Rodriguez",
            "company": "TechStart",
            "title": "CTO",
            "phone": "+1-555-0198",
            "tags": ["inbound", "startup"],
            "customFields": {"teamSize": "10-25", "budget": "$5k-$10k/mo"},
        },
    )
    assert response.status == 201
    return response.json


async def test_a_new_lead_has_score_0_and_its_computed_score_within_a_second(
    api: Api, settings: Settings, james: Any
) -> None:
    path = f"/v1/leads/{james['id']}"
    async with work(settings), asyncio.timeout(10):
        while not (await api.get(f"{path}/score")).json["computedAt"]:  # noqa: ASYNC110  # as a client
            await asyncio.sleep(0.01)
        again = await api.post("/v1/leads", {"email": f"{ULID()}@techstart.io", "title": "CTO"})
        async with asyncio.timeout(1):
            while not (await api.get(f"/v1/leads/{again.json['id']}/score")).json["score"]:  # noqa: ASYNC110  # as a client
                await asyncio.sleep(0.01)
        lead, shown = (await api.get(path)).json, (await api.get(f"{path}/score")).json

    assert james["score"] == again.json["score"] == 0
    assert lead["score"] == shown["score"] == sum(f["contribution"] for f in shown["factors"]) == 56
    assert lead["updatedAt"] == james["updatedAt"]


async def test_the_api_explains_a_score(api: Api, pool: Pool, james: Any) -> None:
    path = f"/v1/leads/{james['id']}/score"
    unscored = await api.as_("read").get(path)
    await rescore_leads(pool, [(api.tenant.id, True, james["id"])])
    scored = await api.as_("read").get(path)

    assert unscored.json == {
        "leadId": james["id"], "score": 0, "band": "cold", "method": "rules",
        "rulesVersion": None, "computedAt": None, "factors": [],
    }  # fmt: skip
    assert list(scored.json) == list(unscored.json)
    assert (scored.json["band"], scored.json["rulesVersion"]) == ("warm", "builtin-1")
    assert scored.json["factors"][0] == {
        "feature": "title", "value": "CTO", "contribution": 16, "note": "executive",
    }  # fmt: skip
    computed_at = datetime.fromisoformat(scored.json["computedAt"])
    assert datetime.now(UTC) - computed_at < timedelta(minutes=1)


async def test_another_tenant_or_mode_cannot_read_a_score(
    api: Api, other: Tenant, james: Any
) -> None:
    path = f"/v1/leads/{james['id']}/score"

    assert (await api.of(other).get(path)).status == 404
    assert (await api.as_(live=False).get(path)).status == 404
    assert (await api.get("/v1/leads/lead_0/score")).status == 404
    assert (await api.with_key(None).get(path)).status == 401
