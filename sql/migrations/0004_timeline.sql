-- What happened to a lead, filed under it by the historian; lives as long as the lead.

CREATE TABLE timeline (
    tenant_id  bigint NOT NULL,
    live       boolean NOT NULL,
    lead_id    text COLLATE "C" NOT NULL,
    version    bigint NOT NULL,
    event_id   text COLLATE "C" NOT NULL,
    type       text COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL,
    summary    text NOT NULL,
    actor      text NOT NULL,
    PRIMARY KEY (tenant_id, live, lead_id, version)
);

CREATE TYPE timeline_on_wire AS ("id" text, "type" text, "at" text, "summary" text, "actor" text);

-- GET /v1/leads/{id}: the row, three fields after customFields, two of our own at the end.
CREATE TYPE lead_detail_on_wire AS (
    "id" text, "email" text, "name" text, "company" text, "title" text, "phone" text,
    "status" text, "score" smallint, "source" text, "tags" text[], "customFields" json,
    "conversationCount" integer, "lastIntent" text, "assignedTo" text,
    "firstSeenAt" text, "lastActiveAt" text, "createdAt" text, "updatedAt" text,
    "conversationSummary" text, "timeline" json
);
