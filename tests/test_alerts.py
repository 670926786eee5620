"""The alerts are valid, have severities and tests, and use metrics and jobs that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

DEPLOY = Path(__file__).parent.parent / "deploy"
ALERTS = (DEPLOY / "alerts.yaml").read_text(encoding="utf-8")
RULE_TESTS = (DEPLOY / "alerts.test.yaml").read_text(encoding="utf-8")
SCRAPES = (DEPLOY / "prometheus.yaml").read_text(encoding="utf-8")
NEEDS_PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian's prometheus) is not installed"
)


@NEEDS_PROMTOOL
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yaml"),
        ("test", "rules", "alerts.test.yaml"),
        ("check", "config", "--syntax-only", "prometheus.yaml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_no_fault(arguments: tuple[str, ...]) -> None:
    command = [shutil.which("promtool") or "promtool", *arguments]
    ended = subprocess.run(  # noqa: S603
        command, cwd=DEPLOY, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_has_a_severity_and_a_test() -> None:
    alerts = re.split(r"^ +- alert: ", ALERTS, flags=re.MULTILINE)[1:]
    assert len(alerts) >= 14
    for alert in alerts:
        name = alert.splitlines()[0]
        assert re.search(r"^ +labels: \{severity: (critical|warning)\}$", alert, re.MULTILINE), name
        assert re.search(rf"alertname: {name}\n +exp_alerts:\n", RULE_TESTS), name


def test_every_job_of_an_alert_is_scraped() -> None:
    jobs = re.findall(r'job=~?"([^"]+)"', ALERTS)
    named = {job for alternatives in jobs for job in alternatives.split("|")}
    scraped = set(re.findall(r"job_name: (\S+)", SCRAPES))
    assert named == scraped


def test_each_warning_counter_starts_at_0_so_that_its_first_step_alerts() -> None:
    for warning in re.findall(r'warning="([^"]+)"', ALERTS):
        sample = REGISTRY.get_sample_value("leadlog_janitor_warnings_total", {"warning": warning})
        assert sample is not None, warning


def test_workers_are_scraped_at_the_port_that_compose_and_systemd_give_them() -> None:
    [target] = re.findall(r'job_name: leadlog-work\b.*?"127\.0\.0\.1:(\d+)"', SCRAPES, re.DOTALL)
    compose = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    unit = (DEPLOY / "systemd/leadlog-worker.service").read_text(encoding="utf-8")
    assert re.findall(r'METRICS_PORT: "(\d+)"', compose) == [target]
    assert re.findall(r"leadlog work --metrics-port (\d+)$", unit, re.MULTILINE) == [target]
    runbook = (DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8")
    assert re.findall(r"leadlog work --metrics-port (\d+)", runbook) == [target]
