"""The addresses that a command uses: from the settings or from a running `leadlog dev`."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from service.cli.address import find_reachable_host, make_url
from service.cli.secret_files import read_secret, write_secret
from service.settings import Settings, SettingsError

Url = Annotated[str | None, typer.Option(help="URL of the API.  (default: from HOST and PORT)")]
Key = Annotated[str | None, typer.Option(help="An admin key.  (default: DATA_DIR/admin.key)")]

FILE_NAME = "dev.env"


def add_dev_addresses(settings: Settings) -> Settings:
    """The settings, with missing addresses and key taken from the `leadlog dev` of DATA_DIR."""
    text = read_secret(settings.data_dir / FILE_NAME) or ""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    is_same = settings.database_url in {None, found.get("DATABASE_URL")}
    return msgspec.structs.replace(
        settings,
        database_url=settings.database_url or found.get("DATABASE_URL"),
        redis_url=settings.redis_url or found.get("REDIS_URL"),
        secret_key=settings.secret_key or (found.get("SECRET_KEY") if is_same else None),
    )


def write_dev_addresses(folder: Path, database_url: str, redis_url: str, secret_key: str) -> None:
    """Store what other commands need of a running `leadlog dev` in its DATA_DIR."""
    settings = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "SECRET_KEY": secret_key}
    write_secret(folder / FILE_NAME, "\n".join(f"{name}={settings[name]}" for name in settings))


def remove_dev_addresses(folder: Path) -> None:
    (folder / FILE_NAME).unlink(missing_ok=True)


def find_own_url(settings: Settings) -> str:
    """The URL of the API for clients on this machine."""
    return make_url(find_reachable_host(settings.host), settings.port)


def find_key(given: str | None, settings: Settings) -> tuple[str, str]:
    """An API key and the words for where it is from. Raises SettingsError if there is none.

    Without a given key it is the admin key that `leadlog dev` created.
    """
    if given is not None:
        return given, "The option --key"
    path = settings.data_dir / "admin.key"
    try:
        return path.read_text(encoding="utf-8").strip(), f"The file {path}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SettingsError(
            f"There is no key in {path} ({reason}): start `leadlog dev`, or give --key."
        ) from None
