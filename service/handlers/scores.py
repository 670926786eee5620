"""/v1/leads/{id}/score: why a lead has its score."""

import sql
from service.errors import NotFound
from service.http.request import Request
from service.http.responses import Response, reply
from service.leads.scores import LeadScore, decode_factors, find_band


async def get_score(request: Request) -> Response:
    """GET: the stored score, and the stored factors that add up to it."""
    lead_id, who = request.id, request.principal
    row = await request.state.pool.fetchrow(sql.score_get, who.tenant_id, who.live, lead_id)
    if row is None:
        raise NotFound(f"There is no lead with the id {lead_id}.")
    return reply(
        LeadScore(
            lead_id=row["id"],
            score=row["score"],
            band=find_band(row["score"]),
            method="rules",
            rules_version=row["rules"],
            computed_at=row["scored_at"],
            factors=decode_factors(row["factors"]),
        )
    )
