"""/v1/leads/{id}/score: why a lead has the score it has."""

from starlette.responses import Response

import sql
from service.errors import NotFound
from service.http.call import Call
from service.http.replies import reply
from service.leads.scores import LeadScore, decode_factors, find_band


async def get_score(call: Call) -> Response:
    """GET: the score and the factors that add up to it, as they were computed."""
    lead_id, who = call.id, call.principal
    row = await call.state.pool.fetchrow(sql.score_get, who.tenant_id, who.live, lead_id)
    if row is None:
        raise NotFound(f"There is no lead with the id {lead_id}.")
    return reply(
        LeadScore(
            lead_id=row["id"],
            score=row["score"],
            band=find_band(row["score"]),
            method="rules",
            rules_version=row["score_rules"],
            computed_at=row["scored_at"],
            factors=decode_factors(row["score_factors"]),
        )
    )
