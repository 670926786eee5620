import json

import redis

from tests.service.commandline import UNREACHABLE, Command, Ended, bare, empty_url, leadlog

__all__ = ["bare", "empty_url", "leadlog"]  # fixtures


def test_doctor_finds_nothing_wrong(leadlog: Command) -> None:
    ended = leadlog("doctor", "--json")
    found = {row["check"]: row for row in map(json.loads, ended.out.splitlines())}
    assert [row for row in found.values() if row["state"] != "ok"] == []
    assert ended.code == 0
    assert found["database"]["found"].startswith("PostgreSQL 18.")
    assert found["Redis"]["found"].startswith("Valkey 9.")
    assert set(found) == {
        "settings", "SECRET_KEY", "database", "migrations", "extensions", "clock", "Redis",
        "maxmemory-policy",
    }  # fmt: skip


def advice_of(ended: Ended) -> dict[str, str]:
    assert ended.code == 1
    return {check: advice for state, check, _, advice in ended.rows if state == "WRONG"}


def test_doctor_says_what_is_missing(bare: Command) -> None:
    advice = advice_of(bare("doctor"))
    assert advice["SECRET_KEY"].startswith("Set SECRET_KEY to 32 random bytes")
    assert advice["database"].startswith("DATABASE_URL is not set")
    assert advice["Redis"].startswith("REDIS_URL is not set")


def test_doctor_says_what_cannot_be_reached(bare: Command) -> None:
    bare.set("DATABASE_URL", UNREACHABLE)
    bare.set("REDIS_URL", "redis://:geheim@127.0.0.1:1")
    ended = bare("doctor")
    assert "check DATABASE_URL" in advice_of(ended)["database"]
    assert "Check REDIS_URL" in advice_of(ended)["Redis"]
    assert "geheim" not in ended.out


def test_doctor_says_what_settings_are_wrong(leadlog: Command) -> None:
    leadlog.set("SECRET_KEY", "short")
    assert "SECRET_KEY" in advice_of(leadlog("doctor"))
    leadlog.set("PORT", "high")
    assert "PORT='high'" in leadlog("doctor").rows[0][2]


def test_doctor_asks_for_missing_migrations(leadlog: Command, empty_url: str) -> None:
    leadlog.set("DATABASE_URL", empty_url)
    assert advice_of(leadlog("doctor"))["migrations"] == "Run `leadlog migrate`."


def test_doctor_minds_a_redis_that_drops_data(leadlog: Command, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "maxmemory-policy" in advice_of(leadlog("doctor"))
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
