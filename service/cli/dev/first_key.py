"""The secrets that `leadlog dev` creates once and stores in its data folder."""

import base64
import secrets
from collections.abc import Callable
from pathlib import Path

import sql
from service.access.api_keys import create_key, hash_key
from service.cli.commands.output import describe_count
from service.cli.processes import StartError
from service.cli.secret_files import read_secret, write_secret
from service.database.connect import Connection
from service.encryption import make_encryptor
from service.settings import Settings, SettingsError
from service.webhooks.key_rotation import count_undecryptable
from sql.connection import connect

FIRST_TENANT = "default"
FIRST_KEY_NAME = "first admin key"
_REMEDY = (
    "put back the file that was there or, if it is lost, set SECRET_KEY to a new key and see "
    "'SECRET_KEY is lost' in deploy/RUNBOOK.md."
)


async def ensure_admin_key(database_url: str, path: Path, report: Callable[[str], None]) -> str:
    """Returns the admin key in the file; creates a key if the file has no valid one.

    A key that is not valid in this database may be valid in another: it moves to a second file.
    """
    async with connect(database_url) as conn, conn.transaction():
        tenant_id = await ensure_tenant(conn, FIRST_TENANT)
        key = read_secret(path)
        if key is not None and await _is_admin_key(conn, key):
            return key
        if key:
            old = _keep_aside(path, key)
            report(f"The key in {path} is not valid in this database; it is now in {old}.")
        made = await create_key(conn, tenant_id, True, FIRST_KEY_NAME, "admin")
        # Written before the commit: a key that is only in the file is replaced at the next start,
        # but a key that is only in the database would be lost to its owner.
        write_secret(path, made.key)
        return made.key


def _keep_aside(path: Path, key: str) -> Path:
    """Adds the key to the file of former keys, one per line."""
    old = path.with_name(path.name + ".old")
    former = (read_secret(old) or "").splitlines()
    write_secret(old, "\n".join([*(each for each in former if each != key), key]))
    return old


async def ensure_tenant(conn: Connection, name: str) -> int:
    """The tenant's id; creates the tenant if it is missing."""
    tenant_id: int | None = await conn.fetchval(sql.tenant_insert, name)
    if tenant_id is None:
        tenant_id = await conn.fetchval(sql.tenant_get_by_name, name)
    if tenant_id is None:
        raise LookupError(name)
    return tenant_id


async def _is_admin_key(conn: Connection, key: str) -> bool:
    row = await conn.fetchrow(sql.api_key_get_many_by_hash, [hash_key(key)], None)
    return row is not None and row["live"] and row["scope"] == "admin"


async def choose_secret_key(
    database_url: str, settings: Settings, path: Path, report: Callable[[str], None]
) -> str:
    """SECRET_KEY, or else the key in the file; reports webhook secrets that it cannot decrypt.

    Raises StartError if the file is missing and the database has webhook secrets: their deliveries
    would wait for ever.
    """
    async with connect(database_url) as conn:
        found = settings.secret_key or read_secret_key(path)
        if found is None and await count_undecryptable(conn, []):
            raise StartError(f"{path} is missing, but the database has webhook secrets: {_REMEDY}")
        key = found or _create_secret_key(path)
        encryptor = make_encryptor(Settings(secret_key=key))
        if count := await count_undecryptable(conn, encryptor.key_ids):
            report(
                f"SECRET_KEY cannot decrypt the secrets of {describe_count(count, 'webhook')}, so "
                "their deliveries wait: set SECRET_KEY to both keys, with a comma in between, or, "
                "if the former key is lost, see 'SECRET_KEY is lost' in deploy/RUNBOOK.md."
            )
        return key


def read_secret_key(path: Path) -> str | None:
    """The key in the file, None if it is missing. Raises StartError if it holds something else."""
    found = read_secret(path)
    if found is not None:
        try:
            make_encryptor(Settings(secret_key=found))
        except SettingsError:
            message = f"{path} holds no key of 32 bytes in URL-safe base64: {_REMEDY}"
            raise StartError(message) from None
    return found


def ensure_secret_key(path: Path) -> str:
    """The key in the file, 32 bytes in URL-safe base64; creates it if the file is missing."""
    return read_secret_key(path) or _create_secret_key(path)


def _create_secret_key(path: Path) -> str:
    made = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    write_secret(path, made)
    return made
