"""The curl command of an operation, complete: its variables are set in the lines before it.

The address and the key of the reader's shell are kept.
"""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from service.docs.openapi.examples.call import (
    DELIVERY_ID,
    KEY_ID,
    LEAD_ID,
    REPLAY_ID,
    WEBHOOK_ID,
)
from service.docs.schema_words import resolve

Json = dict[str, Any]
ADDRESS = "http://127.0.0.1:8080"
"""The address of `leadlog dev`; the page's script replaces it by the address of the page."""
SET_ADDRESS = f'[ -n "$LEADLOG_URL" ] || export LEADLOG_URL={ADDRESS}'
REQUIRE_KEY = ': "${LEADLOG_KEY:?Set it first: export LEADLOG_KEY=sk_live_…}"'
"""The first lines of an example; tests hold the guides to them."""
_PARAMETER = re.compile(r"/([\w-]+)/\{(\w+)\}")
_NOUNS = {"leads": "LEAD", "api-keys": "KEY", "webhooks": "WEBHOOK"}
_SAMPLES = {
    "LEAD_ID": LEAD_ID,
    "KEY_ID": KEY_ID,
    "WEBHOOK_ID": WEBHOOK_ID,
    "DELIVERY_ID": DELIVERY_ID,
    "REPLAY_ID": REPLAY_ID,
}


def make_curl(document: Json, method: str, path: str, operation: Json) -> str:
    """Make the command of the operation's example: its path, query and body."""
    settings = [SET_ADDRESS, *([REQUIRE_KEY] if operation.get("security") else [])]
    for noun, name in _PARAMETER.findall(path):
        variable = _name_variable(noun, name)
        path = path.replace(f"{{{name}}}", f"${variable}")
        settings.append(f"{variable}={_SAMPLES.get(variable, '…')}")
    lines = [f'curl -sS "$LEADLOG_URL{path}{_make_query(document, operation)}"']
    if method != "GET":
        lines[0] = lines[0].replace("-sS", f"-sS -X {method}")
    if operation.get("security"):
        lines.append('-H "Authorization: Bearer $LEADLOG_KEY"')
    lines += _list_body_lines(document, operation)
    return "\n".join(settings) + "\n\n" + " \\\n  ".join(lines) + "\n"


def find_example(document: Json, content: Json) -> Any:
    """The example of a media type: its own, the first of `examples`, or that of its schema."""
    if "example" in content:
        return content["example"]
    for named in content.get("examples", {}).values():
        return resolve(document, named).get("value")
    schema = resolve(document, content.get("schema", {}))
    return next(iter(schema.get("examples", ())), None)


def _name_variable(noun: str, name: str) -> str:
    if name == "id":
        return f"{_NOUNS.get(noun, noun.upper().replace('-', '_'))}_ID"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def _make_query(document: Json, operation: Json) -> str:
    pairs = []
    for each in operation.get("parameters", ()):
        parameter = resolve(document, each)
        if parameter["in"] == "query" and "example" in parameter:
            pairs.append(f"{parameter['name']}={quote(str(parameter['example']), safe=',')}")
    return "?" + "&".join(pairs) if pairs else ""


def _list_body_lines(document: Json, operation: Json) -> Iterator[str]:
    body = resolve(document, operation.get("requestBody", {}))
    for media_type, content in body.get("content", {}).items():
        example = find_example(document, content)
        if example is not None:
            text = json.dumps(example, ensure_ascii=False, indent=2).replace("'", "'\\''")
            yield f'-H "Content-Type: {media_type}"'
            yield f"-d '{text}'"
        return
