import json

import pytest
import redis

from service.database.connect import Pool
from tests.service.cli.commandline import (
    SECRET_KEY,
    UNREACHABLE,
    Command,
    Ended,
    bare,
    empty_url,
    leadlog,
)
from tests.service.cli.test_webhook_commands import endpoint_id

__all__ = ["bare", "empty_url", "endpoint_id", "leadlog"]  # fixtures
OTHER_KEY = "B" * 42 + "A="


@pytest.fixture
async def leased(committed: Pool) -> None:
    """A worker holds the lease of every job that the event log needs."""
    await committed.execute(
        "INSERT INTO lease SELECT name, 'worker', now() + interval '1 minute' "
        "FROM (SELECT name FROM reader UNION ALL SELECT 'ticker') AS job"
    )


@pytest.mark.usefixtures("leased")
def test_doctor_finds_nothing_wrong(leadlog: Command) -> None:
    ended = leadlog("doctor", "--json")
    found = {row["check"]: row for row in map(json.loads, ended.out.splitlines())}
    assert [row for row in found.values() if row["state"] != "ok"] == []
    assert ended.code == 0
    assert found["database"]["found"].startswith("PostgreSQL 18.")
    assert found["Redis"]["found"].startswith("Valkey 9.")
    assert set(found) == {
        "settings", "SECRET_KEY", "database", "migrations", "extensions", "clock", "Redis",
        "maxmemory-policy", "webhook secrets", "workers", "readers",
    }  # fmt: skip


def advice_of(ended: Ended) -> dict[str, str]:
    assert ended.code == 1
    return {check: advice for state, check, _, advice in ended.rows if state == "WRONG"}


def test_doctor_reports_missing_settings(bare: Command) -> None:
    advice = advice_of(bare("doctor"))
    assert advice["SECRET_KEY"].startswith("Set SECRET_KEY to 32 random bytes")
    assert advice["database"].startswith("DATABASE_URL is not set")
    assert advice["Redis"].startswith("REDIS_URL is not set")


def test_doctor_reports_servers_that_cannot_be_reached(bare: Command) -> None:
    bare.set("DATABASE_URL", UNREACHABLE)
    bare.set("REDIS_URL", "redis://:geheim@127.0.0.1:1")
    ended = bare("doctor")
    assert "check DATABASE_URL" in advice_of(ended)["database"]
    assert "check REDIS_URL" in advice_of(ended)["Redis"]
    assert "geheim" not in ended.out


def test_doctor_reports_invalid_settings(leadlog: Command) -> None:
    leadlog.set("SECRET_KEY", "short")
    assert "SECRET_KEY" in advice_of(leadlog("doctor"))
    leadlog.set("PORT", "high")
    assert "PORT='high'" in leadlog("doctor").rows[0][2]


@pytest.mark.usefixtures("endpoint_id")
def test_doctor_reports_webhook_secrets_that_secret_key_does_not_decrypt(leadlog: Command) -> None:
    leadlog.set("SECRET_KEY", OTHER_KEY)
    ended = leadlog("doctor")
    assert "with a comma in between" in advice_of(ended)["webhook secrets"]
    assert "SECRET_KEY does not decrypt those of 1 webhook\t" in ended.out
    leadlog.set("SECRET_KEY", f"{OTHER_KEY},{SECRET_KEY}")
    assert {"SECRET_KEY", "webhook secrets"}.isdisjoint(advice_of(leadlog("doctor")))


def test_doctor_reports_missing_migrations(leadlog: Command, empty_url: str) -> None:
    leadlog.set("DATABASE_URL", empty_url)
    assert advice_of(leadlog("doctor"))["migrations"] == "Run `leadlog migrate`."


def test_doctor_reports_a_redis_that_evicts_data(leadlog: Command, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "maxmemory-policy" in advice_of(leadlog("doctor"))
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.close()


def test_doctor_reports_that_no_worker_runs(leadlog: Command) -> None:
    assert advice_of(leadlog("doctor"))["workers"] == (
        "no worker process has been seen yet; is `leadlog work` running?"
    )
