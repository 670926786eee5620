"""/v1/leads and /v1/leads/{id}."""

from starlette.responses import Response

from service.http import Call, no_content, reply
from service.models import LeadPatch, NewLead


async def capture_lead(call: Call) -> Response:
    """POST: 201 with the row and where to find it."""
    new = await call.body(NewLead)
    lead_id, body = await call.state.leads.capture(call.principal, new)
    return reply(body, 201, {"Location": f"/v1/leads/{lead_id}"})


async def get_lead(call: Call) -> Response:
    """GET one: the row, what its conversations told, its timeline."""
    return reply(await call.state.leads.get(call.principal, call.id))


async def update_lead(call: Call) -> Response:
    """PATCH: changes what is sent; 200 with the row, changed or not."""
    lead_id, patch = call.id, await call.body(LeadPatch)
    return reply(await call.state.leads.update(call.principal, lead_id, patch))


async def delete_lead(call: Call) -> Response:
    """DELETE: 204."""
    await call.state.leads.delete(call.principal, call.id)
    return no_content()
