"""A client's ETag holds while the workers score its lead and write its timeline."""

import asyncio

from service.database.connect import Pool
from service.settings import Settings
from tests.harness.running_service import run_service, wait_until


async def test_the_etags_of_writes_hold_after_the_scorer_has_moved_the_score(
    settings: Settings, committed: Pool
) -> None:
    async with run_service(settings, committed) as running:
        api = running.api
        body = {"email": "etag@acmecorp.com", "title": "CEO", "company": "Acme"}
        made = await api.post("/v1/leads", body)
        path = made.headers["location"]

        async def look() -> bool:
            found = (await api.get(path)).json
            return found["score"] > 0 and len(found["timeline"]) > 1

        await wait_until(look)
        theirs = {"If-Match": (await api.get(path)).headers["etag"]}
        condition = {"If-Match": made.headers["etag"]}
        first = await api.call("PATCH", path, '{"title": "Buyer"}', headers=condition)
        assert first.status == 200, first.body
        for late in (condition, theirs):
            response = await api.call("PATCH", path, '{"title": "CTO"}', headers=late)
            assert response.status == 412
        await asyncio.sleep(0.3)
        second = {"If-Match": first.headers["etag"]}
        assert (await api.call("DELETE", path, headers=condition)).status == 412
        assert (await api.call("DELETE", path, headers=second)).status == 204
