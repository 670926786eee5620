"""A page of JSON that PostgreSQL has made, and where it stands."""

import msgspec

from service.models import Pagination, Wire


class _Page(Wire):
    data: list[msgspec.Raw]
    pagination: Pagination


def encode_page(bodies: list[str], pagination: Pagination) -> bytes:
    """The reply of a list; `bodies` are JSON and go out as they are."""
    return msgspec.json.encode(_Page(data=[msgspec.Raw(b) for b in bodies], pagination=pagination))


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
