"""The form of an Authorization header, and the messages about one without a valid API key."""

import pytest

from tests.harness.api_client import Api

BEARER = "The Authorization header must be: Bearer sk_live_… or sk_test_…."


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "Bearer sk_live_bad",
            "16 to 64 letters and digits must follow sk_live_, here 3; was all of it",
        ),
        ("bearer sk_test_", "16 to 64 letters and digits must follow sk_test_, here 0;"),
        (
            "Bearer sk_live_" + "x" * 65,
            "must follow sk_live_, here 65; was more than the key copied",
        ),
        ("Bearer sk_live_" + "x" * 20 + "-_", "only letters and digits may follow sk_live_."),
        ("Bearer sk_live_ " + "x" * 20, "only letters and digits may follow sk_live_."),
        ("Bearer sk_prod_" + "x" * 20, BEARER),
        ("Basic YTpi", BEARER),
        ("sk_live_" + "x" * 32, BEARER),
        ("Bearer sk_live_" + "x" * 32, "This API key is unknown, revoked or expired."),
    ],
)
async def test_a_malformed_key_is_refused_with_the_reason(
    api: Api, header: str, message: str
) -> None:
    async with api.session.get(
        f"{api.url}/v1/leads", headers={"Authorization": header}
    ) as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (401, "unauthorized")
    assert message in error["message"]
    assert "xxx" not in error["message"]


@pytest.mark.parametrize("spaces", [1, 2, 20])
async def test_one_or_more_spaces_follow_the_scheme(api: Api, spaces: int) -> None:
    headers = {"Authorization": f"Bearer{' ' * spaces}{api.key}"}
    async with api.session.get(f"{api.url}/v1/leads", headers=headers) as response:
        assert response.status == 200
