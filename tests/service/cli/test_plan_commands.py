"""The commands `leadlog plans` and what `leadlog tenants` sets."""

import json

import pytest

from service.cli.dev.first_key import ensure_tenant
from service.database.connect import Pool
from tests.service.cli.commandline import Command, bare, empty_url, leadlog

__all__ = ["bare", "empty_url", "leadlog"]  # fixtures


@pytest.fixture
async def acme(committed: Pool) -> str:
    async with committed.acquire() as conn:
        await ensure_tenant(conn, "acme")
    return "acme"


def list_plans(leadlog: Command) -> dict[str, dict[str, object]]:
    lines = leadlog("plans", "list", "--json").out.splitlines()
    return {plan["name"]: plan for plan in map(json.loads, lines)}


def test_the_plans_of_the_reference_exist(leadlog: Command, acme: str) -> None:
    plans = list_plans(leadlog)
    assert acme
    assert plans["starter"] == {
        "name": "starter", "perMinute": 60, "perDay": 10_000, "concurrent": 5, "tenants": 0,
        "routes": {"GET /leads/search": 20, "POST /leads": 30},
    }  # fmt: skip
    assert set(plans) == {"starter", "pro", "enterprise", "unlimited"}
    assert leadlog("plans", "list").rows[0][0] == "starter"


def test_a_plan_is_created_assigned_replaced_and_removed(leadlog: Command, acme: str) -> None:
    options = ("--per-minute", "600", "--route", "POST /leads=300", "--route", "GET /leads=9")
    assert leadlog("plans", "set", "busy", *options).code == 0
    assert leadlog("tenants", "plan", acme, "busy").code == 0
    assert list_plans(leadlog)["busy"] == {
        "name": "busy", "perMinute": 600, "perDay": None, "concurrent": None, "tenants": 1,
        "routes": {"GET /leads": 9, "POST /leads": 300},
    }  # fmt: skip
    assert json.loads(leadlog("tenants", "list", "--json").out)["plan"] == "busy"
    assert leadlog("plans", "set", "busy", "--concurrent", "7", "--route", "GET /leads=8").code == 0
    plan = list_plans(leadlog)["busy"]
    assert (plan["perMinute"], plan["concurrent"], plan["routes"]) == (None, 7, {"GET /leads": 8})
    refused = leadlog("plans", "remove", "busy")
    assert (refused.code, "Tenants use the plan 'busy'" in refused.sentence) == (1, True)
    assert leadlog("tenants", "plan", acme).code == 0
    assert leadlog("plans", "remove", "busy").code == 0
    assert "busy" not in list_plans(leadlog)


def test_a_phone_region_is_set_and_removed(leadlog: Command, acme: str) -> None:
    assert leadlog("tenants", "phone-region", acme, "de").code == 0
    assert json.loads(leadlog("tenants", "list", "--json").out)["phoneRegion"] == "DE"
    assert leadlog("tenants", "phone-region", acme).code == 0
    assert json.loads(leadlog("tenants", "list", "--json").out)["phoneRegion"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plans", "set", "Bad Name"), "is not a valid name"),
        (("plans", "set", "x", "--per-minute", "0"), "must be a whole number from 1 to"),
        (("plans", "set", "x", "--route", "POST /leads"), "not like 'POST /leads=30'"),
        (("plans", "set", "x", "--route", "POST /nothing=3"), "There is no route 'POST /nothing'"),
        (("plans", "remove", "x"), "There is no plan named 'x'"),
        (("tenants", "plan", "acme", "x"), "There is no plan 'x': choose one of"),
        (("tenants", "plan", "nobody", "pro"), "There is no tenant named 'nobody'"),
        (("tenants", "phone-region", "nobody", "DE"), "There is no tenant named 'nobody'"),
        (("tenants", "phone-region", "acme", "XX"), "'XX' is no country code of two letters"),
    ],
)
def test_invalid_arguments_are_reported_and_change_nothing(
    leadlog: Command, acme: str, arguments: tuple[str, ...], words: str
) -> None:
    before = list_plans(leadlog)
    assert acme
    ended = leadlog(*arguments)
    assert ended.code != 0
    assert words in " ".join(ended.err.split())
    assert list_plans(leadlog) == before


def test_doctor_reports_whether_the_default_plan_exists(leadlog: Command, acme: str) -> None:
    assert acme
    leadlog.set("DEFAULT_PLAN", "pro")
    rows = {row[1]: row for row in leadlog("doctor").rows}
    assert rows["DEFAULT_PLAN"][:3] == ["ok", "DEFAULT_PLAN", "pro"]
    leadlog.set("DEFAULT_PLAN", "gold")
    rows = {row[1]: row for row in leadlog("doctor").rows}
    assert rows["DEFAULT_PLAN"][0] == "WRONG"
