-- What keeps the index of search small and its lexicon clean; see workers/indexer.py.

-- One row: how far the sweep through lead_word has come.
CREATE TABLE lead_word_sweep (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tenant_id  bigint NOT NULL DEFAULT 0,
    live       boolean NOT NULL DEFAULT false,
    word       text COLLATE "C" NOT NULL DEFAULT '',
    at         timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 20);
INSERT INTO lead_word_sweep DEFAULT VALUES;

-- What writers leave unsorted, so that they need not sort it themselves, and search need not read
-- it. Only the owner of an index may ask for that.
CREATE FUNCTION lead_search_settle() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
RETURN gin_clean_pending_list('lead_search_tokens') + gin_clean_pending_list('lead_word_by_part');

-- Goes through the next words of a tenant and mode: those that no lead has any more are marked, and
-- those marked an hour ago forgotten. A writer takes a marked word for absent and brings it anew; a
-- writer who still saw it unmarked has long committed after an hour, and is then seen here. The last
-- word it came to; null: there are no more.
CREATE FUNCTION lead_word_tidy(
    tenant bigint, is_live boolean, beyond text, most integer)
RETURNS text LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    one record;
    last text;
    is_used boolean;
BEGIN
    FOR one IN
        SELECT w.word, array_agg(w.ctid) AS places, min(w.unused_since) AS unused_since
        FROM (
            SELECT word, ctid, unused_since FROM lead_word
            WHERE tenant_id = tenant AND live = is_live AND word > beyond
            ORDER BY word LIMIT most
        ) AS w GROUP BY w.word ORDER BY w.word
    LOOP
        last := one.word;
        is_used := EXISTS (
            SELECT FROM lead_search s
            WHERE s.tenant_id = tenant AND s.live = is_live
              AND search_tokens(s.tenant_id, s.live, s.text, s.keys)
                @@ search_key(tenant, is_live, one.word, false)::tsquery);
        IF is_used AND one.unused_since IS NOT NULL THEN
            UPDATE lead_word SET unused_since = NULL
            WHERE tenant_id = tenant AND live = is_live AND ctid = ANY (one.places);
        ELSIF NOT is_used AND one.unused_since < now() - interval '1 hour' THEN
            DELETE FROM lead_word
            WHERE tenant_id = tenant AND live = is_live AND ctid = ANY (one.places)
              AND unused_since < now() - interval '1 hour';
        ELSIF NOT is_used THEN
            UPDATE lead_word SET unused_since = now()
            WHERE tenant_id = tenant AND live = is_live AND ctid = ANY (one.places)
              AND unused_since IS NULL;
        END IF;
    END LOOP;
    RETURN last;
END $$;
