"""Idempotency-Key: a POST or PATCH that is repeated with the same key takes effect once.

The first response below 500 is stored for a day and sent again byte for byte. It is stored in the
transaction of the change: by the handler's own statement if the operation says so, else in a
transaction around the handler. A refusal changed nothing, so it is stored afterwards.
"""

from http import HTTPStatus
from typing import Any

import sql
from service.database.connect import Connection
from service.encryption import DecryptionError, open_encryptor
from service.errors import Problem, Unavailable
from service.http.idempotent_transaction import IdempotentTransaction
from service.http.operations import Operation
from service.http.request import Request
from service.http.responses import Response, explain
from service.http.state import KeyOwner
from service.idempotency_keys import (
    HEADER,
    HEADER_NAME,
    MAX_STORED_BYTES,
    KeyInUse,
    KeyReused,
    StoredResponse,
    check_key,
    make_digest,
    make_stored_response_owner,
)
from service.settings import Settings
from service.telemetry.metrics import IDEMPOTENT_REPLAYS

HEADER_FIELD = HEADER_NAME.encode()


async def respond_once(operation: Operation, request: Request) -> Response:
    """Respond to a request with the header: by the stored response, else by the handler.

    Raises KeyInUse if no response is stored yet and another request with the key is in progress.
    """
    key = check_key(request.header(HEADER_FIELD) or "")
    who = request.principal
    owner = who.tenant_id, who.live, make_digest(operation.method, operation.path, key)
    request.key_digest = owner[2]
    try:
        return await _respond_alone(operation, request, owner)
    except KeyInUse:  # the other request may be a repeat too, or have just been finished
        stored = await _find_stored(operation, request, owner)
        if stored is None:
            raise
        return stored


async def _respond_alone(operation: Operation, request: Request, owner: KeyOwner) -> Response:
    """Respond unless another request with the key is in progress. Raises KeyInUse."""
    in_flight = request.state.keys_in_flight
    if owner in in_flight:
        raise KeyInUse
    in_flight.add(owner)
    try:
        if operation.stores_idempotent_response:
            return await operation.handler(request)
        return await _respond_in_transaction(operation, request, owner)
    except (KeyInUse, KeyReused):
        raise
    except Problem as problem:
        stored = await _store_refusal(operation, request, owner, problem)
        if stored is None:
            raise
        return stored
    finally:
        in_flight.discard(owner)


def replay(stored: StoredResponse) -> Response:
    """Make the response that sends a stored response again."""
    IDEMPOTENT_REPLAYS.inc()
    headers = {"Idempotency-Replayed": "true"}
    if stored.location is not None:
        headers["Location"] = stored.location
    if stored.etag is not None:
        headers["ETag"] = stored.etag
    return Response(stored.body, stored.status, headers.items())


async def _respond_in_transaction(
    operation: Operation, request: Request, owner: KeyOwner
) -> Response:
    stored = await _find_stored(operation, request, owner)
    if stored is not None:
        return stored
    state = request.state
    async with IdempotentTransaction(owner) as request.transaction:
        response = await operation.handler(request)
        conn = await request.transaction.begin(state.pool)
        await _store(conn, request, owner, response, is_secret=operation.shows_secret)
    state.wakeups.notify("delivery")  # the handler sent its wake-up before the commit
    return response


async def _find_stored(operation: Operation, request: Request, owner: KeyOwner) -> Response | None:
    """Find the stored response. Raises KeyReused if it belongs to another request."""
    if operation.body is not None:
        await request.read()  # the digest of the request needs it
    tenant_id, live, key = owner
    asked = [tenant_id], [live], [key]
    rows = await request.state.pool.fetch(sql.idempotent_response_get_many, *asked)
    if not rows:
        return None
    row, digests = rows[0], request.idempotency_key
    if digests is None or row["request"].hex != digests.request:
        raise KeyReused
    body = _decrypt(row, owner, request.state.settings)
    return replay(
        StoredResponse(status=row["status"], body=body, location=row["location"], etag=row["etag"])
    )


async def _store(
    conn: Connection, request: Request, owner: KeyOwner, response: Response, *, is_secret: bool
) -> bool:
    """Store the response; False if a response is stored already."""
    digests = request.idempotency_key
    if digests is None:
        raise RuntimeError("a response is stored under an Idempotency-Key only")
    sealed = None
    if is_secret:
        encryptor = open_encryptor(request.state.settings)
        sealed = encryptor.seal(response.body, make_stored_response_owner(*owner))
    stored = await conn.fetchval(
        sql.idempotent_response_insert_if_new, *owner, digests.request, response.status,
        response.find_header(b"location"), response.find_header(b"etag"),
        None if is_secret else response.body.decode(), sealed,
    )  # fmt: skip
    return stored is not None


async def _store_refusal(
    operation: Operation, request: Request, owner: KeyOwner, problem: Problem
) -> Response | None:
    """Store the response to a problem, or return the response that another request stored."""
    was_read = operation.body is None or request.raw is not None
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR or not was_read:
        return None
    state = request.state
    response = explain(problem, state.settings.public_docs_url)
    if len(response.body) > MAX_STORED_BYTES:
        return None
    async with state.pool.acquire() as conn:
        if await _store(conn, request, owner, response, is_secret=False):
            return None
    return await _find_stored(operation, request, owner)


def _decrypt(row: Any, owner: KeyOwner, settings: Settings) -> bytes:
    if row["sealed"] is None:
        return str(row["body"]).encode()
    try:
        return open_encryptor(settings).open(row["sealed"], make_stored_response_owner(*owner))
    except DecryptionError:
        message = f"The response under this {HEADER} was encrypted with a SECRET_KEY that is gone."
        raise Unavailable(message, retry_after_s=3600) from None
