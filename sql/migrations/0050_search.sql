-- What search looks through: the words of a lead, kept apart from it, because a lead is updated soon
-- after it came (its score) and its words would be indexed again each time.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;

-- Makes alike what people take for the same: compatibility forms, accents, case. What is neither
-- letter nor digit becomes a space. Built-in functions only, so that the index outlives an upgrade.
CREATE FUNCTION search_fold(raw text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN regexp_replace(CASE WHEN octet_length(raw) = length(raw) THEN lower(raw)
    ELSE lower(normalize(regexp_replace(
        normalize(raw, NFKD), '[\u0300-\u036f]+', '', 'g'), NFKC)) END, '[^[:alnum:]]+', ' ', 'g');

-- Name, company, e-mail, then each custom field in its order: one line each, every word of a line
-- between spaces.
CREATE FUNCTION search_words(l lead) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN concat(
    ' ', search_fold(l.name), E' \n ', search_fold(l.company), E' \n ', search_fold(l.email), ' ',
    (SELECT string_agg(E'\n ' || search_fold(value) || ' ', '') FROM json_each_text(l.custom_fields)));

CREATE TABLE lead_search (
    tenant_id  bigint NOT NULL,
    live       boolean NOT NULL,
    id         text COLLATE "C" NOT NULL,
    words      text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, live, id)
);

-- Tenant and mode stand first in the index too: nobody's matches are in anybody else's way.
CREATE INDEX lead_search_by_words ON lead_search
    USING gin ((tenant_id * 2 + live::integer), words gin_trgm_ops)
    WITH (gin_pending_list_limit = 4096);

INSERT INTO lead_search (tenant_id, live, id, words)
SELECT l.tenant_id, l.live, l.id, search_words(l) FROM lead l;

CREATE TYPE lead_hit_on_wire AS (
    "id" text, "email" text, "name" text, "company" text, "status" text, "score" smallint,
    "matchField" text, "lastActiveAt" text
);
