"""The request bodies of actions on a webhook."""

import pytest

from tests.harness.api_client import Api
from tests.service.webhooks.test_webhooks import make


@pytest.mark.parametrize("action", ["test", "rotate-secret"])
async def test_an_action_without_a_body_accepts_an_empty_one_and_refuses_any_other(
    api: Api, action: str
) -> None:
    path = f"/v1/webhooks/{await make(api)}/{action}"
    for body in (b"garbage{", b"[]", b"null", b'{"a": 1}', b"{} {}", b"\xff"):
        response = await api.call("POST", path, body)
        assert (response.status, response.error["code"]) == (400, "invalid_request")
    for nothing in (None, b"", b"{}"):
        assert (await api.call("POST", path, nothing)).status in {200, 202}
    headers = {"Content-Type": "text/plain"}
    assert (await api.call("POST", path, b"{}", headers=headers)).status == 415


async def test_a_replay_may_begin_at_the_first_representable_time(api: Api) -> None:
    path = f"/v1/webhooks/{await make(api)}/replay"
    response = await api.post(path, {"since": "0001-01-01T00:00:00Z", "until": "9999-12-31"})
    assert response.status == 202, response.body
    assert response.json["since"].startswith("0001-01-01T00:00:00.0")
