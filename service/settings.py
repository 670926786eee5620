"""One frozen struct of settings, read once and passed on; `deploy/env.example` documents each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from service.limits.plans import NAME as PLAN_NAME

Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class SettingsError(Exception):
    """One or more settings cannot be used; the message names each and says what it should be."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, under its lower-case name; the environment has it in upper case."""

    host: str = "127.0.0.1"
    port: Port = 8080
    data_dir: Path = Path(".data")
    database_url: str | None = None
    """PostgreSQL 15 to 18; unset makes `leadlog dev` start its own."""
    redis_url: str | None = None
    """Redis 7 or Valkey; unset makes `leadlog dev` start its own."""
    secret_key: str | None = None
    """32 bytes in URL-safe base64; encrypts webhook secrets at rest. Older keys may follow, with
    commas in between; see `leadlog webhooks rotate-key`."""
    public_docs_url: str = "/docs"
    """What `doc_url` in errors points at."""

    db_pool_size: Annotated[int, Meta(ge=2)] = 8
    db_statement_cache: Annotated[int, Meta(ge=0)] = 100
    """Prepared statements kept on a connection; 0 behind a PgBouncer older than 1.21."""
    body_limit_bytes: Count = 256 * 1024
    body_timeout_s: Seconds = 10.0
    statement_timeout_s: Seconds = 10.0
    drain_s: Annotated[float, Meta(ge=0, le=300)] = 1.0
    """How long, after SIGTERM, requests are served while /health/ready says no."""
    shed_after_s: Seconds = 0.15
    """How long requests may wait before more of them are refused with 503."""
    default_plan: Annotated[str, Meta(pattern=PLAN_NAME)] | None = None
    """The plan of tenants that have none of their own; unset: no limits. See `leadlog plans`."""
    event_retention_days: Count = 30
    webhook_hold_days: Annotated[int, Meta(ge=30)] = 90
    """How long what waits for a paused or disabled webhook is kept."""
    webhook_timeout_s: Seconds = 15.0
    webhook_dispatchers: Annotated[int, Meta(ge=1, le=64)] = 1
    """Into how many parts the endpoints are divided; each is sent by one worker at a time."""
    webhook_allow_private: bool = False
    """Lets webhooks go to loopback and private addresses and over plain http; for development."""
    stream_max_entries: Count = 100_000
    """Entries in each of the eight CRM streams; when they are full the publisher waits."""
    stream_group_patience_s: Seconds = 60.0
    """How long a group may stand still before a full stream while others wait for it."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    metrics_port: Port | None = None
    """Where `leadlog work` serves its own /metrics; unset: not at all."""

    def require_database_url(self) -> str:
        """The database's address, or a sentence that says how to give one."""
        if self.database_url is None:
            raise SettingsError(
                "DATABASE_URL is not set: give the address of a PostgreSQL 15 to 18 database, "
                "or run `leadlog dev`, which starts its own."
            )
        return self.database_url

    def require_redis_url(self) -> str:
        """The Redis address, or a sentence that says how to give one."""
        if self.redis_url is None:
            raise SettingsError(
                "REDIS_URL is not set: give the address of a Redis 7 or Valkey server, "
                "or run `leadlog dev`, which starts its own."
            )
        return self.redis_url


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Reads the settings from the environment; an empty value counts as not set.

    Raises SettingsError that names every bad setting at once.
    """
    values: dict[str, object] = {}
    faults: list[str] = []
    for field in msgspec.structs.fields(Settings):
        name = field.name.upper()
        if not (text := environ.get(name, "").strip()):
            continue
        try:
            values[field.name] = msgspec.convert(
                text, field.type, strict=False, dec_hook=_decode_path
            )
        except msgspec.ValidationError as error:
            faults.append(f"{name}={text!r}: {error}".replace("`", ""))
    if faults:
        raise SettingsError("These settings cannot be used: " + "; ".join(faults) + ".")
    return Settings(**values)  # type: ignore[arg-type]  # each value was converted to its field's type


def _decode_path(kind: type, value: object) -> Path:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)
