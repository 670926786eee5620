"""The settings: a frozen struct, read once at start; `deploy/env.example` documents each."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, inspect

from service.server_urls import find_database_url_fault, find_redis_url_fault

PLAN_NAME = "^[a-z][a-z0-9-]{0,39}$"
"""The pattern of a plan's name."""
DOCS_URL = r"^(https?://[^\s/?#]|/)\S*$"
PRINTABLE = "^[!-~]{16,}$"
_PATTERNS = {
    PLAN_NAME: "must begin with a letter and have only a-z, 0-9 and -, at most 40 of them",
    DOCS_URL: "must be a URL that begins with https:// or http://, or a path that begins with /",
    PRINTABLE: "must have 16 characters or more, of ASCII and without blanks",
}
"""What a setting with this pattern must be."""
Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(ge=0.001, le=3600)]
Days = Annotated[int, Meta(ge=1, le=3650)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]

_ADDRESS_CHECKS = {"database_url": find_database_url_fault, "redis_url": find_redis_url_fault}
SECRETS = frozenset({"database_url", "metrics_token", "redis_url", "secret_key"})
"""Settings whose values no message shows, because they are or contain secrets."""


class SettingsError(Exception):
    """Settings that cannot be used; the message names each and says what it should be."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, each under the lower-case name of its environment variable."""

    host: str = "127.0.0.1"
    port: Port = 8080
    data_dir: Path = Path(".data")
    database_url: str | None = None
    """PostgreSQL 15 to 18; if unset, `leadlog dev` starts one."""
    redis_url: str | None = None
    """Redis 7 or Valkey; if unset, `leadlog dev` starts one."""
    secret_key: str | None = None
    """32 bytes in URL-safe base64; encrypts webhook secrets at rest. Older keys may follow, with
    commas in between; see `leadlog webhooks rotate-key`."""
    public_docs_url: Annotated[str, Meta(pattern=DOCS_URL)] = "/docs"
    """The address of the documentation, with which `doc_url` in errors begins."""

    api_processes: Count = 1
    """API processes on all machines; they divide the limits if Redis is away at their start."""
    db_pool_size: Annotated[int, Meta(ge=2, le=1000)] = 8
    db_statement_cache: Annotated[int, Meta(ge=0, le=10_000)] = 100
    """Prepared statements cached per connection; 0 behind a PgBouncer older than 1.21."""
    max_connections: Count = 2000
    """Client connections per process; above it, waiting ones of the largest caller are closed."""
    write_timeout_s: Seconds = 30.0
    """How long a client may read nothing of a response before its connection is closed."""
    body_limit_bytes: Annotated[int, Meta(ge=1, le=1024**3)] = 256 * 1024
    body_timeout_s: Seconds = 10.0
    statement_timeout_s: Seconds = 10.0
    drain_s: Annotated[float, Meta(ge=0, le=300)] = 1.0
    """How long after SIGTERM requests are still served while /health/ready is 503."""
    shed_after_s: Seconds = 0.15
    """Expected wait of a request above which it is refused with 503."""
    default_plan: Annotated[str, Meta(pattern=PLAN_NAME)] | None = None
    """The plan of tenants without a plan; unset: no limits. See `leadlog plans`."""
    event_retention_days: Days = 30
    webhook_hold_days: Annotated[int, Meta(ge=30, le=3650)] = 90
    """How long deliveries of a paused or disabled webhook are kept."""
    webhook_timeout_s: Seconds = 15.0
    webhook_dispatchers: Annotated[int, Meta(ge=1, le=64)] = 1
    """Number of dispatchers among which the endpoints are divided."""
    webhook_allow_private: bool = False
    """Allows loopback and private addresses and plain http for webhooks; for development."""
    stream_max_entries: Annotated[int, Meta(ge=1, le=10**9)] = 100_000
    """Entries in each of the eight CRM streams; the publisher waits while one is full."""
    stream_max_bytes: Annotated[int, Meta(ge=1, le=1024**4)] = 128 * 1024 * 1024
    """Bytes of the entries in each CRM stream, a bound beside `stream_max_entries`."""
    stream_group_patience_s: Annotated[float, Meta(ge=0.001, le=7 * 86_400)] = 60.0
    """How long a consumer group may make no progress while others wait on a full stream."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    metrics_port: Port | None = None
    """Port of /metrics: for the API instead of PORT; workers serve it only if this is set."""
    metrics_token: Annotated[str, Meta(pattern=PRINTABLE)] | None = None
    """Bearer token that scrapes must send; unset: none."""

    def require_database_url(self) -> str:
        """The address of the database. Raises SettingsError if it is not set."""
        if self.database_url is None:
            raise SettingsError(
                "DATABASE_URL is not set: give the address of a PostgreSQL 15 to 18 database, "
                "or run `leadlog dev`, which starts its own."
            )
        return self.database_url

    def require_redis_url(self) -> str:
        """The address of Redis. Raises SettingsError if it is not set."""
        if self.redis_url is None:
            raise SettingsError(
                "REDIS_URL is not set: give the address of a Redis 7 or Valkey server, "
                "or run `leadlog dev`, which starts its own."
            )
        return self.redis_url


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from the environment; an empty value counts as not set.

    Raises SettingsError, which names all bad settings.
    """
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field in msgspec.structs.fields(Settings):
        name = field.name.upper()
        if not (text := environ.get(name, "").strip()):
            continue
        kind = inspect.type_info(field.type)
        if isinstance(kind, inspect.LiteralType):
            text = text.lower()
        try:
            values[field.name] = msgspec.convert(
                text, field.type, strict=False, dec_hook=_decode_path
            )
        except msgspec.ValidationError:
            shown = name if field.name in SECRETS else f"{name}={text!r}"
            choices = get_args(field.type) if isinstance(kind, inspect.LiteralType) else ()
            wanted = f"choose one of {', '.join(choices)}" if choices else _describe_type(kind)
            faults.append(f"{shown}: {wanted}")
    faults += _check_addresses(values)
    if faults:
        raise SettingsError("These settings cannot be used: " + "; ".join(faults) + ".")
    return Settings(**values)


def _describe_type(kind: inspect.Type) -> str:
    """Describe the values that a setting accepts."""
    if isinstance(kind, inspect.UnionType):  # with None
        return _describe_type(kind.types[0])
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        number = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
        return f"must be {number} from {kind.ge:g} to {kind.le:.15g}"
    if isinstance(kind, inspect.StrType):
        return _PATTERNS[kind.pattern or ""]
    if isinstance(kind, inspect.CustomType):
        return "must be the path of a folder; the user after ~ does not exist"
    return "must be true or false"


def _check_addresses(values: Mapping[str, object]) -> Iterator[str]:
    """Find the faults of addresses; no fault repeats the address, which may contain a password."""
    for name, find_fault in _ADDRESS_CHECKS.items():
        if (text := values.get(name)) is not None and (fault := find_fault(str(text))):
            yield f"{name.upper()} {fault}"


def _decode_path(kind: type, value: object) -> Path:
    if kind is Path and isinstance(value, str):
        try:
            return Path(value).expanduser()
        except RuntimeError as error:  # no such user
            raise ValueError(value) from error
    raise NotImplementedError(kind)
