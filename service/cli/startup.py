"""The checks and the first log line of `leadlog serve` and `leadlog work`."""

from importlib import metadata
from typing import Any

from service.encryption import check_secret_key
from service.events.redis_ping import describe_redis
from service.settings import Settings
from service.telemetry.logging import get_logger, set_up_logging
from sql.connection import describe_dsn

_SHOWN = (
    "db_pool_size",
    "statement_timeout_s",
    "shed_after_s",
    "default_plan",
    "event_retention_days",
    "webhook_allow_private",
    "metrics_port",
    "log_level",
)


def log_start(part: str, settings: Settings, **facts: Any) -> None:
    """Sets up logging; logs the version, the addresses and the main settings in one line.

    The line contains no secrets and no passwords. Raises SettingsError if SECRET_KEY is invalid.
    """
    dsn, redis_url = settings.require_database_url(), settings.require_redis_url()
    check_secret_key(settings)
    set_up_logging(settings)
    log = get_logger(part)
    event = f"{part}.starting"
    log.info(
        event,
        version=metadata.version("leadlog"),
        **facts,
        database=describe_dsn(dsn),
        redis=describe_redis(redis_url),
        **{name: getattr(settings, name) for name in _SHOWN},
    )
    if not settings.secret_key:
        log.error(
            "secret_key.missing",
            reason="SECRET_KEY is not set, so webhooks can be neither created nor sent: set it to "
            "the output of `openssl rand -base64 32 | tr +/ -_`, and start again.",
        )
