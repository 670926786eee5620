"""The pages in real Chromium: phone and laptop, light and dark, without scripts, with axe-core.

    PICTURES=/tmp/pictures pytest -n0 tests/service/docs/test_browser.py

stores pictures of the sample, to look at.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from service.http.responses import HTML, StaticPage
from tests.service.docs.guide_code import run

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).parents[3]
TOOLS = ROOT / ".ci" / "verifier"
SAMPLE = (
    "/docs", "/docs/errors", "/docs/webhooks", "/docs/signatures", "/docs/retries", "/docs/limits",
    "/docs/crm-stream", "/docs/reference", "/docs/reference/list-leads",
    "/docs/reference/update-webhook",
)  # fmt: skip


@pytest.mark.timeout(300)  # about a minute on two idle cores
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's package chromium is not there")
@pytest.mark.skipif(
    not (TOOLS / "node_modules" / "axe-core").exists(),
    reason="axe-core is not there: run `npm ci --prefix .ci/verifier`",
)
async def test_pages_look_right_and_are_accessible(
    server: str, pages: dict[str, StaticPage]
) -> None:
    node = shutil.which("node")
    assert node is not None
    found = [path for path, page in pages.items() if page.media_type == HTML and page.status == 200]
    assert set(SAMPLE) <= set(found)
    script = str(Path(__file__).with_name("check_pages.mjs"))
    pictures = [os.environ["PICTURES"]] if "PICTURES" in os.environ else []
    asked = json.dumps({"all": found, "sample": SAMPLE})
    with tempfile.TemporaryDirectory() as home:  # Chromium's profile and caches
        output = await run(
            [node, script, str(TOOLS), server, *pictures], Path(home), {}, asked, patience_s=280
        )
    assert json.loads(output) == []
