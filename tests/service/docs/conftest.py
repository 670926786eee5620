"""Fixtures: the OpenAPI document and the pages, as the service makes them."""

from pathlib import Path
from typing import Any

import pytest

from service.app import API, SERVICE
from service.docs.openapi.document import make_document
from service.docs.rendering import render_site
from service.http.responses import StaticPage
from service.settings import Settings
from tests.harness.running_service import RunningService, running
from tests.service.docs.guide_code import save_files

__all__ = ["running"]


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    return make_document(API, SERVICE, "https://leadlog.test/docs")


@pytest.fixture(scope="session")
def pages(document: dict[str, Any]) -> dict[str, StaticPage]:
    """Every page and file of /docs by its path."""
    return render_site(document, Settings())


@pytest.fixture
def env(running: RunningService) -> dict[str, str]:
    """The variables that the guides tell their readers to set."""
    return {"LEADLOG_URL": running.api.url, "LEADLOG_KEY": str(running.api.key)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with every file that the guides show."""
    save_files(tmp_path)
    return tmp_path
