"""Where a running `leadlog dev` has its servers, so that other commands find them by themselves."""

from pathlib import Path

import msgspec

from service.dev.datafolder import read_secret, write_secret
from service.settings import Settings

FILE_NAME = "dev.env"


def write_addresses(folder: Path, database_url: str, redis_url: str) -> None:
    write_secret(folder / FILE_NAME, f"DATABASE_URL={database_url}\nREDIS_URL={redis_url}")


def remove_addresses(folder: Path) -> None:
    (folder / FILE_NAME).unlink(missing_ok=True)


def add_dev_addresses(settings: Settings) -> Settings:
    """The settings; what they lack of addresses is taken from the `leadlog dev` of DATA_DIR."""
    text = read_secret(settings.data_dir / FILE_NAME) or ""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return msgspec.structs.replace(
        settings,
        database_url=settings.database_url or found.get("DATABASE_URL"),
        redis_url=settings.redis_url or found.get("REDIS_URL"),
    )
