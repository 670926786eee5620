from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from service.settings import Settings, SettingsError, load_settings


def test_without_variables_the_settings_are_the_defaults() -> None:
    assert load_settings({}) == Settings()


def test_an_empty_value_counts_as_not_set() -> None:
    assert load_settings({"PORT": "", "DATABASE_URL": "  "}) == Settings()


def test_every_kind_of_value_is_read() -> None:
    settings = load_settings(
        {
            "PORT": "9000",
            "DATA_DIR": "/srv/leads",
            "WEBHOOK_TIMEOUT_S": "2.5",
            "WEBHOOK_ALLOW_PRIVATE": "true",
            "LOG_LEVEL": "debug",
            "UNRELATED": "x",
        }
    )
    assert settings.port == 9000
    assert settings.data_dir == Path("/srv/leads")
    assert settings.webhook_timeout_s == 2.5
    assert settings.webhook_allow_private is True
    assert settings.log_level == "debug"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("LOG_LEVEL", "loud"),
        ("DB_POOL_SIZE", "0"),
        ("BODY_TIMEOUT_S", "-1"),
        ("WEBHOOK_ALLOW_PRIVATE", "perhaps"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^These settings cannot be used: {name}='{value}': "):
        load_settings({name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("METRICS_PORT", "80x", "must be a whole number from 1 to 65535"),
        ("STATEMENT_TIMEOUT_S", "3000000", "must be a number from 0.001 to 3600"),
        ("STATEMENT_TIMEOUT_S", "inf", "must be a number from 0.001 to 3600"),
        ("STATEMENT_TIMEOUT_S", "nan", "must be a number from 0.001 to 3600"),
        ("STATEMENT_TIMEOUT_S", "0.0001", "must be a number from 0.001 to 3600"),
        ("SHED_AFTER_S", "1e300", "must be a number from 0.001 to 3600"),
        ("EVENT_RETENTION_DAYS", "3651", "must be a whole number from 1 to 3650"),
        ("EVENT_RETENTION_DAYS", "9" * 20, "must be a whole number from 1 to 3650"),
        ("DB_POOL_SIZE", "1001", "must be a whole number from 2 to 1000"),
        ("STREAM_MAX_BYTES", "9" * 19, "must be a whole number from 1 to 1099511627776"),
        ("WEBHOOK_ALLOW_PRIVATE", "perhaps", "must be true or false"),
        ("DEFAULT_PLAN", "No Such", "must begin with a letter and have only a-z, 0-9 and -"),
        ("LOG_LEVEL", "loud", "choose one of debug, info, warning, error"),
    ],
)
def test_a_bad_value_is_explained_in_words(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    assert f"{name}={value!r}: {words}" in str(caught.value)


def test_every_number_has_bounds() -> None:
    for field in msgspec.structs.fields(Settings):
        kind = inspect.type_info(field.type)
        kind = kind.types[0] if isinstance(kind, inspect.UnionType) else kind
        if isinstance(kind, (inspect.IntType, inspect.FloatType)):
            assert kind.ge is not None, field.name
            assert kind.le is not None, field.name


def test_a_token_that_is_too_short_is_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"METRICS_TOKEN": "geheim"})
    assert "METRICS_TOKEN: must have 16 characters or more" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_words_are_read_in_any_case() -> None:
    settings = load_settings({"LOG_LEVEL": "INFO", "LOG_FORMAT": "Console"})
    assert (settings.log_level, settings.log_format) == ("info", "console")


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"PORT": "x", "LOG_FORMAT": "xml"})
    assert "PORT=" in str(caught.value)
    assert "LOG_FORMAT=" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("METRICS_TOKEN", "hunter2"),
        ("DATABASE_URL", "hunter2"),
        ("DATABASE_URL", "postgresql://u:hunter2%w@rd@h:x/x"),
        ("DATABASE_URL", "postgresql://u:hunter2@x@h/x"),
        ("DATABASE_URL", "postgresql://u:hunter2/x@h/x"),
        ("DATABASE_URL", "postgresql://u:2/hunter2@h/x"),
        ("DATABASE_URL", "postgresql://u:hunter2#x@h/x"),
        ("DATABASE_URL", "postgresql://u:hunter2@[::1/x"),
        ("DATABASE_URL", "postgresql://u:hunter2@h:0/x"),
        ("DATABASE_URL", "postgresql://u:hunter2@h:65536/x"),
        ("DATABASE_URL", "postgresql://u:hunter2@h:1,/x"),
        ("DATABASE_URL", "postgresql://u:hunter2@h/x?port=y"),
        ("DATABASE_URL", "postgresql://u:hunter2@h/x?sslmode=maybe"),
        ("DATABASE_URL", "postgresql://u:hunter2@h/x?y"),
        ("REDIS_URL", "hunter2"),
        ("REDIS_URL", "redis://u:hunter2/x@h:1"),
        ("REDIS_URL", "redis://u:hunter2@h:0"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named_but_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^These settings cannot be used: {name}") as caught:
        load_settings({name: value})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///x?host=/run/postgresql", "postgres://u:p%40%2F%w@h/x", "postgresql://h",
        "postgresql://u:a:b@h1:1,h2:,h3,[::1]:65535/x?sslmode=require&application_name=y",
        "postgresql://u@%2Frun%2Fpostgresql:5432/x", "postgresql://@/x?port=5433,5434&host=a,b",
    ],
)  # fmt: skip
def test_an_address_that_asyncpg_reads_is_accepted(url: str) -> None:
    assert load_settings({"DATABASE_URL": url}).database_url == url


def test_the_error_about_a_missing_address_says_how_to_set_it() -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL is not set: .* `leadlog dev`"):
        Settings().require_database_url()
    with pytest.raises(SettingsError, match=r"^REDIS_URL is not set: .* `leadlog dev`"):
        Settings().require_redis_url()
