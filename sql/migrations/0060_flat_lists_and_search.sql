-- What keeps lists and search flat as a table grows: counters, an index for each filter by status
-- and source, and an inverted index of words in place of the trigrams of all texts (0050). Triggers
-- keep counters and words up to date within the write, whoever writes. Existing leads are filed here
-- and now; writers wait meanwhile.
LOCK TABLE lead IN SHARE ROW EXCLUSIVE MODE;

DROP TABLE lead_search;
DROP FUNCTION search_words(lead);
DROP FUNCTION search_fold(text);

-- Status and source as one small number, so that three indexes serve a filter by either, by both,
-- and each order: a filter by one merges the few values of the other. Numbers, because comparing
-- and storing two texts in every entry costs a third more.
CREATE FUNCTION lead_kind(status text, source text) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (CASE status WHEN 'new' THEN 0 WHEN 'qualified' THEN 4 WHEN 'contacted' THEN 8
    WHEN 'converted' THEN 12 WHEN 'lost' THEN 16 END
    + CASE source WHEN 'chat' THEN 0 WHEN 'api' THEN 1 WHEN 'import' THEN 2 WHEN 'form' THEN 3 END
)::smallint;

ALTER TABLE lead ADD COLUMN kind smallint NOT NULL
    GENERATED ALWAYS AS (lead_kind(status, source)) STORED;

CREATE INDEX lead_by_kind_created_at ON lead (tenant_id, live, kind, created_at, id);
CREATE INDEX lead_by_kind_updated_at ON lead (tenant_id, live, kind, updated_at, id);
CREATE INDEX lead_by_kind_score ON lead (tenant_id, live, kind, score, id);

-- The count of a tenant, mode, status and source is the sum over its slots. A writing transaction
-- takes a slot that no other holds, so writers never wait for each other here.
CREATE TABLE lead_count (
    tenant_id  bigint NOT NULL,
    live       boolean NOT NULL,
    slot       integer NOT NULL,
    status     text COLLATE "C" NOT NULL,
    source     text COLLATE "C" NOT NULL,
    n          bigint NOT NULL,  -- below zero where a lead came by one slot and went by another
    PRIMARY KEY (tenant_id, live, slot, status, source)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- The lowest free slot, held until commit: few writers at a time leave few slots to add up. Trying
-- never waits, so it cannot deadlock.
CREATE FUNCTION lead_count_slot() RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    FOR slot IN 0..63 LOOP
        IF pg_try_advisory_xact_lock(1818583396, slot) THEN
            RETURN slot;
        END IF;
    END LOOP;
    RETURN 64 + pg_backend_pid();  -- more writers than slots: one of its own
END $$;

-- Makes alike what people take for the same: compatibility forms, accents, case. Whatever is
-- neither letter nor digit becomes a space; U+0001, which parts fields, stays. Built-in functions
-- of fixed behaviour and no dictionary, so that the index outlives a dump and an upgrade.
CREATE FUNCTION search_fold(raw text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    folded text := lower(raw);
BEGIN
    IF octet_length(folded) <> length(folded) THEN
        folded := lower(regexp_replace(normalize(raw, NFKD), '[\u0300-\u036f]+', '', 'g'));
    END IF;
    IF octet_length(folded) <> length(folded) THEN
        folded := translate(folded, 'øłđħıŧςð', 'oldhitσd');
        folded := replace(replace(replace(replace(
            folded, 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th');
        folded := regexp_replace(
            normalize(folded, NFKC),
            '[\x02-\x2f\x3a-\x60\x7b-\xbf\xd7\xf7\u0589\u05be\u05c0\u05c3\u05f3\u05f4\u060c\u061b'
            '\u061f\u06d4\u0964\u0965\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff\u3000-\u3004'
            '\u3008-\u3020\u3030\u30fb\ufe00-\ufe6f\ufff0-\uffff\U0001f000-\U0001faff]+',
            ' ', 'g');
    ELSE  -- the usual signs one by one, which costs a third of what the regular expression does
        folded := replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(
            folded, '.', ' '), '@', ' '), '-', ' '), '_', ' '), ',', ' '), '''', ' '), '/', ' '),
            '+', ' '), '&', ' '), '$', ' ');
        IF folded ~ '[^a-z0-9 \x01]' THEN
            folded := regexp_replace(folded, '[^a-z0-9 \x01]+', ' ', 'g');
        END IF;
    END IF;
    IF octet_length(folded) > 2000 THEN  -- of a longer word the first 200 characters count
        folded := regexp_replace(folded, '([^ ]{200})[^ ]+', '\1', 'g');
    END IF;
    RETURN folded;
END $$;

-- The strings and numbers inside a nested value.
CREATE FUNCTION search_flatten(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT string_agg(v #>> '{}', ' ') FROM jsonb_path_query(value, 'strict $.**') AS v
    WHERE jsonb_typeof(v) IN ('string', 'number'));

-- What json bears and text does not (\u0000, half of a pair of surrogates) the API refuses; should it
-- come another way, the lead is written and its fields are not found.
CREATE FUNCTION search_readable(fields json) RETURNS json
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    PERFORM fields::jsonb;
    RETURN fields;
EXCEPTION WHEN untranslatable_character OR invalid_text_representation THEN
    RETURN '{}';
END $$;

-- text: the folded words of name, company, email and each custom field in order, every word
-- between spaces, the fields parted by a U+0001 that stands as a word. keys: what lists filter by,
-- each after a U+0001: #tag, @assignee, :field=value (a long value is cut: the list compares again).
CREATE FUNCTION search_document(
    name text, company text, email text, custom_fields json, tags text[], assigned_to text)
RETURNS TABLE (text text, keys text) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT
        search_fold(concat(
            ' ', replace(name, E'\x01', ' '), E' \x01 ', replace(company, E'\x01', ' '),
            E' \x01 ', replace(email, E'\x01', ' '), f.words, ' ')),
        concat(
            E'\x01#' || nullif(array_to_string(tags, E'\x01#'), ''), E'\x01@' || assigned_to,
            f.pairs)
    FROM (
        SELECT
            string_agg(E' \x01 ' || coalesce(replace(CASE
                WHEN left(value, 1) IN ('{', '[') AND json_typeof(custom_fields -> key) <> 'string'
                THEN search_flatten((custom_fields -> key)::jsonb) ELSE value
            END, E'\x01', ' '), ''), '') AS words,
            string_agg(E'\x01:' || key || '=' || left(value, 64), '') AS pairs
        FROM json_each_text(CASE WHEN strpos(custom_fields::text, '\u') > 0
            THEN search_readable(custom_fields) ELSE custom_fields END)
    ) AS f
$$;

-- The keys of the index. Each begins with tenant and mode (7l=acme is the word acme in tenant 7's
-- live leads), so nobody's matches are in anybody's way and a small tenant reads a small index.
CREATE FUNCTION search_tokens(tenant_id bigint, live boolean, text text, keys text)
RETURNS tsvector LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    space text := tenant_id || CASE WHEN live THEN 'l' ELSE 't' END;
BEGIN
    RETURN array_to_tsvector(array_remove(array_remove(array_remove(
        string_to_array(
            replace(text, ' ', E'\x01' || space || '=') || replace(keys, E'\x01', E'\x01' || space),
            E'\x01'),
        ''), space || '='), space));
END $$;

-- A lead as search sees it. Apart from the lead, because each lead is updated soon after it came
-- (its score, its status) and its words would be indexed again each time; score and kind are in no
-- index here, so they change in place.
CREATE TABLE lead_search (
    tenant_id  bigint NOT NULL,
    live       boolean NOT NULL,
    id         text COLLATE "C" NOT NULL,
    kind       smallint NOT NULL,
    score      smallint NOT NULL,
    created_at timestamptz NOT NULL,
    text       text COLLATE "C" NOT NULL,
    keys       text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, live, id)
) WITH (fillfactor = 90);

CREATE INDEX lead_search_tokens ON lead_search
    USING gin (search_tokens(tenant_id, live, text, keys));
-- No statistics: they cost much to gather, and plans should not change with them.
ALTER INDEX lead_search_tokens ALTER COLUMN 1 SET STATISTICS 0;

-- The words of all leads, to find those that hold some letters inside. Pure numbers are left out:
-- they are found from their beginning. No unique key: two writers who bring the same new word must
-- not wait for each other, and a word that is there twice does no harm.
CREATE TABLE lead_word (
    tenant_id     bigint NOT NULL,
    live          boolean NOT NULL,
    word          text COLLATE "C" NOT NULL,
    unused_since  timestamptz                    -- see lead_word_mark_unused
);
CREATE INDEX lead_word_by_word ON lead_word (tenant_id, live, word);
CREATE INDEX lead_word_by_part ON lead_word
    USING gin ((tenant_id * 2 + live::integer), word gin_trgm_ops);

INSERT INTO lead_count (tenant_id, live, slot, status, source, n)
SELECT tenant_id, live, 0, status, source, count(*) FROM lead
GROUP BY tenant_id, live, status, source;

INSERT INTO lead_search (tenant_id, live, id, kind, score, created_at, text, keys)
SELECT l.tenant_id, l.live, l.id, l.kind, l.score, l.created_at, d.text, d.keys
FROM lead l CROSS JOIN LATERAL search_document(
    l.name, l.company, l.email, l.custom_fields, l.tags, l.assigned_to) AS d;

INSERT INTO lead_word (tenant_id, live, word)
SELECT DISTINCT s.tenant_id, s.live, w.word
FROM lead_search s CROSS JOIN LATERAL string_to_table(s.text, ' ') AS w (word)
WHERE length(w.word) > 3 AND ltrim(w.word, '0123456789') <> '';

-- The write's own share. One trigger per statement, not per row, and one statement in it: a batch
-- of 200 leads costs little more here than one lead. No sequential scans: the plans are kept for
-- the session and must not remember the time when the tables were small.
CREATE FUNCTION lead_was_inserted() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    WITH slot AS MATERIALIZED (
        SELECT lead_count_slot() AS slot
    ), counted AS (
        INSERT INTO lead_count AS c (tenant_id, live, slot, status, source, n)
        SELECT a.tenant_id, a.live, s.slot, a.status, a.source, count(*)
        FROM added a CROSS JOIN slot s GROUP BY a.tenant_id, a.live, s.slot, a.status, a.source
        ON CONFLICT (tenant_id, live, slot, status, source) DO UPDATE SET n = c.n + excluded.n
    ), filed AS (
        INSERT INTO lead_search (tenant_id, live, id, kind, score, created_at, text, keys)
        SELECT a.tenant_id, a.live, a.id, a.kind, a.score, a.created_at, d.text, d.keys
        FROM added a CROSS JOIN LATERAL search_document(
            a.name, a.company, a.email, a.custom_fields, a.tags, a.assigned_to) AS d
        RETURNING tenant_id, live, text
    ), used AS (
        SELECT DISTINCT w.tenant_id, w.live, w.word
        FROM (
            SELECT tenant_id, live, unnest(string_to_array(text, ' ')) COLLATE "C" AS word
            FROM filed
        ) AS w
        WHERE length(w.word) > 3 AND ltrim(w.word, '0123456789') <> ''
    )
    INSERT INTO lead_word (tenant_id, live, word)
    SELECT u.tenant_id, u.live, u.word FROM used u
    WHERE NOT EXISTS (
        SELECT FROM lead_word w
        WHERE w.tenant_id = u.tenant_id AND w.live = u.live AND w.word = u.word
          AND w.unused_since IS NULL OFFSET 0);
    RETURN NULL;
END $$;

CREATE FUNCTION lead_was_updated() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    WITH compared AS MATERIALIZED (
        SELECT n.tenant_id, n.live, n.id, n.name, n.company, n.email, n.custom_fields, n.tags,
            n.assigned_to, n.status, n.source, n.kind, n.score, n.created_at,
            o.status AS old_status, o.source AS old_source,
            n.kind <> o.kind AS moved,
            (n.kind, n.score, n.created_at) <> (o.kind, o.score, o.created_at) AS reranked,
            (n.name, n.company, n.email, n.custom_fields::text, n.tags, n.assigned_to)
                IS DISTINCT FROM
            (o.name, o.company, o.email, o.custom_fields::text, o.tags, o.assigned_to) AS reworded
        FROM new_leads n JOIN old_leads o
            ON o.tenant_id = n.tenant_id AND o.live = n.live AND o.id = n.id
    ), slot AS MATERIALIZED (
        SELECT lead_count_slot() AS slot WHERE EXISTS (SELECT FROM compared WHERE moved)
    ), counted AS (
        INSERT INTO lead_count AS c (tenant_id, live, slot, status, source, n)
        SELECT m.tenant_id, m.live, s.slot, v.status, v.source, sum(v.n)
        FROM compared m CROSS JOIN slot s CROSS JOIN LATERAL (
            VALUES (m.status, m.source, 1), (m.old_status, m.old_source, -1)
        ) AS v (status, source, n)
        WHERE m.moved
        GROUP BY m.tenant_id, m.live, s.slot, v.status, v.source HAVING sum(v.n) <> 0
        ON CONFLICT (tenant_id, live, slot, status, source) DO UPDATE SET n = c.n + excluded.n
    ), ranked AS (
        UPDATE lead_search AS s SET kind = c.kind, score = c.score, created_at = c.created_at
        FROM compared c
        WHERE s.tenant_id = c.tenant_id AND s.live = c.live AND s.id = c.id
          AND c.reranked AND NOT c.reworded
    ), filed AS (
        UPDATE lead_search AS s
        SET kind = c.kind, score = c.score, created_at = c.created_at, text = d.text, keys = d.keys
        FROM compared c CROSS JOIN LATERAL search_document(
            c.name, c.company, c.email, c.custom_fields, c.tags, c.assigned_to) AS d
        WHERE s.tenant_id = c.tenant_id AND s.live = c.live AND s.id = c.id AND c.reworded
        RETURNING s.tenant_id, s.live, s.text
    ), used AS (
        SELECT DISTINCT w.tenant_id, w.live, w.word
        FROM (
            SELECT tenant_id, live, unnest(string_to_array(text, ' ')) COLLATE "C" AS word
            FROM filed
        ) AS w
        WHERE length(w.word) > 3 AND ltrim(w.word, '0123456789') <> ''
    )
    INSERT INTO lead_word (tenant_id, live, word)
    SELECT u.tenant_id, u.live, u.word FROM used u
    WHERE NOT EXISTS (
        SELECT FROM lead_word w
        WHERE w.tenant_id = u.tenant_id AND w.live = u.live AND w.word = u.word
          AND w.unused_since IS NULL OFFSET 0);
    RETURN NULL;
END $$;

CREATE FUNCTION lead_was_deleted() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    WITH slot AS MATERIALIZED (
        SELECT lead_count_slot() AS slot
    ), counted AS (
        INSERT INTO lead_count AS c (tenant_id, live, slot, status, source, n)
        SELECT r.tenant_id, r.live, s.slot, r.status, r.source, -count(*)
        FROM removed r CROSS JOIN slot s GROUP BY r.tenant_id, r.live, s.slot, r.status, r.source
        ON CONFLICT (tenant_id, live, slot, status, source) DO UPDATE SET n = c.n + excluded.n
    )
    DELETE FROM lead_search AS s USING removed r
    WHERE s.tenant_id = r.tenant_id AND s.live = r.live AND s.id = r.id;
    RETURN NULL;
END $$;

CREATE TRIGGER lead_was_inserted AFTER INSERT ON lead
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION lead_was_inserted();
CREATE TRIGGER lead_was_updated AFTER UPDATE ON lead
    REFERENCING OLD TABLE AS old_leads NEW TABLE AS new_leads
    FOR EACH STATEMENT EXECUTE FUNCTION lead_was_updated();
CREATE TRIGGER lead_was_deleted AFTER DELETE ON lead
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION lead_was_deleted();
