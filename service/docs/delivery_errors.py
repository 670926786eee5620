"""The codes of `lastError` and of the errors of attempts; a test compares them with the code."""

ATTEMPT_ERRORS = {
    "status": "a response that is not 2xx; `lastStatus` has its status",
    "redirect": "a response 3xx: redirects are not followed",
    "timeout": "no complete response in time",
    "dns": "the host name is not known, or no name server responded",
    "connect": "no address of the host accepted the connection",
    "connect_timeout": "TCP or TLS was not ready in time",
    "certificate": "the certificate is invalid, has expired, or belongs to another host",
    "tls": "another error of TLS",
    "connection_lost": "the connection ended before the head of a response",
    "incomplete": "the connection ended within the body of the response",
    "invalid_response": "the response is not HTTP, or its head is too large",
    "blocked_address": "the host has a private or reserved address; given up at once",
    "invalid_url": "the URL cannot be requested; given up at once",
    "event_expired": "the event is no longer kept; given up",
    "internal": "a defect of Leadlog",
}
"""Codes of attempts, with their meanings."""
DELIVERY_ERRORS = ATTEMPT_ERRORS | {
    "quarantined": "processes of Leadlog ended during several attempts; given up",
}
"""Codes of deliveries."""


def make_error_table() -> str:
    """The codes as a table in Markdown."""
    lines = ["| `lastError` | What happened |", "|---|---|"]
    lines += [f"| `{code}` | {meaning} |" for code, meaning in DELIVERY_ERRORS.items()]
    return "\n".join(lines)
