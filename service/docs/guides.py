"""The guides: Markdown files in `guides/`, in the order of the menu, with facts filled in."""

from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.docs.markdown import Document, render_markdown

FOLDER = Path(__file__).parent / "guides"
SECTIONS = {
    "Getting started": ("quickstart", "authentication", "errors"),
    "Leads": ("pagination", "concurrency", "limits"),
    "Webhooks": ("webhooks", "signatures", "ordering", "retries"),
    "Events": ("events", "feed", "crm-stream"),
    "Operation": ("health",),
}
"""The names of the guides by the section of the menu."""


class Guide(msgspec.Struct, frozen=True):
    """A guide, rendered; `path` is that of its page."""

    path: str
    section: str
    document: Document

    @property
    def title(self) -> str:
        """The first heading."""
        return self.document.title

    @property
    def summary(self) -> str:
        """The first paragraph."""
        return self.document.summary


def list_guides(facts: dict[str, Any]) -> list[Guide]:
    """Render all guides."""
    texts = fill_guides(facts)
    return [
        Guide(f"/docs/{name}", section, render_markdown(texts[name]))
        for section, names in SECTIONS.items()
        for name in names
    ]


def fill_guides(facts: dict[str, Any]) -> dict[str, str]:
    """The Markdown of each guide, with its facts. Raises UndefinedError for an unknown fact."""
    # Braces and brackets are frequent in the guides' code, guillemets are not.
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=False,  # noqa: S701  # Markdown: the renderer escapes
        undefined=StrictUndefined,
        variable_start_string="«",
        variable_end_string="»",
        block_start_string="«%",
        block_end_string="%»",
        comment_start_string="«#",
        comment_end_string="#»",
    )
    return {
        name: environment.get_template(f"{name}.md").render(facts)
        for names in SECTIONS.values()
        for name in names
    }
