from tests.serving import Api


async def test_a_key_is_shown_once_and_listed_without_itself(api: Api) -> None:
    made = await api.post("/v1/api-keys", {"name": "ci", "scope": "read"})
    assert made.status == 201
    assert made.json["key"].startswith("sk_live_")
    listed = await api.get("/v1/api-keys")
    row = next(row for row in listed.json["data"] if row["id"] == made.json["id"])
    assert "key" not in row
    assert row["last4"] == made.json["key"][-4:]
    assert made.json["key"].encode() not in listed.body
