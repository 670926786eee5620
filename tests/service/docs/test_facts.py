"""The numbers of the guides are those of the code."""

import base64
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from msgspec.structs import fields

import sql
from service.access.api_keys import KeyRotation
from service.docs.delivery_errors import ATTEMPT_ERRORS, DELIVERY_ERRORS
from service.docs.facts import make_facts, make_retry_table, say_duration, say_size
from service.docs.guides import FOLDER, fill_guides
from service.leads.models import MAX_CUSTOM_FIELDS_BYTES, Lead, LeadDetail
from service.settings import Settings
from service.webhooks.secrets import decode_secret
from workers.delivery import sender
from workers.delivery.retry import FINAL_ERRORS, PROFILES

ROOT = Path(__file__).parents[3]
DELIVERY = ROOT / "workers" / "delivery"


def read_statements(name: str) -> str:
    return (ROOT / "sql" / f"{name}.sql").read_text("utf-8")


def read_guide(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def test_durations_and_sizes_are_in_their_largest_even_unit() -> None:
    found = [say_duration(s) for s in (2, 90, 600, 3600, 72 * 3600, 0.25)]
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in found] == [
        "2 s", "90 s", "10 min", "1 h", "72 h", "0.25 s",
    ]  # fmt: skip
    sizes = [say_size(n).split() for n in (100, 16 * 1024, 1024**2)]
    assert sizes == [["100", "bytes"], ["16", "KiB"], ["1", "MiB"]]


def test_the_schedule_shows_every_delay_of_every_profile() -> None:
    table = make_retry_table()
    for name, profile in PROFILES.items():
        (row,) = [line for line in table.splitlines() if f"`{name}`" in line]
        assert ", ".join(map(say_duration, profile.delays_s)) in row


def test_the_days_after_which_a_webhook_is_disabled_are_those_of_the_statements() -> None:
    warn, disable = sql.endpoint_warn_failing, sql.endpoint_disable_failing
    assert "failures >= 20" in warn
    assert "interval '60 hours'" in warn
    assert "interval '96 hours'" in warn
    assert "failing_since < now() - interval '5 days'" in disable
    assert "interval '1 day'" in disable
    guide = read_guide("retries")
    assert "after 60 hours and 20 failures" in guide
    assert "after 96 hours" in guide
    assert "after 5 days, and a day after the last warning" in guide


def find_parameter(document: dict[str, Any], path: str, name: str) -> dict[str, Any]:
    (found,) = [
        each for each in document["paths"][path]["get"]["parameters"] if each["name"] == name
    ]
    schema: dict[str, Any] = found["schema"]
    return schema


def find_bound(document: dict[str, Any], body: str, name: str, bound: str) -> Any:
    """A bound of a field, which may be null."""
    part = document["components"]["schemas"][body]["properties"][name]
    (found,) = [choice[bound] for choice in part.get("anyOf", [part]) if bound in choice]
    return found


def test_numbers_that_are_text_in_the_guides_are_those_of_the_api(
    document: dict[str, Any],
) -> None:
    limit = find_parameter(document, "/v1/leads", "limit")
    assert (limit["maximum"], limit["default"]) == (100, 25)
    assert "`limit` is 1 to 100, and 25 if you do not send it" in read_guide("pagination")
    most = find_parameter(document, "/v1/events", "limit")["maximum"]
    assert f"| `limit` of a list | 100; of the events feed {most} |" in read_guide("limits")
    assert MAX_CUSTOM_FIELDS_BYTES == 16 * 1024
    assert "at most 16 KiB together" in read_guide("limits")
    assert KeyRotation().grace_seconds == 24 * 3600
    assert "(24 hours if\nyou do not send it)" in read_guide("authentication")
    webhooks = read_guide("webhooks")
    least, most = (
        find_bound(document, "EndpointPatch", "timeoutMs", name) for name in ("minimum", "maximum")
    )
    assert f"time of one attempt, {least:,} to {most:,} |" in webhooks
    headers = find_bound(document, "EndpointPatch", "headers", "maxProperties")
    assert f"your own headers, up to {headers}," in webhooks
    assert f"| own headers of a webhook | {headers} |" in read_guide("limits")
    for size in (24, 64):
        assert decode_secret(make_text(size))
    for size in (23, 65):
        with pytest.raises(ValueError, match="24 to 64 bytes"):
            decode_secret(make_text(size))
    assert "24 to 64 bytes in base64" in webhooks


def make_text(size: int) -> str:
    return f"whsec_{base64.b64encode(bytes(size)).decode()}"


def test_files_that_a_guide_names_exist() -> None:
    for path in FOLDER.glob("*.md"):
        for name in re.findall(r"`(deploy/[\w./-]+)`", path.read_text("utf-8")):
            assert (ROOT / name).exists(), name


def test_the_codes_of_delivery_errors_are_those_of_the_code() -> None:
    source = "".join(path.read_text("utf-8") for path in DELIVERY.glob("*.py"))
    by_hand = re.findall(r'error = "(\w+)" if .* else "(\w+)"', source)
    assert by_hand
    assert {code for _, code in sender._ERRORS} | {
        sender.classify(ValueError()),
        *by_hand[0],
        *re.findall(r'Attempt\(now, error="(\w+)"\)', source),
    } == set(ATTEMPT_ERRORS)
    in_statements = re.findall(r"'(\w+)' AS last_error", read_statements("delivery"))
    assert set(DELIVERY_ERRORS) == {*ATTEMPT_ERRORS, *in_statements}
    for error in FINAL_ERRORS:
        assert DELIVERY_ERRORS[error].endswith("given up at once")


def test_the_signed_example_is_what_standard_webhooks_says(document: dict[str, Any]) -> None:
    """Computed here by other means than Leadlog's own."""
    guide = fill_guides(make_facts(document, Settings()))["signatures"]
    (values,) = re.findall(r"^```text\n(secret:.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    shown = dict(re.split(r":\s+", line, maxsplit=1) for line in values.splitlines())
    (body,) = re.findall(r"^```json\n(.*)\n```$", guide, re.MULTILINE)
    assert f"has {len(body.encode())} bytes" in guide
    at = datetime.fromtimestamp(int(shown["webhook-timestamp"]), UTC)
    signature = standardwebhooks.Webhook(shown["secret"]).sign(shown["webhook-id"], at, body)
    assert shown["webhook-signature"] == signature


def test_the_guides_name_the_fields_that_only_one_lead_shows() -> None:
    lead, detail = ({field.encode_name for field in fields(kind)} for kind in (Lead, LeadDetail))
    (sentence,) = re.findall(
        r"only `GET /v1/leads/\{id\}` shows: (.*?)\. ", read_guide("events").replace("\n", " ")
    )
    assert set(re.findall(r"`(\w+)`", sentence)) == detail - lead
