import base64
import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks
import svix

from service.webhooks.secrets import decode_secret, make_secret
from service.webhooks.signing import sign, verify

NODE = shutil.which("node")
VERIFIER = Path(__file__).parents[3] / ".ci" / "verifier"
"""The folder in which CI installs Standard Webhooks' library for JavaScript (`npm ci`)."""
_BY_HAND = """
const crypto = require('crypto');
function verify(secret, body, headers) {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const text = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
  const made = crypto.createHmac('sha256', key).update(text).digest('base64');
  return headers['webhook-signature'].split(' ').includes('v1,' + made);
}
"""
_BY_LIBRARY = """
const { Webhook } = require('standardwebhooks');
function verify(secret, body, headers) {
  try { new Webhook(secret).verify(body, headers); return true; } catch (e) { return false; }
}
"""
_MAIN = """
const cases = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(cases.map(([secret, body, headers]) => verify(secret, body, headers))));
"""
GOLDEN_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_signature_equals_the_golden_vector() -> None:
    key = decode_secret(GOLDEN_SECRET)
    found = sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signature_is_valid_for_each_key_and_for_no_changed_content() -> None:
    keys, stranger = [b"1" * 24, b"2" * 24], b"3" * 24
    header = f"v2,x v1,% {sign(keys, 'evt_1', 1000, b'{}')}"
    assert verify([stranger, keys[1]], "evt_1", 1000, b"{}", header)
    assert not verify([stranger], "evt_1", 1000, b"{}", header)
    assert not verify(keys, "evt_2", 1000, b"{}", header)
    assert not verify(keys, "evt_1", 1001, b"{}", header)
    assert not verify(keys, "evt_1", 1000, b"{} ", header)
    assert not verify([], "evt_1", 1000, b"{}", header)
    assert not verify(keys, "evt_1", 1000, b"{}", "v1,é ")


@pytest.mark.parametrize("position", [0, 1])
def test_each_of_several_secrets_verifies_with_independent_libraries(position: int) -> None:
    secrets = [make_secret(), make_secret()]
    body = '{"name":"Zoë 🦊"}'.encode()
    now = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign([decode_secret(s) for s in secrets], "evt_1", now, body),
    }
    standardwebhooks.Webhook(secrets[position]).verify(body, headers)
    svix.Webhook(secrets[position]).verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(make_secret()).verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secrets[position]).verify(body + b" ", headers)


@pytest.mark.parametrize("size", [24, 32, 64])
def test_secrets_of_24_to_64_bytes_are_accepted(size: int) -> None:
    assert decode_secret("whsec_" + base64.b64encode(bytes(size)).decode()) == bytes(size)


@pytest.mark.skipif(NODE is None, reason="Node.js is not there: install it to verify with it")
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(_BY_HAND, id="written by hand"),
        pytest.param(
            _BY_LIBRARY,
            id="its library",
            marks=pytest.mark.skipif(
                not (VERIFIER / "node_modules").exists(),
                reason="the library is not there: run `npm ci --prefix .ci/verifier`",
            ),
        ),
    ],
)
def test_another_language_verifies_our_signature(program: str) -> None:
    secrets, stranger = [make_secret(), make_secret()], make_secret()
    body, now = '{"name":"Zoë 🦊"}', int(datetime.now(UTC).timestamp())
    keys = [decode_secret(secret) for secret in secrets]
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign(keys, "evt_1", now, body.encode()),
    }
    cases = [
        (secrets[0], body, headers), (secrets[1], body, headers), (stranger, body, headers),
        (secrets[0], body + " ", headers), (secrets[0], body, {**headers, "webhook-id": "evt_2"}),
    ]  # fmt: skip
    done = subprocess.run(  # noqa: S603
        [str(NODE), "-e", program + _MAIN], input=json.dumps(cases).encode(),
        capture_output=True, check=True, cwd=VERIFIER, timeout=30,
    )  # fmt: skip
    assert json.loads(done.stdout) == [True, True, False, False, False]
