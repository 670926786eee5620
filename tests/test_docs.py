"""The documents contain every setting and name only routes, files and metrics that exist."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main
from prometheus_client import REGISTRY

from service.app import API, PREFIXES, SERVICE
from service.cli.program import app as commands
from service.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEPLOY = (ROOT / "deploy/README.md").read_text(encoding="utf-8")
ENV_EXAMPLE = (ROOT / "deploy" / "env.example").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "deploy" / "RUNBOOK.md").read_text(encoding="utf-8")
ALERTS = (ROOT / "deploy" / "alerts.yaml").read_text(encoding="utf-8")
METRICS = set(REGISTRY._names_to_collectors)
FIELDS = msgspec.structs.fields(Settings)
# A setting of deploy/compose.yaml, which makes DATABASE_URL from it.
NOT_OURS = {"POSTGRES_PASSWORD"}


def show_default(value: Any) -> str:
    """A default value as an operator writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def test_env_example_has_every_setting_with_its_default_and_a_comment() -> None:
    found = dict(re.findall(r"^([A-Z_]+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
    expected = {field.name.upper(): show_default(field.default) for field in FIELDS}
    assert {name: found[name] for name in found if name not in NOT_OURS} == expected
    for paragraph in ENV_EXAMPLE.split("\n\n"):
        if re.search(r"^[A-Z_]+=", paragraph, re.MULTILINE):
            assert paragraph.startswith("#"), paragraph


def test_env_example_gives_the_defaults() -> None:
    environ = dict(re.findall(r"^([A-Z_]+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
    assert load_settings(environ) == Settings()


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_deploy_readme_has_every_setting_with_its_default(field: msgspec.structs.FieldInfo) -> None:
    name = field.name.upper()
    (row,) = [line for line in DEPLOY.splitlines() if re.match(rf"\|.*`{name}`.*\|", line)]
    names, defaults, _ = (re.findall("`([^`]*)`", cell) for cell in row.strip("|").split("|", 2))
    if default := show_default(field.default):
        assert defaults[names.index(name)] == default
    else:
        assert not defaults


def test_every_route_that_readme_names_exists() -> None:
    routes = {prefix + op.path for op in API for prefix in PREFIXES} | {op.path for op in SERVICE}
    patterns = [re.sub(r"\{\w+\}", "[^/]+", route) for route in routes]
    named = set(
        re.findall(r"(?:/api)?/v1/[\w/$-]+|/health/\w+|/metrics\b|/openapi\.json", README + DEPLOY)
    )
    assert "/v1/leads" in named
    assert not [path for path in named if not any(re.fullmatch(p, path) for p in patterns)]


def test_every_file_that_readme_names_exists() -> None:
    named = re.findall(r"\b((?:service|workers|sql|deploy|tests)/[\w./-]+\.\w+)", README)
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert named
    assert [path for path in {*named, *linked} if not (ROOT / path).exists()] == []


def test_every_command_that_readme_names_exists() -> None:
    group = typer.main.get_command(commands)
    known = set(getattr(group, "commands", {}))
    named = set(re.findall(r"(?:^|[\s`/])leadlog ([a-z]+)", README + DEPLOY, re.MULTILINE))
    assert {"serve", "work", "migrate"} <= named
    assert named <= known


def test_every_target_that_readme_names_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"^\s*make ([a-z]+)|`make ([a-z]+)`", README, re.MULTILINE))
    targets = {first or second for first, second in named}
    assert {"run", "test"} <= targets
    assert targets <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def test_alerts_and_alert_headings_of_the_runbook_correspond() -> None:
    alerts = re.findall(r"alert: (\w+)", ALERTS)
    headings = re.findall(r"^## (Leadlog\w+)$", RUNBOOK, re.MULTILINE)
    assert sorted(alerts) == sorted(headings)


def test_every_metric_of_an_alert_exists() -> None:
    named = set(re.findall(r"\bleadlog_\w+", ALERTS))
    assert "leadlog_requests_total" in named
    assert named <= METRICS


def test_every_metric_that_the_runbook_names_exists() -> None:
    assert set(re.findall(r"\bleadlog_\w+", RUNBOOK)) <= METRICS


def test_every_log_event_that_the_runbook_names_is_logged() -> None:
    rooms = (ROOT / "service", ROOT / "workers")
    code = "".join(path.read_text("utf-8") for room in rooms for path in room.rglob("*.py"))
    logged = set(re.findall(r'"([a-z]+\.[a-z_]+)"', code))
    logged |= {f"{name}.{end}" for name in ("database", "redis") for end in ("away", "back")}
    files = {".yaml", ".sql", ".py", ".md", ".example"}
    named = {
        name
        for name in re.findall(r"`([a-z]+\.[a-z_]+)`", RUNBOOK)
        if Path(name).suffix not in files and not name.startswith("checks.")
    }
    assert "job.failed" in named
    assert named <= logged
