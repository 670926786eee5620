"""Reasons in error responses are our own sentences, not the texts of the libraries we use."""

import json
import re

import msgspec
import pytest

from service.errors import Problem
from service.leads.models import check_email
from service.validation.decoding import decode_body
from tests.loopback.memory_server import serve_bytes
from tests.loopback.raw_http import make_request

CHUNKED = make_request("POST", "/", "Transfer-Encoding: chunked")


class Anything(msgspec.Struct):
    a: float = 0.0


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (make_request("GET", "http://a@b:99999"), "its target is not a valid path or URL"),
        (make_request("GET", "http://[::1/"), "its target is not a valid path or URL"),
        (make_request("GET", "leads"), "its target is not a valid path or URL"),
        (make_request("BREW", "/"), "its method is not known"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "its method is not known"),
        (b"GET / HTTP/1.1\nHost: x\n\n", "a line does not end with CR LF"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2 is not supported"),
        (b"GET / HTTP/1:1\r\n\r\n", "a part of it is malformed"),
        (make_request("GET", "/", "a b: c"), "the name of a header field is malformed"),
        (make_request("POST", "/", "Content-Length: x"), "its Content-Length is malformed"),
        (CHUNKED + b"x\r\n", "a chunk of its body has a malformed size or extension"),
        (CHUNKED + b"0\r\na b: c\r\n\r\n", "the name of a header field is malformed"),
    ],
)
async def test_a_malformed_request_is_refused_in_our_own_words(sent: bytes, reason: str) -> None:
    _, written, _ = await serve_bytes([sent])
    head, _, body = written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    found = json.loads(body)["error"]["message"] if b"json" in head else body.decode()
    assert found == f"The request is not valid HTTP/1.1: {reason}."


@pytest.mark.parametrize(
    "raw",
    [
        b"{'a': 1}", b'{"a": 1,}', b'{"a" 1}', b'{"a": 1 "b"}', b"{} {}", b'{"a": 01}', b"[1, ]",
        b'{"a": 1e}', b'{"a": "\\x"}', b'{"a": "\\u12g4"}', b"\xef\xbb\xbf{}", b'{"a": tru}',
        b"[1 2]", b'{"a"', b'{"a": "\xff"}', b'{"a": "\\ud800\\u0041"}', b'{"a": 1e400}', b"a=1",
    ],
)  # fmt: skip
def test_invalid_json_is_refused_in_our_own_words(raw: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)) as theirs:
        msgspec.json.decode(raw)
    with pytest.raises(Problem) as ours:
        decode_body(raw, Anything)
    text = re.sub(r"^JSON is malformed: | \(byte \d+\)$", "", str(theirs.value)).lower()
    assert ours.value.message.startswith("The body is not valid JSON: ")
    assert text not in ours.value.message.lower()
    assert "malformed." not in ours.value.message  # each has a reason of its own


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("sarah", "it has no @"),
        ("a b@acme.com", "before the @"), ("a@b@acme.com", "before the @"),
        ("Sarah <a@acme.com>", "before the @"), ("\ud800@acme.com", "before the @"),
        ("a@acme", "after the @"), ("a@acme.local", "after the @"), ("a@", "after the @"),
        ("a@xn--zz.de", "after the @"),
        ("x" * 60 + "@" + "é.fr." * 18 + "com", "longer than 254"),
    ],
)  # fmt: skip
def test_an_invalid_email_is_refused_in_our_own_words(address: str, part: str) -> None:
    [fault] = check_email(address)
    assert part in fault.message
    assert fault.message.startswith("email is not an e-mail address: ")
