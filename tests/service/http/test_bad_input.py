"""Bad bodies, queries and ids: each gets the contract's error, and nothing is changed."""

import json
import re
from typing import Any

import pytest
from msgspec import structs

from service.app import API
from service.database.connect import Pool
from service.http.operations import Operation
from tests.harness.api_client import Api, ApiResponse
from tests.harness.factories import Tenant, make_lead

pytestmark = pytest.mark.usefixtures("nothing_written")

DEEP = 100_000
EMAIL = b'{"email": "known@example.com", '


@pytest.fixture(scope="module", autouse=True)
async def lead_id(pool: Pool, tenant: Tenant) -> str:
    return await make_lead(pool, tenant.id, email="known@example.com", name="Known")


def assert_refused(answer: ApiResponse, status: int, code: str) -> None:
    assert (answer.status, answer.error["code"]) == (status, code), answer.body
    assert list(answer.error)[:2] == ["code", "message"]
    assert answer.error["message"].endswith((".", "…"))
    assert answer.error["doc_url"] == f"https://leadlog.test/docs/errors#{code}"
    assert answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "invalid_json"),
        (b"email=a@example.com", "invalid_json"),
        (b'{"email": "a@example.com"', "invalid_json"),
        (b"{'email': 'a@example.com'}", "invalid_json"),
        (b'{"email": "a@example.com",}', "invalid_json"),
        (b'{"email": "a@example.com"} {}', "invalid_json"),
        (b'\xef\xbb\xbf{"email": "a@example.com"}', "invalid_json"),
        ('{"email": "a@example.com"}'.encode("utf-16"), "invalid_json"),
        (b"\x1f\x8b\x08\x00not really gzip", "invalid_json"),
        (b'{"email": "a\xff@example.com"}', "invalid_json"),
        (b'{"email": "a@example.com", "name": "a\x00b"}', "invalid_json"),
        (b'{"email": "a@example.com", "name": "\\ud800"}', "invalid_json"),
        (b'{"email": "a@example.com", "name": "\\udc00 tail"}', "invalid_json"),
        (b'{"email": "a@example.com", "name": "\\ud800\\u0041"}', "invalid_json"),
        (b'{"email": "a@example.com", "name": "\xed\xa0\x80"}', "invalid_json"),
        (b'{"email": "a@example.com", "customFields": {"a": 1e400}}', "invalid_json"),
        (b'{"email": "a@example.com", "customFields": {"a": -1e400}}', "invalid_json"),
        (b'{"email": "a@example.com", "customFields": {"a": NaN}}', "invalid_json"),
        (b'{"email": "a@example.com", "customFields": {"a": Infinity}}', "invalid_json"),
        (b'{"email": ' + b"[" * DEEP + b"]" * DEEP + b"}", "too_deep"),
        (b"[" * DEEP, "too_deep"),
        (b'{"a":' * (DEEP // 3), "too_deep"),
        (b'[{"email": "a@example.com"}]', "invalid_type"),
        (b'"email"', "invalid_type"),
        (b"null", "invalid_type"),
        (b"42", "invalid_type"),
    ],
)
async def test_a_body_that_is_no_json_object_is_400(
    api: Api, lead_id: str, body: bytes, fault: str
) -> None:
    for method, path in (("POST", "/v1/leads"), ("PATCH", f"/v1/leads/{lead_id}")):
        answer = await api.call(method, path, body)
        assert_refused(answer, 400, "invalid_request")
        assert [(d["field"], d["code"]) for d in answer.error["details"]] == [("", fault)]


async def test_wrong_types_in_every_field_are_all_named(api: Api, lead_id: str) -> None:
    body = {
        "email": 1, "name": [], "company": {}, "title": 2.5, "phone": True, "status": 3,
        "source": False, "tags": "vip", "customFields": [1], "assignedTo": 9,
    }  # fmt: skip
    for method, path in (("POST", "/v1/leads"), ("PATCH", f"/v1/leads/{lead_id}")):
        answer = await api.call(method, path, json.dumps(body))
        assert_refused(answer, 400, "invalid_request")
        details = answer.error["details"]
        assert [detail["field"] for detail in details] == list(body)
        assert {detail["code"] for detail in details} == {"invalid_type"}
        assert details[1]["message"] == "name must be a string or null, not a list."


async def test_all_kinds_of_faults_are_reported_together(api: Api) -> None:
    body = {
        "id": "lead_1", "score": 99, "createdAt": "2026-01-01T00:00:00Z", "nmae": "typo",
        "name": "x" * 201, "phone": "12", "status": "hot", "source": None,
        "tags": ["ok", "", 7, "x" * 65], "customFields": {"": 1}, "company": "a\0b",
    }  # fmt: skip
    answer = await api.post("/v1/leads", body)
    assert_refused(answer, 400, "invalid_request")
    assert {(d["field"], d["code"]) for d in answer.error["details"]} == {
        ("email", "required"), ("id", "read_only"), ("score", "read_only"),
        ("createdAt", "read_only"), ("nmae", "unknown_field"), ("name", "too_long"),
        ("phone", "invalid_phone"), ("status", "invalid_value"), ("source", "invalid_type"),
        ("tags.1", "too_short"), ("tags.2", "invalid_type"), ("tags.3", "too_long"),
        ("customFields", "too_short"), ("company", "invalid_character"),
    }  # fmt: skip
    sentences = [detail["message"] for detail in answer.error["details"]]
    assert "status must be one of new, qualified, contacted, converted, lost." in sentences
    assert not [s for s in sentences if "`" in s or "str" in s.split() or "UnsetType" in s]


@pytest.mark.parametrize(
    "field",
    [
        "id", "score", "conversationCount", "lastIntent", "firstSeenAt", "lastActiveAt",
        "createdAt", "updatedAt", "conversationSummary", "timeline",
    ],
)  # fmt: skip
async def test_fields_that_the_service_sets_cannot_be_written(
    api: Api, lead_id: str, field: str
) -> None:
    answer = await api.patch(f"/v1/leads/{lead_id}", {"name": "New", field: None})
    assert_refused(answer, 400, "invalid_request")
    assert [(d["field"], d["code"]) for d in answer.error["details"]] == [(field, "read_only")]


@pytest.mark.parametrize(
    ("rest", "field", "code"),
    [
        (b'"name": "a\\u0000b"}', "name", "invalid_character"),
        (b'"tags": ["a\\u0000b"]}', "tags", "invalid_character"),
        (b'"customFields": {"a": [{"b": "\\u0000"}]}}', "customFields", "invalid_character"),
        (b'"customFields": {"a\\u0000": 1}}', "customFields", "invalid_character"),
        (b'"a\\u0000b": 1}', "a\\u0000b", "unknown_field"),
        (b'"customFields": {"a": ' + b"[" * 101 + b"]" * 101 + b"}}", "customFields", "too_deep"),
        (b'"customFields": {"a": "' + b"x" * 16_384 + b'"}}', "customFields", "too_long"),
        (b'"customFields": {"a": ' + b"9" * 400 + b"}}", "customFields", "out_of_range"),
        (b'"customFields": {"a": [{"b": -' + b"9" * 310 + b"}]}}", "customFields", "out_of_range"),
        (b'"tags": [' + b'"a",' * 50 + b'"a"]}', "tags", "too_long"),
        (b'"tags": null, "name": "x", "email": null}', "email", "invalid_type"),
        (b'"' + b"k" * 200_000 + b'": 1}', "k" * 64, "unknown_field"),
    ],
)
async def test_a_field_that_cannot_be_stored_is_named(
    api: Api, lead_id: str, rest: bytes, field: str, code: str
) -> None:
    answer = await api.call("PATCH", f"/v1/leads/{lead_id}", b"{" + rest)
    assert_refused(answer, 400, "invalid_request")
    assert [(d["field"], d["code"]) for d in answer.error["details"]] == [(field, code)]


async def test_custom_fields_have_at_most_100_keys_of_64_characters(api: Api) -> None:
    many = {f"k{n}": n for n in range(101)}
    for fields in (many, {"k" * 65: 1}, {"": 1}):
        answer = await api.post("/v1/leads", {"email": "m@example.com", "customFields": fields})
        assert_refused(answer, 400, "invalid_request")
        assert answer.error["details"][0]["field"] == "customFields"


@pytest.mark.parametrize(
    "email",
    [
        "", " ", "plain", "a b@example.com", "@example.com", "a@", "a@b@example.com",
        '"quoted"@example.com', "'a'@exa mple.com", "a@example..com", ".a@example.com",
        "a@-example.com", "a@[127.0.0.1]", "Ann <a@example.com>", "a@example.com, b@example.com",
        "a\n@example.com", "a@example.com\r\nBcc: x@example.com", "a@" + "ü" * 80 + ".de",
        "a@exam\u202eple.com",
    ],
)  # fmt: skip
async def test_a_string_that_is_no_email_address_is_refused(api: Api, email: str) -> None:
    answer = await api.post("/v1/leads", {"email": email})
    if email == "":
        assert_refused(answer, 400, "invalid_request")
    else:
        assert_refused(answer, 422, "unprocessable")
    assert answer.error["details"][0]["field"] == "email"


async def test_an_email_address_of_255_characters_is_too_long(api: Api) -> None:
    email = "a@" + "b." * 124 + "coms"
    assert len(email) == 254
    answer = await api.post("/v1/leads", {"email": "a" + email})
    assert_refused(answer, 400, "invalid_request")


@pytest.mark.parametrize("phone", ["12", "call me", "+1", "1" * 21, "+++", "0171 2345678 after 6"])
async def test_a_string_that_is_no_phone_number_is_422(api: Api, phone: str) -> None:
    answer = await api.post("/v1/leads", {"email": "p@example.com", "phone": phone})
    assert_refused(answer, 422, "unprocessable")
    assert answer.error["details"][0]["field"] == "phone"


async def test_faults_of_both_kinds_together_are_400(api: Api) -> None:
    answer = await api.post("/v1/leads", {"email": "no address", "nmae": 1})
    assert_refused(answer, 400, "invalid_request")
    assert len(answer.error["details"]) == 2


async def test_the_same_email_in_another_case_is_a_conflict_that_names_the_lead(
    api: Api, lead_id: str
) -> None:
    for email in ("known@example.com", "KNOWN@Example.COM", "  Known@example.com "):
        answer = await api.post("/v1/leads", {"email": email})
        assert_refused(answer, 409, "conflict")
        assert answer.error["existingLeadId"] == lead_id


BAD_IDS = [
    "lead_", "lead_x", "nope", "0", "lead_01HQ3VXK9BWMN4F6T2P8R5GYSC", "%00", "lead_%00x",
    "lead_" + "x" * 10_000, "%F0%9F%98%80", "%ff%fe", "..", "%2e%2e", "..%2f..%2fetc%2fpasswd",
    "%27%20OR%201=1--", "lead_1%0d%0aX-Evil:%201", "%25", "+", "lead_1;x", "{id}", "null",
    "{}", "%7B%7D", "%7Bid%7D",
]  # fmt: skip


@pytest.mark.parametrize("bad_id", BAD_IDS)
async def test_an_unknown_or_malformed_id_is_404_never_400(api: Api, bad_id: str) -> None:
    for base in ("/v1/leads", "/api/v1/leads", "/v1/api-keys"):
        path = f"{base}/{bad_id}"
        assert_refused(await api.delete(path), 404, "not_found")
        if base != "/v1/api-keys":
            assert_refused(await api.get(path), 404, "not_found")
            assert_refused(await api.patch(path, {"name": "x"}), 404, "not_found")


@pytest.mark.parametrize("bad_id", BAD_IDS)
async def test_a_bad_id_in_any_path_is_404(api: Api, bad_id: str) -> None:
    hook = {"url": "https://8.8.8.8/hook", "events": ["lead.created"]}
    known = (await api.post("/v1/webhooks", hook)).json["id"]
    for operation in API:
        names = re.findall(r"\{(\w+)\}", operation.path)
        for bad in names:
            path = operation.path.format(**dict.fromkeys(names, known) | {bad: bad_id})
            body = None if operation.body is None else b'{"since": "2026-01-01"}'
            answer = await api.call(operation.method, f"/v1{path}", body)
            expected = {404} if body is None else {400, 404}
            assert answer.status in expected, (operation.method, path, answer.body)


UNKNOWN = [
    ("/v1/leads/{id}", {"expand": "x"}), ("/v1/api-keys", {"page": 1}), ("/health/live", {"a": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "query"), UNKNOWN)
async def test_an_unknown_query_parameter_is_400(
    api: Api, lead_id: str, path: str, query: dict[str, Any]
) -> None:
    answer = await api.get(path.format(id=lead_id), **query)
    assert_refused(answer, 400, "invalid_request")
    assert answer.error["details"][0]["code"] == "unknown_field"


@pytest.mark.parametrize("operation", API, ids=lambda each: each.route)
def test_a_body_may_be_absent_exactly_if_all_its_fields_have_defaults(operation: Operation) -> None:
    if operation.method == "POST" and operation.body is not None:
        is_optional = not any(field.required for field in structs.fields(operation.body))
        assert operation.body.may_be_absent == is_optional
