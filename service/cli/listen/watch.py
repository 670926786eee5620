"""Watches the webhook of `leadlog listen`: without it nothing would arrive, and nobody would know.

The API is asked every WATCH_EVERY_S. Its absence, and a webhook that is paused or disabled, are
reported once; a webhook that somebody deleted ends the command.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import NoReturn

import msgspec

from service.cli.listen.api_client import ApiClient, ApiError
from service.cli.processes import StartError

WATCH_EVERY_S = 2.0
ACTIVE = "active"


class WebhookState(msgspec.Struct, rename="camel"):
    """What can stop the deliveries of a webhook."""

    status: str
    status_reason: str | None = None


async def read_state(api: ApiClient, webhook_id: str) -> WebhookState:
    """The state of the webhook. Raises ApiError and StartError."""
    return await api.call("GET", f"/v1/webhooks/{webhook_id}", WebhookState)


async def watch_webhook(api: ApiClient, webhook_id: str, report: Callable[[str], None]) -> NoReturn:
    """Reports each change of the webhook. Raises StartError when it has been deleted."""
    known = ""
    while True:
        await asyncio.sleep(WATCH_EVERY_S)
        now = await _describe(api, webhook_id)
        if now != known:
            report(now or f"The webhook {webhook_id} gets events again.")
        known = now


async def _describe(api: ApiClient, webhook_id: str) -> str:
    """Why the webhook gets no events, in a sentence; empty if it does."""
    try:
        state = await read_state(api, webhook_id)
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise StartError(
                f"The webhook {webhook_id} has been deleted, so no more events arrive: "
                "start `leadlog listen` again."
            ) from error
        return str(error)
    except StartError as error:
        return str(error)
    if state.status == ACTIVE:
        return ""
    reason = f" ({state.status_reason.rstrip('.')})" if state.status_reason else ""
    return f"The webhook {webhook_id} is {state.status}{reason}, so it gets no events."
