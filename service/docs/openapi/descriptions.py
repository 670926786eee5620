"""What the fields of bodies mean, by schema and field; a test holds the tables complete.

Query parameters are described where they are declared, in the structs of queries.
"""

from collections.abc import Mapping

from service.docs.openapi.webhook_descriptions import (
    ACTOR,
    DATA_OF_PAGE,
    LIMIT,
    MOMENT,
    WEBHOOKS,
)

_TIMES = {
    "firstSeenAt": "When the lead was first seen.",
    "lastActiveAt": "When the lead was last active; a change by a client moves it too.",
    "createdAt": "When the lead was created.",
    "updatedAt": "When a client last changed the lead; a new score leaves it as it is.",
}
_WRITABLE = {
    "email": "The e-mail address, as it was sent. Unique among the leads of a tenant and mode, "
    "whatever the case of its letters.",
    "name": "The full name.",
    "company": "The name of the company.",
    "title": "The job title.",
    "phone": "The phone number, as it was sent.",
    "status": "How far the lead has come.",
    "source": "Where the lead comes from.",
    "tags": "Labels.",
    "customFields": "Fields of your own: names, each with any JSON value. At most 100 names and "
    "16 KiB as JSON.",
}
_ASSIGNED_TO = {
    "assignedTo": "Who takes care of the lead: any text, such as the id of a user. Only "
    "`GET /v1/leads/{id}` shows it."
}
_LEAD = {
    "id": "The id, `lead_…`.",
    **_WRITABLE,
    "score": "How promising the lead is, from 0 to 100. The service computes it, soon after each "
    "change; 0 until then.",
    **_TIMES,
}
_KEY = {
    "id": "The id, `key_…`.",
    "name": "Your name for the key.",
    "scope": "What the key may do: `read`; `write`: also create and change leads; `admin`: "
    "everything.",
    "mode": "Whether the key reaches live or test data.",
    "last4": "The last four characters of the key, by which to recognise it.",
    "createdAt": "When the key was created.",
    "expiresAt": "When the key stops working; null: never.",
    "lastUsedAt": "When the key was last used, to a few seconds; null: never.",
}
_BODIES: Mapping[str, Mapping[str, str]] = {
    "Lead": _LEAD,
    "LeadDetail": _LEAD
    | _ASSIGNED_TO
    | {
        "conversationCount": "The number of conversations with the lead.",
        "lastIntent": "The latest intent that a conversation showed; null if there is none.",
        "conversationSummary": "A summary of the conversations; null if there is none.",
        "timeline": "The newest 20 events of the lead, the newest first. An event appears a moment "
        "after the change.",
    },
    "LeadPage": DATA_OF_PAGE | {"pagination": "The position of the page."},
    "NewLead": _WRITABLE | _ASSIGNED_TO,
    "LeadPatch": _WRITABLE
    | _ASSIGNED_TO
    | {
        "tags": "Labels; the list replaces the one before.",
        "customFields": "Fields of your own to set, each with any JSON value; null deletes one. "
        "Those that are absent are kept. The merge is one level deep: a value that is an object "
        "replaces the one before, and null within it stays. null instead of `customFields` "
        "deletes all.",
    },
    "LeadHit": {name: _LEAD[name] for name in ("id", "email", "name", "company", "status", "score")}
    | {
        "matchField": "The field with the best match: `name`, `email`, `company` or "
        "`customFields.<name>`.",
        "lastActiveAt": _LEAD["lastActiveAt"],
    },
    "SearchPage": DATA_OF_PAGE | {"pagination": "The position of the page."},
    "Pagination": LIMIT
    | {
        "page": "The number of the page, from 1; absent if the request had a `cursor`.",
        "total": "The number of entries on all pages.",
        "totalPages": "The number of pages.",
        "hasMore": "Whether there is a next page.",
        "nextCursor": "The `cursor` of the next page; absent on the last page.",
        "totalEstimated": "true if `total` is an estimate; absent if it is exact.",
    },
    "TimelineEntry": {
        "id": "The id of the event, `evt_…`.",
        "type": "The type of the event.",
        "at": "When it happened.",
        "summary": "The event in a few words.",
        "actor": ACTOR,
    },
    "LeadScore": {
        "leadId": "The lead.",
        "score": _LEAD["score"],
        "band": "`cold` below 30, `warm` below 70, else `hot`.",
        "method": "How the score is computed.",
        "rulesVersion": "The version of the rules; null before the first computation.",
        "computedAt": "When the score was computed; null before the first computation.",
        "factors": "What adds up to the score.",
    },
    "Factor": {
        "feature": "The field of the lead, or the part of the rules.",
        "value": "The value of the field: any JSON value; a long one is cut.",
        "contribution": "The points that it adds; negative if it takes some away.",
        "note": "The reason, in a few words.",
    },
    "ApiKey": _KEY,
    "NewKey": _KEY | {"key": "The key itself. Only this response shows it."},
    "KeyList": {"data": "The keys, the oldest first."},
    "KeyRequest": {
        "name": _KEY["name"],
        "scope": _KEY["scope"],
        "mode": f"{_KEY['mode']} Null or absent: the mode of the key that calls.",
        "expiresAt": f"When the key stops working: {MOMENT} in the future. Null or absent: never.",
    },
    "KeyRotation": {"graceSeconds": "How long the old key works on, in seconds."},
    "EventPage": {"data": "The events, in order.", "pagination": "The position of the page."},
    "EventPagination": LIMIT
    | {
        "hasMore": "Whether there is more to read at once, even if the page has fewer events than "
        "`limit`.",
        "nextCursor": "The `after` of the next page. There is always one: later events follow it.",
    },
    "Health": {
        "status": "`ok`; `degraded`: requests are served, but something is late or cannot be "
        "written; `failing`: requests cannot be served.",
        "checks": "Each part that was checked: `ok`, or its fault.",
    },
    "ErrorResponse": {"error": "The error."},
    "ErrorBody": {
        "code": "The kind of error; the same for all errors of a status.",
        "message": "The error in a sentence, for people.",
        "details": "The faults of single fields, up to 50; with 400 and 422.",
        "moreFaults": "The number of faults that `details` does not list; absent if it lists all.",
        "existingLeadId": "The lead that has the e-mail address; with 409 on leads.",
        "doc_url": "Where to read about errors.",
    },
    "Fault": {
        "field": "The path of the field, such as `tags.0`; empty if the whole body is at fault.",
        "code": "The kind of fault, such as `required` or `invalid_type`.",
        "message": "The fault in a sentence, for people.",
    },
}
SCHEMAS = {**_BODIES, **WEBHOOKS}
