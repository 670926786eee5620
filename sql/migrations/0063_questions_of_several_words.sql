-- Questions of several words cost less: "sarah vogel" read the whole lists of both beginnings from the
-- index, and then once more to find that no word has either inside.

-- All keys that begin with a word, as tsquery writes them: one by one if the lexicon knows them and
-- they are few, for PostgreSQL then skips through their lists, while it reads all of a beginning's.
CREATE FUNCTION search_beginning_keys(tenant bigint, is_live boolean, asked text)
RETURNS text LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
DECLARE
    few CONSTANT integer := 64;
    found text[];
BEGIN
    IF length(asked) < 4 OR ltrim(asked, '0123456789') = '' THEN  -- others are not in the lexicon
        RETURN search_key(tenant, is_live, asked, true);
    END IF;
    found := ARRAY(
        SELECT word FROM lead_word
        WHERE tenant_id = tenant AND live = is_live AND word >= asked AND word < asked || U&'\+10FFFF'
        ORDER BY word LIMIT few);
    IF cardinality(found) = few THEN
        RETURN search_key(tenant, is_live, asked, true);
    END IF;
    RETURN '(' || search_key(tenant, is_live, asked, false) || coalesce((
        SELECT '|' || string_agg(DISTINCT search_key(tenant, is_live, w, false), '|')
        FROM unnest(found) AS w WHERE w <> asked), '') || ')';
END $$;

-- Leads that have every word (tier 0) or words that begin with each (tier 1); `most` of either or
-- of both.
CREATE OR REPLACE FUNCTION search_beginnings(
    tenant bigint, is_live boolean, ask search_question, wanted_kinds smallint[], wanted_tier integer,
    most bigint)
RETURNS TABLE (id text, score smallint, tier smallint)
LANGUAGE plpgsql STABLE ROWS 1000 SET enable_seqscan = off AS $$
DECLARE
    query tsquery;
BEGIN
    SELECT string_agg(CASE
        WHEN wanted_tier = 0 THEN search_key(tenant, is_live, w, false)
        ELSE search_beginning_keys(tenant, is_live, w) END, '&')
    INTO query FROM unnest(ask.words) AS w;
    RETURN QUERY SELECT f.id, f.score, f.tier FROM (
        SELECT s.id, s.score,
            CASE WHEN s.text LIKE ALL (ask.wholes) THEN 0 ELSE 1 END::smallint AS tier
        FROM lead_search s
        WHERE s.tenant_id = tenant AND s.live = is_live
          AND search_tokens(s.tenant_id, s.live, s.text, s.keys) @@ query
          AND (wanted_kinds IS NULL OR s.kind = ANY (wanted_kinds))
    ) AS f
    WHERE wanted_tier IS NULL OR f.tier = wanted_tier LIMIT most;
END $$;

-- Leads that have every word, but at least one only inside another (tier 2); `most` of them. One
-- word leads: those that hold it are gone through in order, some at a time, since PostgreSQL holds
-- each key of a query against each of its hits. Of the other words those that have few keys go
-- along; for the rest the text decides. A lead is found by several words, but taken by the first.
CREATE OR REPLACE FUNCTION search_insides(
    tenant bigint, is_live boolean, ask search_question, wanted_kinds smallint[], most bigint)
RETURNS TABLE (id text, score smallint, tier smallint)
LANGUAGE plpgsql STABLE ROWS 1000 SET enable_seqscan = off AS $$
DECLARE
    few CONSTANT integer := 64;
    most_words CONSTANT integer := 40000;
    word text;
    around text[];
    leader text;
    leaders text[];
    some_inside boolean := false;
    others text := '';
    query tsquery;
    found bigint := 0;
    taken bigint;
BEGIN
    FOREACH word IN ARRAY ask.words LOOP
        CONTINUE WHEN NOT '%' || word || '%' = ANY (ask.insides);
        around := search_words_around(tenant, is_live, word, most_words);
        some_inside := some_inside OR cardinality(around) = most_words
            OR EXISTS (SELECT FROM unnest(around) AS w WHERE NOT starts_with(w, word));
        IF leaders IS NULL OR cardinality(around) < cardinality(leaders) THEN
            leader := word;
            leaders := around;
        END IF;
    END LOOP;
    IF leaders = '{}' OR NOT some_inside THEN
        RETURN;
    END IF;
    FOREACH word IN ARRAY ask.words LOOP
        CONTINUE WHEN word = leader;
        IF '%' || word || '%' = ANY (ask.insides) THEN
            around := search_words_around(tenant, is_live, word, few);
            CONTINUE WHEN cardinality(around) = few;
            others := others || '&(' || (
                SELECT coalesce(string_agg(search_key(tenant, is_live, w, false), '|'),
                    search_key(tenant, is_live, word, false)) FROM unnest(around) AS w) || ')';
        ELSE
            others := others || '&' || search_beginning_keys(tenant, is_live, word);
        END IF;
    END LOOP;
    IF cardinality(ask.words) = 1 THEN
        leaders := ARRAY(SELECT w FROM unnest(leaders) AS w WHERE NOT starts_with(w, leader));
    END IF;
    FOR at IN 1..cardinality(leaders) BY few LOOP
        around := leaders[at : at + few - 1];
        SELECT '(' || string_agg(search_key(tenant, is_live, w, false), '|') || ')' || others
        INTO query FROM unnest(around) AS w;
        RETURN QUERY SELECT s.id, s.score, 2::smallint
        FROM lead_search s
        WHERE s.tenant_id = tenant AND s.live = is_live
          AND search_tokens(s.tenant_id, s.live, s.text, s.keys) @@ query
          AND (wanted_kinds IS NULL OR s.kind = ANY (wanted_kinds))
          AND s.text LIKE ALL (ask.insides) AND NOT s.text LIKE ALL (ask.beginnings)
          AND (cardinality(leaders) <= few OR around[1] <= (
              SELECT min(w.word COLLATE "C") FROM string_to_table(s.text, ' ') AS w (word)
              WHERE w.word LIKE '%' || leader || '%'))
        LIMIT most - found;
        GET DIAGNOSTICS taken = ROW_COUNT;
        found := found + taken;
        EXIT WHEN found >= most;
    END LOOP;
END $$;

