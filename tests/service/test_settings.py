from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, load_settings


def test_nothing_set_gives_the_defaults() -> None:
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


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"PORT": "x", "LOG_FORMAT": "xml"})
    assert "PORT=" in str(caught.value)
    assert "LOG_FORMAT=" in str(caught.value)


def test_a_missing_address_says_how_to_give_one() -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL is not set: .* `leadlog dev`"):
        Settings().require_database_url()
    with pytest.raises(SettingsError, match=r"^REDIS_URL is not set: .* `leadlog dev`"):
        Settings().require_redis_url()
