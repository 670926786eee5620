"""Fixtures: the OpenAPI document and the pages, as the service makes them."""

from typing import Any

import pytest

from service.app import API, SERVICE
from service.docs.openapi import make_document
from service.docs.rendering import render_site
from service.http.responses import StaticPage
from service.settings import Settings


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    return make_document(API, SERVICE, "https://leadlog.test/docs")


@pytest.fixture(scope="session")
def pages(document: dict[str, Any]) -> dict[str, StaticPage]:
    """Every page and file of /docs by its path."""
    return render_site(document, Settings())
