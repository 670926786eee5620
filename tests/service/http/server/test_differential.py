"""Our parser and h11 read the same requests from the same bytes, with the exceptions listed here.

Requests are made at random from valid and almost valid parts. If both parsers read a message, they
must agree about its method, target, body and end. Our parser may refuse a request that h11 reads
only for a reason in REFUSED, and may read a request that h11 refuses only for a reason in READ.
"""

import itertools
import random
import re
from dataclasses import dataclass

import h11
import pytest

from tests.loopback.memory_server import SeenRequest, serve_bytes

REFUSED = {
    "CONNECT is not supported": "RFC 9110, 9.3.6: an origin server need not have it.",
    "method is not known": "RFC 9110, 9.1: an unknown method is refused.",
    "HTTP/1.1 and HTTP/1.0": "RFC 9110, 6.2: other versions are not supported.",
    "version is malformed": "The same.",
    "HTTP/2 is not supported": "RFC 9113, 3.4: the preface of HTTP/2.",
    "not end with CR LF": "RFC 9112, 2.2: a bare LF need not end a line; a bare CR never does.",
    "a control character": "RFC 9110, 5.5: control characters in a value are not valid.",
    "is folded": "RFC 9112, 5.2: a folded line is refused.",
    "name of a header field": "RFC 9112, 5: a name is a token, with no blank before its colon.",
    "HTTP/1.0 has no": "RFC 9112, 6.1: Transfer-Encoding in HTTP/1.0 is faulty framing.",
    "and a Transfer-Encoding": "RFC 9112, 6.1: two framings; one in trailers is refused (6.5.1).",
    "several Content-Length": "RFC 9110, 8.6: the same length twice may be refused.",
    "Content-Length is malformed": "RFC 9110, 8.6: so may a list of equal ones in one line.",
    "target is not": "RFC 9112, 3.2: an invalid request-target is refused.",
    "must have no fragment": "The same.",
    "Host header is not": "RFC 9112, 3.2: an invalid Host is refused.",
    "malformed size or ext": "RFC 9112, 7.1: no blank around a size, no wrong quoting.",
    "body is too long": "RFC 9112, 7.1: a size above 64 bits; h11 waits for the data.",
}
"""Why some input that h11 accepts is refused, by a part of the error message."""
READ = {
    rb"  ": "RFC 9112, 3: a line may be parsed on blanks; the parser accepts several as one.",
    rb"\n\n|(?:\r\n){4}|\n\Z": "RFC 9112, 2.2: empty lines before a request are skipped.",
    rb"RTSP/1\.0": "The parser reads it as HTTP/1.0, whose connection ends with the response.",
}
"""Patterns of input that is accepted and that h11 refuses, with the reason."""
METHODS = ["GET", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"]
TARGETS = ["/", "/v1/leads", "/a%2Fb?c=d", "http://x/v1/leads?q=1", "/" + "p" * 30]
ODD = {
    "target": ["*", "/a#b", "x", "/\u00ff", "/a b", "//x", "", "http://x", "x:443", "/\x7f"],
    "version": ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "http/1.1", "HTTP/1.1 ", "HTTP/11", "RTSP/1.0"],
    "method": ["get", "FOO", "G ET", "", "CONNECT", "TRACE", "M(", "QUERY"],
    "between": ["  ", "\t"],
}
VERSIONS = ["HTTP/1.1"] * 12 + ["HTTP/1.0"]
FIELDS = [
    "Accept: */*", "accept: a, b", 'If-Match: "1"', "Connection: keep-alive", "Connection: close",
    "X-Empty:", "X-Blank: \t a \t ", "Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c",
    "Expect: 100-continue", "Cookie: a=b", "TE: trailers", "X-Obs: \u00ff",
]  # fmt: skip
ODD_FIELDS = [
    "Host: y", "Host: a b", "X : y", " X: y", "X: a\x00b", "X: a\rb", "X: a\r\n b", "X", ": y",
    "X\t: y", "Content-Length: 5", "Content-Length: +5", "Content-Length: 5, 5", "Content-Length:",
    "Content-Length: 5x", "Content-Length: 1e1", "Content-Length: -1", "Content-Length: 0x5",
    "Content-Length: 99999999999999999999999", "Transfer-Encoding: chunked", "Authorization: b",
    "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, gzip", "X(y): z",
    "Transfer-Encoding: identity", "Transfer-Encoding: xchunked", "Transfer-Encoding: \x0bchunked",
    "Transfer_Encoding: chunked", "Transfer-Encoding : chunked", "Content-Length : 5", "X: a\x01b",
    "X: a\x7fb", "Transfer-Encoding: chunked;q=1", "Transfer-Encoding:", "X\u00ff: y", "X: \x0b",
]  # fmt: skip
BODIES = [
    b"",
    b"hello",
    b"GET /stolen HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n",
    b"0\r\n\r\n",
    b"x" * 99,
]
ODD_CHUNKS = [
    b"5 \r\nhello\r\n", b" 5\r\nhello\r\n", b"5\nhello\r\n", b"5\r\nhello\n", b"0x5\r\nhello\r\n",
    b"+5\r\nhello\r\n", b"\r\nhello\r\n", b"fffffffffffffffff\r\nhello\r\n", b"5;\r\nhello\r\n",
    b'5;a="b"\r\nhello\r\n', b"5\rhello\r\n", b"5\r\nhelloo\r\n", b"5 ;a\r\nhello\r\n", b"-1\r\n",
    b"5;a\nb\r\nhello\r\n", b"5\r\nhell\r\n", b"05\r\nhello\r\n", b"5;a\x00\r\nhello\r\n",
]  # fmt: skip
TRAILERS = [b"", b"", b"", b"X-Trailer: y\r\n", b"Authorization: b\r\n", b"Content-Length: 5\r\n",
            b"X : y\r\n", b"bad\r\n", b"X: y\n", b"Host: z\r\n"]  # fmt: skip
BETWEEN = [
    b"\r\n" * 4, b"\n\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b" ", b"\x16\x03\x01",
]  # fmt: skip
ODD_ENDS = [b"\n", b"\r", b"\r\n ", b" \r\n", b"\r\r\n"]


def make_stream(rng: random.Random) -> bytes:
    """One to three requests, mostly valid."""
    parts = [_make_request(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    if rng.random() < 0.05:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(BETWEEN))
    return b"".join(parts)


@dataclass
class Draft:
    """The head of a request, before it is written."""

    method: str
    target: str
    version: str
    lines: list[str]
    between: str = " "
    end: tuple[int, bytes] = (-1, b"")
    """The number of a line with a wrong end, and this end."""

    def spoil(self, rng: random.Random) -> None:
        """Makes one part unusual or invalid."""
        kind = rng.choice(("target", "version", "method", "between", "end", "line", "line", "line"))
        if kind == "line":
            self.lines.insert(rng.randrange(len(self.lines) + 1), rng.choice(ODD_FIELDS))
        elif kind == "end":
            self.end = rng.randrange(len(self.lines) + 2), rng.choice(ODD_ENDS)
        else:
            setattr(self, kind, rng.choice(ODD[kind]))

    def write(self) -> bytes:
        first = self.between.join((self.method, self.target, self.version))
        ends = [b"\r\n"] * (len(self.lines) + 2)
        if self.end[0] >= 0:
            ends[self.end[0]] = self.end[1]
        texts = [line.encode("latin-1") for line in (first, *self.lines, "")]
        return b"".join(text + end for text, end in zip(texts, ends, strict=True))


def _make_request(rng: random.Random) -> bytes:
    body, is_chunked = rng.choice(BODIES), rng.random() < 0.4
    lines = rng.sample(FIELDS, rng.randrange(4))
    if rng.random() < 0.97:
        lines.append("Host: x")
    if is_chunked:
        lines.append(rng.choice(("Transfer-Encoding: chunked", "transfer-encoding:CHUNKED ")))
    elif body or rng.random() < 0.3:
        lines.append(f"Content-Length: {len(body)}")
    rng.shuffle(lines)
    draft = Draft(rng.choice(METHODS), rng.choice(TARGETS), rng.choice(VERSIONS), lines)
    if rng.random() < 0.5:
        draft.spoil(rng)
    return draft.write() + (_make_chunks(rng, body) if is_chunked else body)


def _make_chunks(rng: random.Random, body: bytes) -> bytes:
    chunks = [b"%x\r\n%b\r\n" % (len(body), body)] if body else []
    if len(body) > 3 and rng.random() < 0.5:
        chunks = [b"1;x=y\r\n%b\r\n" % body[:1], b"%X\r\n%b\r\n" % (len(body) - 1, body[1:])]
    if rng.random() < 0.25:
        chunks.append(rng.choice(ODD_CHUNKS))
    return b"".join(
        (*chunks, rng.choice((b"0\r\n", b"0\r\n", b"000\r\n")), rng.choice(TRAILERS), b"\r\n")
    )


@dataclass
class Reading:
    """A parser's result: the complete requests, and whether it refused the rest."""

    requests: list[tuple[str, bytes, bytes]]
    is_refused: bool


def read_with_h11(data: bytes) -> Reading:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    connection.receive_data(data)
    found: list[tuple[str, bytes, bytes]] = []
    is_open = is_refused = False
    try:
        while (event := connection.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
            if isinstance(event, h11.Request):
                found.append(_plain(event.method.decode(), event.target, b""))
                is_open = True
            elif isinstance(event, h11.Data):
                method, target, body = found.pop()
                found.append((method, target, body + bytes(event.data)))
            else:
                is_open = False
                if not _go_on(connection):
                    break
    except h11.RemoteProtocolError:
        is_refused = True
    return Reading(found[:-1] if is_open else found, is_refused)


def _go_on(connection: h11.Connection) -> bool:
    """Sends a response; returns whether another request may follow."""
    connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
        connection.start_next_cycle()
        return True
    return False


def read_ours(seen: list[SeenRequest], written: bytes) -> Reading:
    whole = [(each.method, each.target, each.body) for each in seen if each.body is not None]
    return Reading([_plain(*each) for each in whole], b"HTTP/1.1 40" in written)


def _plain(method: str, target: bytes, body: bytes) -> tuple[str, bytes, bytes]:
    """A request, with an absolute target replaced by its path."""
    return method, target.removeprefix(b"http://x") or b"/", body


def explain(data: bytes, ours: Reading, theirs: Reading, written: bytes) -> str | None:
    """The listed reason why one parser reads more or refuses more than the other, or None."""
    more = (len(ours.requests), theirs.is_refused) > (len(theirs.requests), ours.is_refused)
    if more:
        return next((why for mark, why in READ.items() if re.search(mark, data)), None)
    text = written.decode("latin-1")
    return next((why for words, why in REFUSED.items() if words in text), None)


@pytest.mark.parametrize(
    ("seed", "count"), [(9112, 1500), pytest.param(9110, 10_000, marks=pytest.mark.long)]
)
async def test_our_parser_and_h11_read_the_same_requests(seed: int, count: int) -> None:
    rng = random.Random(seed)
    agreed = 0
    for _ in range(count):
        data = make_stream(rng)
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 3))))
        pieces = [data[a:b] for a, b in itertools.pairwise((0, *cuts, len(data)))]
        seen, written, _ = await serve_bytes(piece for piece in pieces if piece)
        ours, theirs = read_ours(seen, written), read_with_h11(data)
        both = min(len(ours.requests), len(theirs.requests))
        assert ours.requests[:both] == theirs.requests[:both], data
        if ours == theirs:
            agreed += 1
        else:
            assert explain(data, ours, theirs, written), (data, ours, theirs, written)
    assert agreed > count / 2
