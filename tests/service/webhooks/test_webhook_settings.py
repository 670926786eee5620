"""The settings of a webhook: POST takes what PATCH takes, by the same rules."""

from typing import Any

import pytest

from service.database.connect import Pool
from tests.harness.api_client import Api
from tests.service.webhooks.test_webhooks import URL

SETTINGS: dict[str, Any] = {
    "url": URL,
    "events": ["lead.created", "lead.deleted"],
    "description": "CRM",
    "status": "paused",
    "rateLimit": 7,
    "timeoutMs": 2000,
    "payload": "thin",
    "headers": {"X-Team": "sales", "Authorization": "Basic c2FsZXM6c2VjcmV0"},
    "coalesce": True,
    "retry": "long",
}
SHOWN = SETTINGS | {"headerNames": ["Authorization", "X-Team"]}
DEFAULTS: dict[str, Any] = {
    "description": None, "status": "active", "rateLimit": None, "timeoutMs": None,
    "payload": "full", "headerNames": [], "coalesce": False, "retry": "standard",
}  # fmt: skip
WRONG: list[dict[str, Any]] = [
    {"url": "ftp://8.8.8.8/"}, {"url": ""}, {"url": 1}, {"events": []}, {"events": ["nope"]},
    {"description": "x" * 501}, {"status": "disabled"}, {"status": None}, {"rateLimit": 0},
    {"rateLimit": "7"}, {"timeoutMs": 999}, {"timeoutMs": 30_001}, {"payload": "fat"},
    {"payload": None}, {"headers": {"Host": "x"}}, {"headers": {"a b": "x"}},
    {"headers": {"X-Team": ""}}, {"headers": {f"X-{n}": "x" for n in range(21)}},
    {"coalesce": "yes"}, {"coalesce": None}, {"retry": "never"}, {"rateLimit": 0, "retry": 1},
    {"statusReason": "x"}, {"headerNames": []}, {"failures": 1}, {"nonsense": 1},
]  # fmt: skip


async def test_a_webhook_is_created_with_every_setting(api: Api, pool: Pool) -> None:
    made = await api.post("/v1/webhooks", SETTINGS)
    assert made.status == 201, made.body
    shown = {name: value for name, value in SHOWN.items() if name != "headers"}
    assert made.json.items() >= shown.items()
    found = await api.get(made.headers["location"])
    assert found.json == {n: v for n, v in made.json.items() if n != "secret"}
    assert b"c2FsZXM6c2VjcmV0" not in made.body
    row = await pool.fetchrow(
        "SELECT headers, held_since FROM endpoint WHERE id = $1", made.json["id"]
    )
    assert b"c2FsZXM6c2VjcmV0" not in row["headers"]
    assert row["held_since"] is not None  # so the pause is excused when it ends


async def test_a_created_webhook_equals_one_that_was_changed_afterwards(api: Api) -> None:
    made = await api.post("/v1/webhooks", SETTINGS)
    plain = await api.post("/v1/webhooks", {"url": URL, "events": ["lead.updated"]})
    assert plain.json.items() >= DEFAULTS.items()
    changed = await api.patch(plain.headers["location"], SETTINGS)
    own = {"id", "createdAt", "updatedAt", "secret"}
    assert [(n, v) for n, v in changed.json.items() if n not in own] == [
        (n, v) for n, v in made.json.items() if n not in own
    ]


async def test_null_means_the_default_of_an_optional_setting(api: Api) -> None:
    cleared = dict.fromkeys(("description", "rateLimit", "timeoutMs", "headers", "secret"))
    made = await api.post("/v1/webhooks", {"url": URL, "events": ["lead.created"], **cleared})
    assert made.status == 201, made.body
    assert made.json.items() >= DEFAULTS.items()
    assert made.json["secret"].startswith("whsec_")


@pytest.mark.parametrize("wrong", WRONG, ids=str)
async def test_post_and_patch_refuse_the_same_with_the_same_words(
    api: Api, wrong: dict[str, Any]
) -> None:
    known = await api.post("/v1/webhooks", {"url": URL, "events": ["lead.created"]})
    before = (await api.get("/v1/webhooks")).body
    refused = await api.post("/v1/webhooks", {"url": URL, "events": ["lead.created"], **wrong})
    unchanged = await api.patch(known.headers["location"], wrong)
    assert refused.status in {400, 422}
    assert (unchanged.status, unchanged.error["details"]) == (
        refused.status, refused.error["details"],
    )  # fmt: skip
    assert (await api.get("/v1/webhooks")).body == before


async def test_only_patch_takes_resume_and_only_post_a_secret(api: Api) -> None:
    made = await api.post("/v1/webhooks", SETTINGS | {"resume": "skip"})
    [fault] = made.error["details"]
    assert (made.status, fault["field"], fault["code"]) == (400, "resume", "unknown_field")
    path = (await api.post("/v1/webhooks", SETTINGS)).headers["location"]
    patched = await api.patch(path, {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
    [fault] = patched.error["details"]
    assert (patched.status, fault["field"], fault["code"]) == (400, "secret", "read_only")


async def test_wildcards_are_stored_as_they_are_sent(api: Api) -> None:
    events = ["lead.*", "webhook.failing", "lead.*", "lead.created"]
    made = await api.post("/v1/webhooks", {"url": URL, "events": events})
    assert made.json["events"] == ["lead.*", "webhook.failing", "lead.created"]
    changed = await api.patch(made.headers["location"], {"events": ["*", "*"]})
    assert changed.json["events"] == ["*"]
    assert (await api.get(made.headers["location"])).json["events"] == ["*"]


@pytest.mark.parametrize("pattern", ["lead", "lead.", "*.created", "leads.*", "LEAD.*", "**", ""])
async def test_an_unknown_pattern_is_400_and_the_known_ones_are_listed(
    api: Api, pattern: str
) -> None:
    made = await api.post("/v1/webhooks", {"url": URL, "events": ["*", pattern]})
    [fault] = made.error["details"]
    assert (made.status, fault["field"], fault["code"]) == (400, "events.1", "invalid_value")
    for known in ("lead.created", "webhook.expired", " *,", "lead.*", "webhook.*"):
        assert known in fault["message"]
