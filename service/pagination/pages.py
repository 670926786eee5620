"""Pages of lists: JSON rows from PostgreSQL, with their pagination."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.errors import Fault, InvalidRequest
from service.validation.field_types import ApiStruct

Page = Annotated[
    int,
    Meta(
        ge=1,
        le=1_000_000_000,
        description="Number of the page, from 1; use cursor for pages further on.",
    ),
]
Limit = Annotated[int, Meta(ge=1, le=100, description="Results on a page.")]


class Pagination(ApiStruct, kw_only=True):
    """The position of a page in its list.

    `page` is absent if the request had a `cursor`; `nextCursor` is absent on the last page;
    `totalEstimated` is absent unless it is true.
    """

    page: int | UnsetType = UNSET
    limit: int
    total: int
    total_pages: int
    has_more: bool
    next_cursor: str | UnsetType = UNSET
    total_estimated: bool | UnsetType = UNSET


def encode_page(data: str, pagination: Pagination) -> bytes:
    """The body of a list response; `data` is JSON objects, separated by commas."""
    return b'{"data":[%b],"pagination":%b}' % (data.encode(), msgspec.json.encode(pagination))


def make_pagination(
    page: int | None,
    limit: int,
    total: int,
    *,
    has_more: bool,
    next_cursor: str | None,
    is_estimate: bool = False,
) -> Pagination:
    """Make the Pagination of a page; `page` is None if the page was requested by cursor."""
    return Pagination(
        page=UNSET if page is None else page,
        limit=limit,
        total=total,
        total_pages=-(-total // limit),
        has_more=has_more,
        next_cursor=UNSET if next_cursor is None else next_cursor,
        total_estimated=True if is_estimate else UNSET,
    )


def refuse_deep_page(where: str) -> InvalidRequest:
    """Make the 400 for a page that skips too many rows; `where` completes `page is …`."""
    message = (
        f"page is {where}: instead of page, send as cursor the "
        "pagination.nextCursor of the page before."
    )
    return InvalidRequest(message, details=[Fault("page", "out_of_range", message)])
