"""The pages of /docs, rendered when the first of them is requested.

Rendering takes half a second and 10 MB, which a process that never sends a page saves. It
runs in a thread, so that other requests do not wait.
"""

import asyncio
from typing import Any

from service.http.responses import StaticPage
from service.settings import Settings


class DocsSite:
    """Finds a page by its path."""

    def __init__(self, document: dict[str, Any], settings: Settings) -> None:
        self._source = document, settings
        self._pages: dict[str, StaticPage] = {}
        self._rendering = asyncio.Lock()

    async def find(self, path: str) -> StaticPage:
        """The page or file at the path; the page that says so if there is none."""
        if not self._pages:
            async with self._rendering:
                if not self._pages:
                    self._pages = await asyncio.to_thread(_render, *self._source)
        return self._pages.get(path.rstrip("/")) or self._pages["/docs/missing"]


def _render(document: dict[str, Any], settings: Settings) -> dict[str, StaticPage]:
    from service.docs.rendering import render_site  # noqa: PLC0415  # its libraries take 80 ms

    return render_site(document, settings)
