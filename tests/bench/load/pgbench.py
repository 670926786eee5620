"""pgbench: the rate at which PostgreSQL runs our own statements without the service.

One lead a statement, no HTTP, no JSON to check, no Python: batching is compared with this rate.
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

import sql
from service.cli.dev.server_programs import find_postgres_programs
from tests.bench.programs import LoadError, run_program

CLIENTS = (4, 8, 16, 32, 64)
SESSION = "-c jit=off -c enable_seqscan=off"
"""The session settings of our own pool."""
THREADS = 2
_PARAMETER = re.compile(r"\$(\d+)")
_COMMENT = re.compile(r"--.*$", re.MULTILINE)
_TPS = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)
_LATENCY = re.compile(r"^latency average = ([0-9.]+) ms", re.MULTILINE)

SEQUENCE = "CREATE SEQUENCE bench_number CACHE 1000"
"""Makes ids and addresses that rise as ours do; random ones would cost PostgreSQL more."""


class Script(msgspec.Struct, frozen=True):
    """A statement of ours and its arguments: SQL expressions with pgbench's variables."""

    statement: str
    arguments: Sequence[str]
    settings: str = ""


SCRIPTS: Mapping[str, Script] = {
    "get": Script(
        "lead_get_many",
        (
            "ARRAY[:tenant]",
            "ARRAY[true]",
            "ARRAY['lead_01J' || lpad(:number::text, 23, '0')]",
            "ARRAY[0]",
        ),
        r"\set number random(1, :leads)",
    ),
    "post": Script(
        "lead_insert_many",
        (
            """(SELECT json_build_array(json_build_object(
                'tenant_id', :tenant::bigint, 'live', true,
                'id', 'lead_01K' || lpad(n::text, 23, '0'),
                'email', 'james.pgbench.' || n || '@acme-corp.com',
                'email_key', 'james.pgbench.' || n || '@acme-corp.com',
                'name', 'James Rodriguez', 'company', 'TechStart', 'title', 'CTO',
                'phone', '+1-555-0198', 'status', 'new', 'source', 'form',
                'tags', '["inbound","startup"]'::json, 'custom_fields',
                '{"industry":"FinTech","teamSize":"10-25","budget":"$5k-$10k/mo"}'::json,
                'event_id', 'evt_01K' || lpad(n::text, 23, '0'), 'actor', 'key_pgbench',
                'key', md5('key' || n), 'request', md5('request' || n)
            )) FROM nextval('bench_number') AS n)""",
        ),
    ),
}


class PgbenchResult(msgspec.Struct, frozen=True):
    per_second: float
    mean_ms: float
    failures: int


def make_script(script: Script) -> str:
    """The text for pgbench; LoadError if the statement's parameters differ from `arguments`."""
    text = _COMMENT.sub("", sql.STATEMENTS.get(script.statement, ""))
    wanted = {int(number) for number in _PARAMETER.findall(text)}
    if wanted != set(range(1, len(script.arguments) + 1)):
        raise LoadError(
            f"{script.statement} takes parameters {sorted(wanted)}, and this file gives it "
            f"{len(script.arguments)}: add the new ones to tests/bench/load/pgbench.py."
        )
    filled = _PARAMETER.sub(lambda match: f"({script.arguments[int(match[1]) - 1]})", text)
    return f"{script.settings}\n{filled.rstrip().rstrip(';')};\n"


async def run_pgbench(
    workload: str, dsn: str, *, tenant: int, leads: int, clients: int, seconds: float
) -> PgbenchResult:
    """Runs the prepared statement of a workload from `clients` clients for `seconds`."""
    whole = max(1, round(seconds))
    with tempfile.NamedTemporaryFile("w", suffix=".sql", encoding="utf-8") as file:
        file.write(make_script(SCRIPTS[workload]))
        file.flush()
        argv: list[str | Path] = [
            find_postgres_programs() / "pgbench", "--no-vacuum", "--protocol=prepared",
            f"--client={clients}", f"--jobs={min(clients, THREADS)}", f"--time={whole}",
            f"--define=tenant={tenant}", f"--define=leads={leads}", f"--file={file.name}", dsn,
        ]  # fmt: skip
        return parse_pgbench(await run_program(argv, whole, {"PGOPTIONS": SESSION}))


async def find_best_clients(workload: str, dsn: str, *, tenant: int, leads: int) -> int:
    """The number in CLIENTS with the highest rate, each tried for a second."""
    rates: dict[int, float] = {}
    for clients in CLIENTS:
        try:
            result = await run_pgbench(
                workload, dsn, tenant=tenant, leads=leads, clients=clients, seconds=1
            )
        except LoadError:
            if not rates:
                raise
            break  # more connections than the server has left
        rates[clients] = result.per_second
    return max(rates, key=rates.__getitem__)


def parse_pgbench(output: str) -> PgbenchResult:
    """Parses pgbench's summary; LoadError if the output has none."""
    tps, latency = _TPS.search(output), _LATENCY.search(output)
    if tps is None or latency is None:
        raise LoadError(f"pgbench printed no result: {output.strip()[-300:]}")
    failed = _FAILED.search(output)
    return PgbenchResult(float(tps[1]), float(latency[1]), int(failed[1]) if failed else 0)
