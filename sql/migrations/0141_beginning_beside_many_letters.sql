-- "an zoi" read all words that begin with "an" from the index once for each 64 words that hold "zoi":
-- 1.1 s where 4,800 words do (a million leads), 0.4 now.

-- Leads that have every word, but at least one only inside another (tier 2); `most` of them. One
-- word leads: those that hold it are gone through in order, some at a time, since PostgreSQL holds
-- each key of a query against each of its hits. Of the other words those that have few keys go
-- along, and beside a leader of few keys, whose hits may be many, one that has more, or a beginning
-- of any number; for the rest the text decides. A lead is found by several words, but taken by the
-- first.
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
    keys text;
    query tsquery;
    found bigint := 0;
    taken bigint;
    along integer;
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
    along := CASE WHEN cardinality(leaders) <= few THEN 512 ELSE few END;
    FOREACH word IN ARRAY ask.words LOOP
        CONTINUE WHEN word = leader;
        IF '%' || word || '%' = ANY (ask.insides) THEN
            around := search_words_around(tenant, is_live, word, along);
            CONTINUE WHEN cardinality(around) = along;
            others := others || '&(' || (
                SELECT coalesce(string_agg(search_key(tenant, is_live, w, false), '|'),
                    search_key(tenant, is_live, word, false)) FROM unnest(around) AS w) || ')';
            along := CASE WHEN cardinality(around) > few THEN few ELSE along END;
        ELSE
            keys := search_beginning_keys(tenant, is_live, word);
            others := others || CASE WHEN cardinality(leaders) > few AND keys LIKE '%:*' THEN ''
                ELSE '&' || keys END;
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
