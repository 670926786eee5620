"""Log lines contain no API key and no webhook secret, whichever function writes them."""

import ast
import subprocess
import sys

import pytest

from tests.harness.documents import ROOT

LINE_FIELDS = {"at", "event", "level", "part", "timestamp"}

WRITE_LINES = """
import sys
import msgspec
from service.settings import Settings
from service.telemetry.logging import get_logger, set_up_logging, write_info

class Line(msgspec.Struct):
    event: str
    path: str

set_up_logging(Settings(log_format=sys.argv[1]))
log = get_logger("test")
log.info("first", text="a sk_live_hidden1 b", nested=[{"key": "whsec_hidden2+/="}])
try:
    raise ValueError("sk_test_hidden3")
except ValueError:
    log.exception("second")
write_info(Line("third", "/sk_live_hidden4?x"))
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_masked_except_for_their_prefix(log_format: str) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", WRITE_LINES, log_format], capture_output=True, text=True, check=True
    )
    assert "hidden" not in done.stdout
    for masked in ("a sk_live_… b", "whsec_…", "sk_test_…"):
        assert masked in done.stdout
    assert ("/sk_live_…?x" in done.stdout) == (log_format == "json")


@pytest.mark.parametrize("folder", ["service", "workers", "sql"])
def test_no_call_of_a_logger_passes_a_field_that_every_line_has(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
                passed = {keyword.arg for keyword in node.keywords}
                assert not passed & LINE_FIELDS, f"{path.name}, line {node.lineno}"
