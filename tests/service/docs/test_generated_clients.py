"""Clients that generators make of the API's description: they compile, and work."""

import json
import os
import shutil
from pathlib import Path

import pytest

from service.database.connect import Pool
from service.settings import Settings
from tests.harness.api_client import Api
from tests.harness.running_service import run_service
from tests.service.docs.guide_code import run as run_to_end

ROOT = Path(__file__).parents[3]
NODE = shutil.which("node")
MODULES = ROOT / ".ci" / "verifier" / "node_modules"
"""Where CI installs generator, compiler and library for TypeScript (`npm ci`)."""
PYTHON = ROOT / ".ci" / "python-client" / ".venv" / "bin" / "python"
"""An environment of its own: the generator for Python needs an older typer than Leadlog."""
PROGRAM = Path(__file__).parent / "clients" / "program.ts"
TSCONFIG = {
    "compilerOptions": {
        "strict": True,
        "noUncheckedIndexedAccess": True,
        "module": "es2022",
        "moduleResolution": "bundler",
        "target": "es2022",
        "lib": ["es2022", "dom"],
        "types": [],
        "skipLibCheck": True,
    },
    "files": ["program.ts"],
}
USE_PYTHON = """
import json, sys
from leadlog_client import AuthenticatedClient
from leadlog_client.api.events import list_events
from leadlog_client.api.leads import capture_lead, get_lead, list_leads, search_leads, update_lead
from leadlog_client.api.webhooks import create_webhook
from leadlog_client.models import (
    ErrorResponse, Lead, LeadCreated, LeadPage, LeadPatch, LeadPatchCustomFieldsType0, NewEndpoint,
    NewEndpointEventsItem, NewLead, NewLeadCustomFields,
)
from leadlog_client.types import UNSET

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])
least = capture_lead.sync(client=client, body=NewLead(email="least@example.com"))
assert isinstance(least, Lead), least
fields = NewLeadCustomFields.from_dict({"industry": "SaaS"})
custom = capture_lead.sync(
    client=client, body=NewLead(email="custom@example.com", company="Acme", custom_fields=fields)
)
change = LeadPatchCustomFieldsType0.from_dict({"seats": 40})
patched = update_lead.sync(
    custom.id, client=client, body=LeadPatch(title="CTO", company=None, custom_fields=change)
)
seen, cursor = [], UNSET
while True:
    page = list_leads.sync(client=client, limit=1, cursor=cursor)
    assert isinstance(page, LeadPage), page
    seen += [lead.email for lead in page.data]
    cursor = page.pagination.next_cursor
    if cursor is UNSET:
        break
refused = capture_lead.sync(client=client, body=NewLead(email="least@example.com"))
assert isinstance(refused, ErrorResponse), refused
hook = create_webhook.sync(client=client, body=NewEndpoint(
    url="https://crm.example.com/hooks", events=[NewEndpointEventsItem("lead.created")]))
events = []
after = UNSET
while len([event for event in events if isinstance(event, LeadCreated)]) < 2:
    found = list_events.sync(client=client, after=after, wait=5)
    events += found.data
    after = found.pagination.next_cursor
print(json.dumps({
    "industry": custom.custom_fields["industry"],
    "patched": [patched.title, patched.company, patched.custom_fields.to_dict()],
    "seen": seen,
    "refused": [refused.error.code.value, refused.error.existing_lead_id == least.id],
    "hits": [hit.match_field for hit in search_leads.sync(client=client, q="custom").data],
    "missing": get_lead.sync("lead_0", client=client).error.code.value,
    "times": [lead.created_at.tzinfo is not None for lead in (least, patched)],
    "secret": hook.secret.startswith("whsec_"),
    "created": [e.data.lead.email for e in events if isinstance(e, LeadCreated)],
}))
"""

LINT = """
import { createConfig, lintFromString } from "@redocly/openapi-core";
import { readFileSync } from "node:fs";
const source = readFileSync("openapi.json", "utf8");
const config = await createConfig({ extends: ["recommended"] });
const found = await lintFromString({ source, config, absoluteRef: "openapi.json" });
console.log(JSON.stringify(found.map(({ ruleId, message }) => [ruleId, message])));
"""

needs_npm = pytest.mark.skipif(
    NODE is None or not (MODULES / "openapi-typescript").exists(),
    reason="the generator is not there: install Node.js, then `npm ci --prefix .ci/verifier`",
)
needs_python_client = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="the generator is not there: `.ci/run` shows how it is installed in .ci/python-client",
)


async def run(*command: str | Path, cwd: Path) -> str:
    """Run a program, which finds the tools beside it, to its end; returns what it printed."""
    path = f"{Path(command[0]).parent}:{os.environ['PATH']}"
    return await run_to_end([str(word) for word in command], cwd, {"PATH": path})


async def fetch_document(api: Api, folder: Path) -> Path:
    file = folder / "openapi.json"
    file.write_bytes((await api.get("/openapi.json")).body)
    return file


@needs_npm
async def test_a_linter_finds_no_fault(fresh: Api, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(MODULES)
    await fetch_document(fresh, tmp_path)
    output = await run(str(NODE), "--input-type=module", "-e", LINT, cwd=tmp_path)
    # The general form of an error, and events of another form, are there to be read about.
    assert {rule for rule, _ in json.loads(output)} <= {"no-unused-components"}, output


@needs_npm
async def test_a_client_for_typescript_compiles_and_works(
    settings: Settings, committed: Pool, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "tsconfig.json").write_text(json.dumps(TSCONFIG))
    shutil.copy(PROGRAM, tmp_path)
    tools = MODULES / ".bin"
    async with run_service(settings, committed) as service:
        document = await fetch_document(service.api, tmp_path)
        await run(tools / "openapi-typescript", document, "-o", "api.ts", cwd=tmp_path)
        await run(tools / "tsc", cwd=tmp_path)
        caller = service.api.url, str(service.api.key)
        output = await run(str(NODE), "program.js", *caller, cwd=tmp_path)
    assert json.loads(output) == {
        "status": 201,
        "names": [None, None],
        "industry": "SaaS",
        "title": "CTO",
        "company": None,
        "customFields": {"owner": {"id": 7}, "products": ["crm"], "industry": "AI"},
        "seen": ["custom@example.com", "least@example.com"],
        "filtered": ["custom@example.com"],
        "hits": ["email"],
        "refused": [409, "conflict", True],
        "faults": ["limit"],
        "events": [
            "least@example.com is new",
            "custom@example.com is new",
            "custom@example.com: title, customFields",
        ],
        "received": ["lead.created", "SaaS"],
    }


@needs_python_client
async def test_a_client_for_python_is_made_whole_and_works(
    settings: Settings, committed: Pool, tmp_path: Path
) -> None:
    async with run_service(settings, committed) as service:
        document = await fetch_document(service.api, tmp_path)
        notes = await run(
            PYTHON, "-m", "openapi_python_client", "generate", "--path", document,
            "--meta", "none", "--output-path", "leadlog_client", cwd=tmp_path,
        )  # fmt: skip
        assert "Warning" not in notes, notes
        output = await run(
            PYTHON, "-c", USE_PYTHON, service.api.url, str(service.api.key), cwd=tmp_path
        )
    assert json.loads(output) == {
        "industry": "SaaS",
        "patched": ["CTO", None, {"industry": "SaaS", "seats": 40}],
        "seen": ["custom@example.com", "least@example.com"],
        "refused": ["conflict", True],
        "hits": ["email"],
        "missing": "not_found",
        "times": [True, True],
        "secret": True,
        "created": ["least@example.com", "custom@example.com"],
    }
