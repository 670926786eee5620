"""The query parameters of a search, and its response."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from msgspec import Meta

from service.errors import Fault
from service.leads.models import Status
from service.pagination.cursor import NextCursor
from service.pagination.pages import Limit, Page, Pagination
from service.validation.field_types import ApiStruct, Check, Input, Moment


def check_question(q: str) -> Iterator[Fault]:
    """Counts the characters of q without surrounding blanks."""
    if len(q.strip()) < 2:  # noqa: PLR2004  # the contract's minimum
        yield Fault("q", "too_short", "q must have at least 2 characters besides blanks.")


def check_paging(query: "SearchQuery") -> Iterator[Fault]:
    """Refuses cursor and page together."""
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


class LeadHit(ApiStruct):
    """A lead that matches, and the field with the best match."""

    id: str
    email: str
    name: str | None
    company: str | None
    status: Status
    score: int
    match_field: Annotated[
        str, Meta(description="`name`, `company`, `email`, `customFields.<key>` or `phone`.")
    ]
    last_active_at: Moment


class SearchPage(ApiStruct):
    """Hits in order of match quality, then of score."""

    data: list[LeadHit]
    pagination: Pagination
