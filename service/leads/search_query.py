"""What a search asks and answers with."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from msgspec import Meta

from service.cursor import NextCursor
from service.errors import Fault
from service.models import Input, Limit, Moment, Page, Pagination, Status, Wire
from service.validation import Check


def check_question(q: str) -> Iterator[Fault]:
    """Blanks around it do not count."""
    if len(q.strip()) < 2:  # noqa: PLR2004  # the contract's minimum
        yield Fault("q", "too_short", "q must have at least 2 characters besides blanks.")


def check_paging(query: "SearchQuery") -> Iterator[Fault]:
    """Two ways to page."""
    if query.cursor is not None and query.page is not None:
        yield Fault("cursor", "invalid_value", "cursor and page exclude each other: send one.")


class SearchQuery(Input):
    """The query of GET /v1/leads/search."""

    checks: ClassVar[Mapping[str, Check]] = {"q": check_question, "": check_paging}

    q: Annotated[
        str,
        Meta(
            min_length=2,
            max_length=200,
            description="Words, beginnings or parts of words.",
            extra_json_schema={"pattern": r"\S[\s\S]*\S"},
        ),
    ]
    page: Page | None = None
    limit: Limit = 25
    cursor: NextCursor | None = None
    status: Annotated[Status, Meta(description="Only leads of this status.")] | None = None


class LeadHit(Wire):
    """A lead that was found, and the field that matched best."""

    id: str
    email: str
    name: str | None
    company: str | None
    status: Status
    score: int
    match_field: str
    last_active_at: Moment


class SearchPage(Wire):
    """Hits by how well they match, then by score."""

    data: list[LeadHit]
    pagination: Pagination
