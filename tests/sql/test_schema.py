"""sql/schema.sql equals the schema on PostgreSQL 18 and on the oldest supported version."""

from pathlib import Path

import pytest

from service.cli.dev.server_programs import find_postgres_programs
from sql.migrate import OLDEST_SERVER
from tests.sql.schema import FILE, make_schema

OLDEST = Path(f"/usr/lib/postgresql/{OLDEST_SERVER}/bin")


async def test_the_schema_file_equals_the_result_of_the_migrations() -> None:
    made = await make_schema(find_postgres_programs())
    assert FILE.read_text(encoding="utf-8") == made, "run `make schema`"


@pytest.mark.skipif(not (OLDEST / "initdb").exists(), reason=f"{OLDEST} is not there")
async def test_the_oldest_supported_server_makes_the_same_schema() -> None:
    assert FILE.read_text(encoding="utf-8") == await make_schema(OLDEST)


def test_there_are_few_migrations_and_one_contains_all_of_search() -> None:
    migrations = sorted((FILE.parent / "migrations").glob("*.sql"))
    assert len(migrations) <= 10  # squashed before the first release; more may follow it
    holding = [path.name for path in migrations if "FUNCTION search_" in path.read_text("utf-8")]
    assert len(holding) == 1
