"""/v1/leads and /v1/leads/{id}."""

from starlette.responses import Response

from service.etags import find_known_version, is_known, parse_if_match
from service.http.call import Call
from service.http.replies import Reply, no_content, reply
from service.models import LeadPatch, NewLead


async def capture_lead(call: Call) -> Response:
    """POST: 201 with the row and where to find it."""
    new = await call.body(NewLead)
    made = await call.state.leads.capture(call.principal, new, call.request_key)
    return reply(made.body, 201, {"Location": str(made.location), "ETag": made.etag})


async def get_lead(call: Call) -> Response:
    """GET one: the row, what its conversations told, its timeline; 304 if the caller has that."""
    lead_id, seen = call.id, call.header("if-none-match")
    found = await call.state.leads.get(call.principal, lead_id, find_known_version(seen))
    headers = {"ETag": found.etag}
    if found.body is None or is_known(seen, found.etag):
        return Reply(None, 304, headers.items())
    return reply(found.body, headers=headers)


async def update_lead(call: Call) -> Response:
    """PATCH: changes what is sent; 200 with the row, changed or not."""
    lead_id, patch = call.id, await call.body(LeadPatch)
    expected = parse_if_match(call.header("if-match"))
    shown = await call.state.leads.update(
        call.principal, lead_id, patch, expected, call.request_key
    )
    return reply(shown.body, headers={"ETag": shown.etag})


async def delete_lead(call: Call) -> Response:
    """DELETE: 204."""
    expected = parse_if_match(call.header("if-match"))
    await call.state.leads.delete(call.principal, call.id, expected)
    return no_content()
