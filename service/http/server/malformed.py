"""Our own reasons for refusing a request that httptools cannot parse."""

UNKNOWN_METHOD = "its method is not known"
BAD_TARGET = "its target is not a valid path or URL"
BAD_LINE_END = "a line does not end with CR LF"
_REASONS = {
    "nvalid method": UNKNOWN_METHOD,
    "Expected CRLF": BAD_LINE_END,
    "Expected LF": BAD_LINE_END,
    "Missing expected": BAD_LINE_END,
    "Pause on PRI": "HTTP/2 is not supported",
    "version": "its version is malformed",
    "Expected HTTP": "its version is malformed",
    " in url": BAD_TARGET,
    "be present with": "it has a Content-Length and a Transfer-Encoding",
    "Duplicate Content-Length": "it has several Content-Length fields",
    "Content-Length": "its Content-Length is malformed",
    "Transfer-Encoding": "its Transfer-Encoding is malformed",
    "header value char": "the value of a header field has a control character",
    "whitespace after header value": "a header field is folded",
    "header field char": "the name of a header field is malformed",
    "header token": "the name of a header field is malformed",
    "in chunk": "a chunk of its body has a malformed size or extension",
    "Chunk size": "a chunk of its body is too long",
}
"""By a part of the text of httptools; the first match counts."""


def explain_malformed(error: Exception) -> str:
    """The message for an error of httptools; it does not quote the text of httptools."""
    text = str(error)
    reasons = (ours for theirs, ours in _REASONS.items() if theirs in text)
    return describe_malformed(next(reasons, "a part of it is malformed"))


def describe_malformed(reason: str) -> str:
    """Make a sentence of a reason."""
    return f"The request is not valid HTTP/1.1: {reason}."
