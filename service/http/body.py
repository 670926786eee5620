"""Reads the body of a request, within bounds of size and time."""

from starlette.types import Receive

from service.errors import Fault, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from service.http.deadlines import Deadlines
from service.http.server.cycle import CUT_OFF, RequestCycle
from service.http.server.fields import Fields
from service.load.load_shedder import waiting
from service.settings import Settings

JSON = b"application/json"
_UTF_8 = {"charset=utf-8", 'charset="utf-8"', "charset=utf8", 'charset="utf8"'}


async def read_body(
    fields: Fields,
    cycle: RequestCycle | None,
    receive: Receive,
    settings: Settings,
    deadlines: Deadlines,
) -> bytes:
    """Read the body. Raises a Problem as soon as it is too large, too slow or not declared JSON."""
    limit_bytes, timeout_s = settings.body_limit_bytes, settings.body_timeout_s
    check_media_type(fields)
    declared = (
        fields.get(b"content-length", b"").lstrip(b"0") or b"0"
    )  # int() has a limit of digits
    if int(declared) > limit_bytes:
        message = f"The body may have {limit_bytes} bytes; this one has {int(declared)}."
        raise PayloadTooLarge(message)
    body = None if cycle is None else cycle.take_body()
    if body is not None:
        _check_size(len(body), limit_bytes)
        return body
    try:
        with deadlines.limit(timeout_s):
            async with waiting():  # while it waits for its client, a request is not in progress
                return await _collect(receive, limit_bytes, cycle)
    except TimeoutError:
        message = f"The body did not arrive within {timeout_s:g} seconds."
        raise InvalidRequest(
            message, details=[Fault("", "too_slow", message)], headers={"Connection": "close"}
        ) from None


def has_body(fields: Fields) -> bool:
    """Whether the headers announce a body. Without a body its media type is not checked."""
    return fields.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in fields


def check_media_type(fields: Fields) -> None:
    """Check that the body is declared as JSON in UTF-8, or not declared, and not compressed."""
    given = fields.get(b"content-type", JSON)
    if given != JSON:
        _check_content_type(given.decode("latin-1"))
    if fields.get(b"content-encoding", b"identity").lower() != b"identity":
        message = "Send the body as it is, without Content-Encoding."
        raise UnsupportedMediaType(message, headers={"Accept-Encoding": "identity"})


def _check_content_type(given: str) -> None:
    kind, *parameters = given.lower().split(";")
    kind = kind.strip()
    charsets = [each.strip() for each in parameters if each.strip().startswith("charset=")]
    is_json = kind == "application/json" or kind.endswith("+json")
    if not is_json or any(charset not in _UTF_8 for charset in charsets):
        raise UnsupportedMediaType("Send the body as Content-Type: application/json in UTF-8.")


async def _collect(receive: Receive, limit_bytes: int, cycle: RequestCycle | None) -> bytes:
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            text = (cycle and cycle.fault) or CUT_OFF
            raise InvalidRequest(text, details=[Fault("", "incomplete", text)])
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        _check_size(size, limit_bytes)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_size(size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise PayloadTooLarge(f"The body may have {limit_bytes} bytes; this one has more.")
