"""`leadlog doctor`: checks everything that Leadlog needs, and advises what to correct."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from service.cli.commands.output import AsJson, describe_count, print_rows
from service.settings import Settings, SettingsError, load_settings
from sql.errors import DatabaseError

if TYPE_CHECKING:
    import asyncpg

EXTENSIONS = {"pg_trgm", "btree_gin"}
OLDEST_REDIS = 7
EXAMPLE = "For example: leadlog doctor --json"


@dataclass(frozen=True)
class Finding:
    """The result of a check; `advice` is empty if all is well."""

    check: str
    found: str
    advice: str = ""

    @property
    def is_fine(self) -> bool:
        return not self.advice


def doctor(as_json: AsJson = False) -> None:
    """Check settings, servers, migrations, clock and workers. Exit code 1 if anything is wrong."""
    findings = asyncio.run(_examine(os.environ))
    rows = [{"state": "ok" if each.is_fine else "WRONG", **asdict(each)} for each in findings]
    print_rows(rows, ("state", "check", "found", "advice"), as_json=as_json)
    if not all(each.is_fine for each in findings):
        raise typer.Exit(1)


async def _examine(environ: Mapping[str, str]) -> list[Finding]:
    from service.cli.commands.addresses import add_dev_addresses

    try:
        settings = load_settings(environ)
    except SettingsError as error:
        return [
            Finding("settings", str(error), "Correct these variables and run leadlog doctor again.")
        ]
    reached = add_dev_addresses(settings)
    findings = [Finding("settings", "all readable"), _check_secret_key(reached)]
    findings += [finding async for finding in _check_database(reached)]
    findings += [finding async for finding in _check_redis(reached)]
    return findings


def _check_secret_key(settings: Settings) -> Finding:
    from service.encryption import make_encryptor

    advice = (
        "Set SECRET_KEY to 32 random bytes in URL-safe base64: openssl rand -base64 32 | tr +/ -_ ."
    )
    if settings.secret_key is None:
        return Finding("SECRET_KEY", "not set", advice)
    try:
        keys = len(make_encryptor(settings).key_ids)
    except SettingsError:
        return Finding("SECRET_KEY", "not 32 bytes in base64", advice)
    return Finding("SECRET_KEY", describe_count(keys, "key"))


async def _check_database(settings: Settings) -> AsyncIterator[Finding]:
    from sql.connection import connect
    from sql.migrate import check_server, find_pending

    try:
        async with connect(settings.require_database_url()) as conn:
            await check_server(conn)
            version = conn.get_server_version()
            yield Finding("database", f"PostgreSQL {version.major}.{version.micro}")
            yield await _check_migrations(conn)
            yield await _check_extensions(conn)
            yield await _check_clock(conn)
            if not await find_pending(conn):  # else tables to query are missing
                async for finding in _check_background(conn):
                    yield finding
                async for finding in _check_webhook_secrets(conn, settings):
                    yield finding
            if settings.default_plan is not None:
                yield await _check_plan(conn, settings.default_plan)
    except (SettingsError, DatabaseError) as error:
        yield Finding("database", "not usable", str(error))


async def _check_migrations(conn: "asyncpg.Connection") -> Finding:
    from sql.migrate import find_pending, read_migrations

    try:
        missing = await find_pending(conn)
    except DatabaseError as error:
        return Finding("migrations", "not as expected", str(error))
    if missing:
        return Finding("migrations", f"{len(missing)} missing", "Run `leadlog migrate`.")
    return Finding("migrations", f"all {len(read_migrations())} applied")


async def _check_extensions(conn: "asyncpg.Connection") -> Finding:
    rows = await conn.fetch("SELECT name FROM pg_available_extensions")
    missing = sorted(EXTENSIONS - {row["name"] for row in rows})
    if missing:
        advice = "Install PostgreSQL's contrib package (postgresql-contrib) on its machine."
        return Finding("extensions", f"not available: {', '.join(missing)}", advice)
    return Finding("extensions", f"{', '.join(sorted(EXTENSIONS))} available")


async def _check_clock(conn: "asyncpg.Connection") -> Finding:
    from service.database.clock import TOLERANCE_S, measure_skew

    skew_s = await measure_skew(conn)
    advice = "Set both clocks by NTP." if abs(skew_s) > TOLERANCE_S else ""
    return Finding("clock", f"the database's is {skew_s * 1000:+.0f} ms off ours", advice)


async def _check_background(conn: "asyncpg.Connection") -> AsyncIterator[Finding]:
    """Whether workers are running, and how late they are."""
    from service.events.monitoring import find_worker_faults, read_worker_health

    background = await read_worker_health(conn)
    trouble = find_worker_faults(background)
    yield Finding("workers", f"{background.alive} alive", trouble.get("workers", ""))
    slowest = max(background.lags.values(), default=0.0)
    yield Finding("readers", f"at most {slowest:.0f} s behind", trouble.get("readers", ""))


async def _check_webhook_secrets(
    conn: "asyncpg.Connection", settings: Settings
) -> AsyncIterator[Finding]:
    from service.encryption import make_encryptor
    from service.webhooks.key_rotation import count_undecryptable

    try:
        key_ids = make_encryptor(settings).key_ids
    except SettingsError:
        return  # _check_secret_key reports it
    if not (count := await count_undecryptable(conn, key_ids)):
        yield Finding("webhook secrets", "SECRET_KEY decrypts all")
        return
    found = f"SECRET_KEY does not decrypt those of {describe_count(count, 'webhook')}"
    advice = (
        "Set SECRET_KEY to both keys, with a comma in between. If the former key is lost: see "
        "'SECRET_KEY is lost' in deploy/RUNBOOK.md."
    )
    yield Finding("webhook secrets", found, advice)


async def _check_plan(conn: "asyncpg.Connection", name: str) -> Finding:
    from service.database.plan_choice import find_plan_fault

    if await conn.fetchval("SELECT to_regclass('plan')") is None:
        return Finding("DEFAULT_PLAN", name, "Run `leadlog migrate`.")
    return Finding("DEFAULT_PLAN", name, await find_plan_fault(conn, name) or "")


async def _check_redis(settings: Settings) -> AsyncIterator[Finding]:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    from service.events.redis_ping import CHECK_TIMEOUT_S, explain_error

    url = settings.redis_url or ""
    try:
        client = Redis.from_url(
            settings.require_redis_url(), socket_timeout=CHECK_TIMEOUT_S,
            socket_connect_timeout=CHECK_TIMEOUT_S,
        )  # fmt: skip
        try:
            info: dict[str, Any] = await client.info()
        finally:
            await client.aclose()
    except SettingsError as error:
        yield Finding("Redis", "not usable", str(error))
        return
    except (OSError, RedisError) as error:
        yield Finding("Redis", "not usable", explain_error(url, error))
        return
    for finding in (_check_redis_version(info), _check_redis_policy(info)):
        yield finding


def _check_redis_version(info: Mapping[str, Any]) -> Finding:
    version = str(info.get("valkey_version") or info["redis_version"])
    found = f"{'Valkey' if 'valkey_version' in info else 'Redis'} {version}"
    is_old = int(version.split(".", maxsplit=1)[0]) < OLDEST_REDIS
    return Finding("Redis", found, "Use Redis 7 or later, or Valkey." if is_old else "")


def _check_redis_policy(info: Mapping[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "unknown"))
    advice = "Set maxmemory-policy noeviction: other policies would drop parts of the CRM streams."
    return Finding("maxmemory-policy", policy, "" if policy == "noeviction" else advice)
