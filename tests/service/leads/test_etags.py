"""ETag, If-None-Match and If-Match: a copy is not sent twice, and no change is lost."""

import asyncio
from typing import Any
from uuid import uuid4

import msgspec
import pytest

import sql
from service.database.connect import Pool
from service.errors import InvalidRequest
from service.leads.etags import find_known_version, is_known, make_etag, parse_if_match
from service.leads.rows import make_event_id
from tests.harness.api_client import Api, ApiResponse


async def make_one(api: Api) -> tuple[str, ApiResponse]:
    made = await api.post("/v1/leads", {"email": f"{uuid4()}@example.com"})
    return made.headers["location"], made


async def add_timeline_entry(pool: Pool, path: str, version: int) -> None:
    """Inserts a timeline entry, as the timeline writer does a moment after the write."""
    await pool.execute(
        """INSERT INTO timeline (
            tenant_id, live, lead_id, version, event_id, type, at, summary, actor)
        SELECT tenant_id, live, id, $2::bigint, 'evt_' || id, 'lead.created', now(), 'x', 'y'
        FROM lead WHERE id = $1""",
        path.rpartition("/")[2], version,
    )  # fmt: skip


async def read(api: Api, path: str, tag: str) -> ApiResponse:
    return await api.call("GET", path, headers={"If-None-Match": tag})


async def test_a_complete_copy_is_not_sent_again(api: Api, pool: Pool) -> None:
    path, made = await make_one(api)
    await add_timeline_entry(pool, path, 1)
    found = await api.get(path)
    assert found.headers["etag"] == '"1.1"'
    assert made.headers["etag"] == '"1.1.0"'  # the response to a write contains no timeline
    assert (await read(api, path, made.headers["etag"])).status == 200
    for tag in ('"1.1"', '"7.7", "1.1"', 'W/"1.1"', "*", ' "1.1" '):
        response = await read(api, path, tag)
        assert (response.status, response.body) == (304, b""), tag
        assert response.headers["etag"] == '"1.1"'
    for tag in ('"2.2"', '"0.1"', '"1.1.0"', '"1"', "1.1", '"1.1', "", '"1.9999999999999999999"'):
        response = await read(api, path, tag)
        assert (response.status, response.body) == (200, found.body), tag


async def test_a_copy_without_the_newest_timeline_entry_is_sent_again(api: Api, pool: Pool) -> None:
    path, _ = await make_one(api)
    early = await api.get(path)
    assert early.headers["etag"] == '"1.1.0"'
    assert (await read(api, path, '"1.1.0"')).status == 304
    await add_timeline_entry(pool, path, 1)
    late = await read(api, path, '"1.1.0"')
    assert (late.status, late.headers["etag"]) == (200, '"1.1"')
    assert len(late.json["timeline"]) == 1


async def test_each_change_has_a_new_etag_and_a_patch_without_a_change_keeps_it(api: Api) -> None:
    path, _ = await make_one(api)
    tags = [
        (await api.patch(path, {"name": name})).headers["etag"] for name in ("a", "a", "b", "b")
    ]
    assert tags == ['"2.2.0"', '"2.2.0"', '"3.3.0"', '"3.3.0"']
    assert (await api.patch(path, {"status": "qualified"})).headers["etag"] == '"5.5.0"'


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_write_for_another_version_is_412_and_changes_nothing(
    api: Api, method: str
) -> None:
    path, _ = await make_one(api)
    before = (await api.get(path)).body
    body = '{"name": "late"}' if method == "PATCH" else None
    for tag in ('"2.2"', '"0.1"', '"other"', '"2.2", "3.3"', '"2.1"', '"1"', '"1.0"'):
        response = await api.call(method, path, body, headers={"If-Match": tag})
        assert (response.status, response.error["code"]) == (412, "precondition_failed")
    assert (await api.get(path)).body == before


@pytest.mark.parametrize("tag", ['"1.1"', "*", '"9.9", "1.1"', 'W/"1.1"', '"1.1.0"', None])
async def test_a_write_for_the_current_version_succeeds(api: Api, tag: str | None) -> None:
    headers = {} if tag is None else {"If-Match": tag}
    path, _ = await make_one(api)
    response = await api.call("PATCH", path, '{"name": "in time"}', headers=headers)
    assert (response.status, response.headers["etag"]) == (200, '"2.2.0"')
    path, _ = await make_one(api)
    assert (await api.call("DELETE", path, headers=headers)).status == 204


async def test_a_condition_on_a_missing_lead_is_404_and_a_malformed_condition_is_400(
    api: Api,
) -> None:
    path, _ = await make_one(api)
    for method, body in (("PATCH", "{}"), ("DELETE", None)):
        for where, tag, status in (("/v1/leads/lead_none", "*", 404), (path, "1.1", 400)):
            response = await api.call(method, where, body, headers={"If-Match": tag})
            assert response.status == status, response.body


@pytest.fixture
async def rescored(api: Api, pool: Pool) -> tuple[str, list[str]]:
    """A lead whose score has moved twice: its path, the ETags of its create and of each read."""
    path, made = await make_one(api)
    tags = [made.headers["etag"], (await api.get(path)).headers["etag"]]
    for score in (40, 55):
        await rescore(pool, path, score)
        tags.append((await api.get(path)).headers["etag"])
    return path, tags


async def rescore(pool: Pool, path: str, score: int) -> None:
    """Stores a new score, as the scorer does after a write."""
    columns = "tenant_id, live, id, version"
    query = f"SELECT {columns} FROM lead WHERE id = $1"
    [lead] = await pool.fetch(query, path.rpartition("/")[2])
    row = dict(lead) | {
        "score": score, "factors": "", "rules": "r1", "stale_at": None, "event_id": make_event_id(),
    }  # fmt: skip
    document = msgspec.json.encode([row]).decode()
    [done] = await pool.fetch(sql.score_write_many, None, None, None, None, None, document)
    assert (done["written"], done["changed"]) == (1, 1)


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize("of", [0, 1, 2, 3])
async def test_a_new_score_never_makes_a_write_fail(
    api: Api, rescored: tuple[str, list[str]], method: str, of: int
) -> None:
    path, tags = rescored
    body = '{"name": "in time"}' if method == "PATCH" else None
    response = await api.call(method, path, body, headers={"If-Match": tags[of]})
    assert response.status == (200 if method == "PATCH" else 204)


async def test_a_copy_with_an_old_score_is_sent_again(
    api: Api, rescored: tuple[str, list[str]]
) -> None:
    path, tags = rescored
    assert len(set(tags)) == 3  # the create and the first read show the same
    for tag in tags[:3]:
        assert (await read(api, path, tag)).status == 200
    assert (await read(api, path, tags[3])).status == 304


async def test_another_clients_write_conflicts_before_and_after_a_new_score(
    api: Api, pool: Pool, rescored: tuple[str, list[str]]
) -> None:
    path, tags = rescored
    theirs = await api.patch(path, {"name": "theirs"})
    await rescore(pool, path, 70)
    for method, body in (("PATCH", '{"name": "mine"}'), ("DELETE", None)):
        response = await api.call(method, path, body, headers={"If-Match": ", ".join(tags)})
        assert response.status == 412
    condition = {"If-Match": f"{tags[0]}, {theirs.headers['etag']}"}
    mine = await api.call("PATCH", path, '{"name": "mine"}', headers=condition)
    assert (mine.status, mine.headers["etag"]) == (200, '"6.6.0"')
    same = await api.patch(path, {"name": "mine"})
    assert same.headers["etag"] == '"6.6.0"'


async def test_exactly_one_of_many_writes_for_one_version_succeeds(api: Api) -> None:
    path, _ = await make_one(api)
    responses = await asyncio.gather(
        *(
            api.call("PATCH", path, f'{{"name": "{n}"}}', headers={"If-Match": '"1.1"'})
            for n in range(100)
        )
    )
    assert sorted(response.status for response in responses) == [200] + [412] * 99


async def test_concurrent_increments_with_if_match_lose_none(api: Api) -> None:
    path, _ = await make_one(api)

    async def count_up() -> None:
        while True:
            now = await api.get(path)
            fields: dict[str, Any] = {"n": now.json["customFields"].get("n", 0) + 1}
            tag = now.headers["etag"]
            body = f'{{"customFields": {{"n": {fields["n"]}}}}}'
            response = await api.call("PATCH", path, body, headers={"If-Match": tag})
            if response.status == 200:
                return

    await asyncio.gather(*(count_up() for _ in range(12)))
    assert (await api.get(path)).json["customFields"] == {"n": 12}


def test_etags_are_parsed_as_the_rfc_defines_them() -> None:
    assert make_etag(3, 7, 7) == '"3.7"'
    assert make_etag(3, 7, 5) == '"3.7.5"'
    assert [find_known_version(tag) for tag in ('"3.7"', ' W/"3.7" ')] == [7, 7]
    for tag in (None, "", '"7"', '"3.7.5"', "3.7", '"3.7", "3.8"'):
        assert find_known_version(tag) == 0
    assert is_known('"a,b", W/"3.7"', '"3.7"')
    assert not is_known('"3.77"', '"3.7"')
    assert parse_if_match('"3.7", W/"8.9.2" ,"x", "7", "7.6", "7.0"') == [3, 8]
    assert parse_if_match(" * ") is None
    for bad in ("", "7", '"7" "8"', '"7', "W/7"):
        with pytest.raises(InvalidRequest):
            parse_if_match(bad)
