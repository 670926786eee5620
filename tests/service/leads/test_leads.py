"""Single leads are created, read, changed and deleted by the contract, each with its event."""

import json
import sys
from typing import Any

import pytest

from service.database.connect import Pool
from tests.harness.api_client import Api
from tests.harness.factories import make_lead


async def create(api: Api, email: str, **fields: Any) -> Any:
    response = await api.post("/v1/leads", {"email": email, **fields})
    assert response.status == 201, response.body
    return response.json


async def list_events(pool: Pool, lead_id: str) -> list[Any]:
    """Type, version, data and actor of the lead's events in the order of the log."""
    rows = await pool.fetch(
        "SELECT type, version, data, actor FROM outbox WHERE lead_id = $1 ORDER BY id", lead_id
    )
    return [(r["type"], r["version"], json.loads(r["data"]), r["actor"]) for r in rows]


async def test_a_new_lead_has_the_defaults_and_is_found_at_its_location(api: Api) -> None:
    response = await api.post("/v1/leads", {"email": "defaults@example.com"})
    lead = response.json
    assert response.headers["location"] == f"/v1/leads/{lead['id']}"
    assert {name: lead[name] for name in ("name", "company", "title", "phone")} == dict.fromkeys(
        ("name", "company", "title", "phone")
    )
    assert (lead["status"], lead["source"], lead["score"]) == ("new", "api", 0)
    assert (lead["tags"], lead["customFields"]) == ([], {})
    found = await api.get(response.headers["location"])
    assert found.status == 200
    assert {name: found.json[name] for name in lead} == lead
    assert found.json["timeline"] == []
    assert (await api.get(f"/api{response.headers['location']}")).body == found.body


async def test_values_are_stored_as_they_were_sent(api: Api) -> None:
    sent: dict[str, Any] = {
        "email": " Zoë.Smith@Exämple.COM ", "name": "Zoë 😀 \"O'Neil\" \\ 王小明",
        "company": " Co ", "title": "a" * 200, "phone": "+1 (555) 014-2.99",
        "status": "contacted", "source": "chat",
        "tags": ["b", "a", "b", "ä, b"], "assignedTo": "user_7",
        "customFields": {
            "z": 1, "a": {"nested": [None, {"deep": 1.5}]}, "big": 12345678901234567890123,
            "none": None, "ü": True, "text": "\u2028 \u0001 </script>",
        },
    }  # fmt: skip
    lead = await create(api, **sent)
    assert lead["email"] == "Zoë.Smith@Exämple.COM"
    for name in set(sent) - {"email", "assignedTo"}:
        assert lead[name] == sent[name]
    found = (await api.get(f"/v1/leads/{lead['id']}")).json
    assert list(found["customFields"].items()) == list(sent["customFields"].items())
    assert found["assignedTo"] == "user_7"


async def test_an_email_address_is_the_same_in_any_case_and_in_both_forms_of_its_domain(
    api: Api,
) -> None:
    lead = await create(api, "Straße@Müller.example.com")
    for same in ("STRAßE@müller.EXAMPLE.com", "straße@xn--mller-kva.example.com"):
        response = await api.post("/v1/leads", {"email": same})
        assert (response.status, response.error["existingLeadId"]) == (409, lead["id"])


async def test_a_patch_changes_the_fields_that_it_names_and_no_others(api: Api, pool: Pool) -> None:
    lead = await create(
        api, "patch@example.com", name="Ann", company="Co", tags=["x"], customFields={"a": 1}
    )
    response = await api.patch(f"/v1/leads/{lead['id']}", {"name": "Anna"})
    assert response.status == 200
    changed = response.json
    assert changed["updatedAt"] == changed["lastActiveAt"] > lead["updatedAt"]
    times = {"updatedAt": changed["updatedAt"], "lastActiveAt": changed["lastActiveAt"]}
    assert changed == lead | {"name": "Anna"} | times
    created, updated = await list_events(pool, lead["id"])
    assert created[:3] == ("lead.created", 1, {"lead": lead, "version": 1, "actor": created[3]})
    assert updated[:2] == ("lead.updated", 2)
    assert updated[2] == {
        "lead": changed, "version": 2, "changes": {"name": {"from": "Ann", "to": "Anna"}},
        "actor": updated[3],
    }  # fmt: skip


async def test_null_clears_a_field(api: Api) -> None:
    lead = await create(
        api, "null@example.com", name="N", company="C", title="T", phone="+4712345678",
        tags=["t"], customFields={"a": 1}, assignedTo="user_1",
    )  # fmt: skip
    fields = ("name", "company", "title", "phone", "tags", "customFields", "assignedTo")
    response = await api.patch(f"/v1/leads/{lead['id']}", dict.fromkeys(fields))
    assert response.status == 200
    found = (await api.get(f"/v1/leads/{lead['id']}")).json
    assert [found[name] for name in fields] == [None, None, None, None, [], {}, None]


@pytest.mark.parametrize("blank", ["", "  ", "\u3000\t", "\u200b\ufeff"])
async def test_a_blank_text_means_null(api: Api, blank: str) -> None:
    texts = dict.fromkeys(("name", "company", "title", "phone", "assignedTo"), blank)
    made = await create(api, f"form-{ascii(blank)[1:-1].encode().hex()}@example.com", **texts)
    filled = dict.fromkeys(texts, "+49 171 2345678")
    assert (await api.patch(f"/v1/leads/{made['id']}", filled)).status == 200
    assert (await api.patch(f"/v1/leads/{made['id']}", texts)).status == 200
    found = (await api.get(f"/v1/leads/{made['id']}")).json
    assert [found[name] for name in texts] == [None] * 5
    assert [made[name] for name in texts if name in made] == [None] * 4


@pytest.mark.parametrize("field", ["email", "status", "source"])
async def test_a_required_field_cannot_be_cleared(api: Api, field: str) -> None:
    lead = await create(api, f"keep-{field}@example.com")
    response = await api.patch(f"/v1/leads/{lead['id']}", {field: None})
    assert (response.status, response.error["details"][0]["field"]) == (400, field)


async def test_custom_fields_merge_one_level_deep_and_keep_their_order(api: Api) -> None:
    lead = await create(
        api, "merge@example.com",
        customFields={"z": 1, "gone": 2, "deep": {"a": 1, "b": 2}, "a": "x", "kept": None},
    )  # fmt: skip
    patch = {"new": [1], "gone": None, "deep": {"a": None}, "z": 9, "absent": None}
    response = await api.patch(f"/v1/leads/{lead['id']}", {"customFields": patch})
    merged = [("z", 9), ("deep", {"a": None}), ("a", "x"), ("kept", None), ("new", [1])]
    assert list(response.json["customFields"].items()) == merged


async def test_arrays_are_replaced(api: Api) -> None:
    lead = await create(api, "arrays@example.com", tags=["a", "b"])
    path = f"/v1/leads/{lead['id']}"
    assert (await api.patch(path, {"tags": ["c"]})).json["tags"] == ["c"]
    assert (await api.patch(path, {"tags": []})).json["tags"] == []


@pytest.mark.parametrize(
    "patch",
    [
        {}, {"name": "Same"}, {"tags": ["a"]}, {"customFields": {}}, {"customFields": {"k": 1}},
        {"customFields": {"absent": None}}, {"status": "new", "source": "api"}, {"title": None},
        {"email": "same@example.com"},
    ],
)  # fmt: skip
async def test_a_patch_without_a_change_writes_nothing(
    api: Api, pool: Pool, patch: dict[str, Any]
) -> None:
    fields = {"name": "Same", "tags": ["a"], "customFields": {"k": 1}}
    response = await api.post("/v1/leads", {"email": "same@example.com", **fields})
    lead_id = response.json["id"] if response.status == 201 else response.error["existingLeadId"]
    before = (await api.get(f"/v1/leads/{lead_id}")).body
    unchanged = await api.patch(f"/v1/leads/{lead_id}", patch)
    assert unchanged.status == 200
    assert (await api.get(f"/v1/leads/{lead_id}")).body == before
    assert [event[0] for event in await list_events(pool, lead_id)] == ["lead.created"]


async def test_a_new_status_has_its_own_event_after_the_update(api: Api, pool: Pool) -> None:
    lead = await create(api, "became@example.com")
    path = f"/v1/leads/{lead['id']}"
    for status in ("contacted", "qualified", "qualified", "converted", "lost"):
        assert (await api.patch(path, {"status": status})).status == 200
    assert [event[:2] for event in await list_events(pool, lead["id"])] == [
        ("lead.created", 1),
        ("lead.updated", 2),
        ("lead.updated", 3), ("lead.qualified", 4),
        ("lead.updated", 5), ("lead.converted", 6),
        ("lead.updated", 7),
    ]  # fmt: skip


async def test_a_taken_email_address_refuses_the_whole_patch(api: Api, pool: Pool) -> None:
    holder = await create(api, "holder@example.com")
    lead = await create(api, "mover@example.com", name="Before")
    patch = {"name": "After", "email": "HOLDER@example.com"}
    response = await api.patch(f"/v1/leads/{lead['id']}", patch)
    assert (response.status, response.error["existingLeadId"]) == (409, holder["id"])
    assert (await api.get(f"/v1/leads/{lead['id']}")).json["name"] == "Before"
    assert len(await list_events(pool, lead["id"])) == 1
    own_case = await api.patch(f"/v1/leads/{lead['id']}", {"email": "MOVER@example.com"})
    assert (own_case.status, own_case.json["email"]) == (200, "MOVER@example.com")


async def test_a_number_beyond_every_double_is_named_and_the_largest_is_stored(api: Api) -> None:
    largest = int(sys.float_info.max)
    fields = {"fine": largest, "digits": "9" * 400, "flag": True}
    lead = await create(api, "huge@example.com", customFields=fields)
    assert lead["customFields"] == fields
    huge = {"customFields": {"fine": 1, "huge": largest * 2}}
    refused = await api.patch(f"/v1/leads/{lead['id']}", huge)
    assert (refused.status, refused.error["details"][0]["field"]) == (400, "customFields")
    assert refused.error["message"].startswith("customFields.huge has a number beyond")


async def test_many_small_patches_cannot_make_custom_fields_large(api: Api) -> None:
    lead = await create(api, "grow@example.com", customFields={f"a{n}": n for n in range(60)})
    path = f"/v1/leads/{lead['id']}"
    more = await api.patch(path, {"name": "x", "customFields": {f"b{n}": n for n in range(41)}})
    assert (more.status, more.error["details"][0]["code"]) == (400, "too_long")
    assert (await api.patch(path, {"customFields": {"c": "x" * 10_000}})).status == 200
    bulky = await api.patch(path, {"customFields": {"d": "x" * 10_000}})
    assert (bulky.status, bulky.error["details"][0]["field"]) == (400, "customFields")
    assert (await api.get(path)).json["name"] is None
    assert (await api.patch(path, {"customFields": {"c": None, "d": "x" * 10_000}})).status == 200


async def test_deleting_a_lead_removes_it_and_frees_its_email_address(api: Api, pool: Pool) -> None:
    lead = await create(api, "gone@example.com", name="G")
    path = f"/v1/leads/{lead['id']}"
    gone = await api.delete(path)
    assert (gone.status, gone.body) == (204, b"")
    for response in (
        await api.get(path),
        await api.patch(path, {"name": "x"}),
        await api.delete(path),
    ):
        assert response.status == 404
    again = await create(api, "gone@example.com")
    assert again["id"] != lead["id"]
    events = await list_events(pool, lead["id"])
    assert [event[:2] for event in events] == [("lead.created", 1), ("lead.deleted", 2)]
    assert events[1][2]["lead"] == lead


async def test_ids_in_requests_are_opaque(api: Api, pool: Pool) -> None:
    odd = await make_lead(pool, api.tenant.id, id="lead_not-a-ulid", email="odd@example.com")
    assert (await api.get(f"/v1/leads/{odd}")).json["id"] == odd
    assert (await api.patch(f"/v1/leads/{odd}", {"name": "Odd"})).json["name"] == "Odd"
    assert (await api.delete(f"/v1/leads/{odd}")).status == 204


async def test_a_timeline_has_the_newest_twenty_entries(api: Api, pool: Pool) -> None:
    lead_id = await make_lead(pool, api.tenant.id)
    await pool.execute(
        "INSERT INTO timeline (tenant_id, live, lead_id, version, event_id, type, at, summary, "
        "actor) SELECT $1, true, $2, n, 'evt_' || n, 'lead.updated', now(), 'n ' || n, 'key_1' "
        "FROM generate_series(1, 25) AS n",
        api.tenant.id,
        lead_id,
    )
    timeline = (await api.get(f"/v1/leads/{lead_id}")).json["timeline"]
    assert [entry["summary"] for entry in timeline] == [f"n {n}" for n in range(25, 5, -1)]
    assert list(timeline[0]) == ["id", "type", "at", "summary", "actor"]
