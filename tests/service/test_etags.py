"""ETag, If-None-Match and If-Match: a copy is not sent twice, and no change is lost."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from service.db import Pool
from service.errors import PreconditionFailed
from service.etags import find_known_version, is_known, make_etag, parse_if_match
from tests.serving import Answer, Api


async def make_one(api: Api) -> tuple[str, Answer]:
    made = await api.post("/v1/leads", {"email": f"{uuid4()}@example.com"})
    return made.headers["location"], made


async def tell_timeline(pool: Pool, path: str, version: int) -> None:
    """What the historian does a moment after the write."""
    await pool.execute(
        """INSERT INTO timeline (
            tenant_id, live, lead_id, version, event_id, type, at, summary, actor)
        SELECT tenant_id, live, id, $2::bigint, 'evt_' || id, 'lead.created', now(), 'x', 'y'
        FROM lead WHERE id = $1""",
        path.rpartition("/")[2], version,
    )  # fmt: skip


async def read(api: Api, path: str, tag: str) -> Answer:
    return await api.call("GET", path, headers={"If-None-Match": tag})


async def test_a_copy_that_is_complete_is_not_sent_again(api: Api, pool: Pool) -> None:
    path, made = await make_one(api)
    await tell_timeline(pool, path, 1)
    found = await api.get(path)
    assert found.headers["etag"] == '"1"'
    assert made.headers["etag"] == '"1.0"'  # what a write answers has nothing of the timeline
    assert (await read(api, path, made.headers["etag"])).status == 200
    for tag in ('"1"', '"7", "1"', 'W/"1"', "*", ' "1" '):
        answer = await read(api, path, tag)
        assert (answer.status, answer.body) == (304, b""), tag
        assert answer.headers["etag"] == '"1"'
    for tag in ('"2"', '"1.0"', "1", '"1', "", '"999999999999999999999"', '"one"'):
        answer = await read(api, path, tag)
        assert (answer.status, answer.body) == (200, found.body), tag


async def test_a_copy_without_the_newest_of_the_timeline_is_sent_again(
    api: Api, pool: Pool
) -> None:
    path, _ = await make_one(api)
    early = await api.get(path)
    assert early.headers["etag"] == '"1.0"'
    assert (await read(api, path, '"1.0"')).status == 304
    await tell_timeline(pool, path, 1)
    late = await read(api, path, '"1.0"')
    assert (late.status, late.headers["etag"]) == (200, '"1"')
    assert len(late.json["timeline"]) == 1


async def test_each_change_has_its_tag_and_what_changes_nothing_keeps_it(api: Api) -> None:
    path, _ = await make_one(api)
    tags = [
        (await api.patch(path, {"name": name})).headers["etag"] for name in ("a", "a", "b", "b")
    ]
    assert tags == ['"2.0"', '"2.0"', '"3.0"', '"3.0"']
    assert (await api.patch(path, {"status": "qualified"})).headers["etag"] == '"5.0"'


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_write_for_another_version_is_412_and_changes_nothing(
    api: Api, method: str
) -> None:
    path, _ = await make_one(api)
    before = (await api.get(path)).body
    body = '{"name": "late"}' if method == "PATCH" else None
    for tag in ('"2"', '"0"', '"other"', '"2", "3"', '"2.1"'):
        answer = await api.call(method, path, body, headers={"If-Match": tag})
        assert (answer.status, answer.error["code"]) == (412, "precondition_failed")
    assert (await api.get(path)).body == before


@pytest.mark.parametrize("tag", ['"1"', "*", '"9", "1"', 'W/"1"', '"1.0"', None])
async def test_a_write_for_this_version_is_done(api: Api, tag: str | None) -> None:
    headers = {} if tag is None else {"If-Match": tag}
    path, _ = await make_one(api)
    answer = await api.call("PATCH", path, '{"name": "in time"}', headers=headers)
    assert (answer.status, answer.headers["etag"]) == (200, '"2.0"')
    path, _ = await make_one(api)
    assert (await api.call("DELETE", path, headers=headers)).status == 204


async def test_a_condition_on_nothing_is_404_and_one_that_is_none_is_412(api: Api) -> None:
    path, _ = await make_one(api)
    for method, body in (("PATCH", "{}"), ("DELETE", None)):
        for where, tag, status in (("/v1/leads/lead_none", "*", 404), (path, "1", 412)):
            answer = await api.call(method, where, body, headers={"If-Match": tag})
            assert answer.status == status, answer.body


async def test_of_many_who_read_the_same_version_one_writes(api: Api) -> None:
    path, _ = await make_one(api)
    answers = await asyncio.gather(
        *(
            api.call("PATCH", path, f'{{"name": "{n}"}}', headers={"If-Match": '"1"'})
            for n in range(100)
        )
    )
    assert sorted(answer.status for answer in answers) == [200] + [412] * 99


async def test_counting_up_under_if_match_loses_no_step(api: Api) -> None:
    path, _ = await make_one(api)

    async def count_up() -> None:
        while True:
            now = await api.get(path)
            fields: dict[str, Any] = {"n": now.json["customFields"].get("n", 0) + 1}
            tag = now.headers["etag"]
            body = f'{{"customFields": {{"n": {fields["n"]}}}}}'
            answer = await api.call("PATCH", path, body, headers={"If-Match": tag})
            if answer.status == 200:
                return

    await asyncio.gather(*(count_up() for _ in range(12)))
    assert (await api.get(path)).json["customFields"] == {"n": 12}


def test_tags_are_read_as_the_rfc_writes_them() -> None:
    assert make_etag(7, 7) == '"7"'
    assert make_etag(7, 5) == '"7.5"'
    assert [find_known_version(tag) for tag in (None, "", '"7"', ' "7" ', '"7.5"', "7")] == [
        0, 0, 7, 7, 0, 0,
    ]  # fmt: skip
    assert is_known('"a,b", W/"7"', '"7"')
    assert not is_known('"77"', '"7"')
    assert parse_if_match('"7", W/"8.2" ,"x"') == [7, 8]
    assert parse_if_match(" * ") is None
    for bad in ("", "7", '"7" "8"', '"7', "W/7"):
        with pytest.raises(PreconditionFailed):
            parse_if_match(bad)
