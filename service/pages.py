"""A page of JSON that PostgreSQL has made, and where it stands."""

import msgspec

from service.errors import Fault, InvalidRequest
from service.models import Pagination


def encode_page(data: str, pagination: Pagination) -> bytes:
    """The reply of a list; `data` is JSON, with commas between, and goes out as it is."""
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
    """`page` is None where the page was asked for by cursor, and is then left out."""
    return Pagination(
        page=msgspec.UNSET if page is None else page,
        limit=limit,
        total=total,
        total_pages=-(-total // limit),
        has_more=has_more,
        next_cursor=msgspec.UNSET if next_cursor is None else next_cursor,
        total_estimated=True if is_estimate else msgspec.UNSET,
    )


def refuse_deep_page(where: str) -> InvalidRequest:
    """`where`: what the page is, to end a sentence."""
    message = (
        f"page is {where}: go on from the page before by its pagination.nextCursor, in cursor "
        "instead of page."
    )
    return InvalidRequest(message, details=[Fault("page", "out_of_range", message)])
