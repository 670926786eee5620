import base64
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix

from service.webhooks import decode_secret, make_secret
from workers.signing import sign

GOLDEN_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_signature_is_that_of_the_golden_vector() -> None:
    key = decode_secret(GOLDEN_SECRET)
    found = sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("place", [0, 1])
def test_each_of_several_secrets_verifies_with_independent_libraries(place: int) -> None:
    secrets = [make_secret(), make_secret()]
    body = '{"name":"Zoë 🦊"}'.encode()
    now = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign([decode_secret(s) for s in secrets], "evt_1", now, body),
    }
    standardwebhooks.Webhook(secrets[place]).verify(body, headers)
    svix.Webhook(secrets[place]).verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(make_secret()).verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secrets[place]).verify(body + b" ", headers)


@pytest.mark.parametrize("size", [24, 32, 64])
def test_secrets_of_24_to_64_bytes_are_taken(size: int) -> None:
    assert decode_secret("whsec_" + base64.b64encode(bytes(size)).decode()) == bytes(size)
