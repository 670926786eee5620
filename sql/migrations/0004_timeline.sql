-- The timeline of each lead: its events, copied from the log by the timeline writer. They are deleted
-- with the lead.

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

-- The response of GET /v1/leads/{id}: a lead with three more fields after customFields, two at the end.
CREATE TYPE lead_detail_on_wire AS (
    "id" text, "email" text, "name" text, "company" text, "title" text, "phone" text,
    "status" text, "score" smallint, "source" text, "tags" text[], "customFields" json,
    "conversationCount" integer, "lastIntent" text, "assignedTo" text,
    "firstSeenAt" text, "lastActiveAt" text, "createdAt" text, "updatedAt" text,
    "conversationSummary" text, "timeline" json
);
