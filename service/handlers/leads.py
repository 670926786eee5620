"""/v1/leads and /v1/leads/{id}."""

from service.http.idempotency import replay
from service.http.request import Request
from service.http.responses import Response, no_content, reply
from service.idempotency_keys import StoredResponse
from service.leads.etags import find_known_version, is_known, parse_if_match
from service.leads.models import LeadPatch, NewLead


async def capture_lead(request: Request) -> Response:
    """POST: 201 with the lead and its Location."""
    new = await request.body(NewLead)
    lead = await request.state.leads.capture(request.principal, new, request.idempotency_key)
    if isinstance(lead, StoredResponse):
        return replay(lead)
    return reply(lead.body, 201, {"Location": str(lead.location), "ETag": lead.etag})


async def get_lead(request: Request) -> Response:
    """GET one: the lead with its conversation summary and timeline; 304 if the caller has that."""
    leads, seen = request.state.leads, request.header(b"if-none-match")
    found = await leads.get(request.principal, request.id, find_known_version(seen))
    if is_known(seen, found.etag):
        return Response(None, 304, {"ETag": found.etag}.items())
    if found.body is None:  # the ETag has the lead's version, but was never sent for it
        found = await leads.get(request.principal, request.id)
    return reply(found.body, headers={"ETag": found.etag})


async def update_lead(request: Request) -> Response:
    """PATCH: change the fields that are sent; 200 with the lead, even if nothing changed."""
    lead_id, patch = request.id, await request.body(LeadPatch)
    expected = parse_if_match(request.header(b"if-match"))
    lead = await request.state.leads.update(
        request.principal, lead_id, patch, expected, request.idempotency_key
    )
    if isinstance(lead, StoredResponse):
        return replay(lead)
    return reply(lead.body, headers={"ETag": lead.etag})


async def delete_lead(request: Request) -> Response:
    """DELETE: 204."""
    expected = parse_if_match(request.header(b"if-match"))
    await request.state.leads.delete(request.principal, request.id, expected)
    return no_content()
