-- From what a client asks to what the index of 0060 can answer.

-- What one typo makes of a word, that is: all words from which it is one letter too many, too few,
-- changed or swapped with the next. Letters to try are those of the word's own script.
CREATE FUNCTION search_variants(word text) RETURNS SETOF text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    WITH place AS (
        SELECT left(word, at) AS head, substr(word, at + 1) AS tail
        FROM generate_series(0, length(word)) AS at
    ), letter AS (
        SELECT string_to_table(CASE
            WHEN word ~ '[a-z]' THEN 'abcdefghijklmnopqrstuvwxyz0123456789'
            WHEN word ~ '[а-я]' THEN 'абвгдежзийклмнопрстуфхцчшщъыьэюя'
            WHEN word ~ '[α-ω]' THEN 'αβγδεζηθικλμνξοπρστυφχψω'
        END, NULL) AS letter
    )
    SELECT head || substr(tail, 2) FROM place WHERE tail <> ''
    UNION SELECT head || substr(tail, 2, 1) || left(tail, 1) || substr(tail, 3)
        FROM place WHERE length(tail) > 1
    UNION SELECT head || letter || tail FROM place, letter
    UNION SELECT head || letter || substr(tail, 2) FROM place, letter WHERE tail <> ''
    EXCEPT SELECT word
$$;

-- Whether a word is one to look for inside of others.
CREATE FUNCTION search_has_inside(word text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN length(word) > 2 AND ltrim(word, '0123456789') <> '';

-- Up to `most` words that hold the given one, in order. No sequential scans here and below, for
-- plans are kept and must not remember the time when the tables were small.
CREATE FUNCTION search_words_around(tenant bigint, is_live boolean, part text, most integer)
RETURNS text[] LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
BEGIN
    RETURN ARRAY(SELECT DISTINCT w.word FROM (
        SELECT word FROM lead_word
        WHERE tenant_id * 2 + live::integer = tenant * 2 + is_live::integer
          AND word LIKE '%' || part || '%' AND unused_since IS NULL
        LIMIT most) AS w ORDER BY w.word);
END $$;

-- Words that leads have and from which one typo makes the given one. Words of three letters are
-- not in lead_word: they are taken as they come.
CREATE FUNCTION search_words_like(tenant bigint, is_live boolean, asked text)
RETURNS text[] LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
BEGIN
    RETURN ARRAY(SELECT t.word FROM search_variants(asked) AS t (word)
        WHERE length(t.word) = 3 OR EXISTS (
            SELECT FROM lead_word w
            WHERE w.tenant_id = tenant AND w.live = is_live AND w.word = t.word OFFSET 0));
END $$;

-- A question, taken apart: its words, and patterns for the text of a lead. A text that is LIKE ALL of
-- `wholes` has every word, of `beginnings` a word that begins with each, of `insides` a word that
-- holds each. Folded words are letters and digits only, so nothing in them means anything to LIKE
-- or tsquery. Of a single letter only the word itself counts, of two letters and of numbers also
-- the beginning, and of a long question the first eight words have their insides searched.
CREATE TYPE search_question AS (words text[], wholes text[], beginnings text[], insides text[]);

CREATE FUNCTION search_ask(asked text) RETURNS search_question
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT ROW(
        coalesce(array_agg(q.word ORDER BY q.n), '{}'),
        coalesce(array_agg('% ' || q.word || ' %' ORDER BY q.n), '{}'),
        coalesce(array_agg('% ' || q.word || CASE WHEN length(q.word) > 1 THEN '%' ELSE ' %' END
            ORDER BY q.n), '{}'),
        coalesce(array_agg(CASE
            WHEN q.n <= 8 AND search_has_inside(q.word) THEN '%' || q.word || '%'
            WHEN length(q.word) > 1 THEN '% ' || q.word || '%' ELSE '% ' || q.word || ' %' END
            ORDER BY q.n), '{}')
    )::search_question
    FROM (
        SELECT w.word, row_number() OVER (ORDER BY min(w.at)) AS n
        FROM string_to_table(search_fold(replace(asked, E'\x01', ' ')), ' ')
            WITH ORDINALITY AS w (word, at)
        WHERE w.word <> '' GROUP BY w.word
    ) AS q);

-- The field of the best match; of equally good ones the first of name, company, email and the
-- custom fields in their order. others: words that stand for those asked for.
CREATE FUNCTION search_field(
    text text, custom_fields json, ask search_question, others text[])
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    fields CONSTANT text[] := string_to_array(text, E'\x01');
    best integer := 4;
    tier integer;
    place integer;
BEGIN
    FOR at IN 1..coalesce(cardinality(fields), 0) LOOP
        tier := CASE WHEN fields[at] LIKE ANY (ask.wholes) THEN 0
            WHEN fields[at] LIKE ANY (ask.beginnings) THEN 1
            WHEN fields[at] LIKE ANY (ask.insides) THEN 2
            WHEN string_to_array(fields[at], ' ') && others THEN 3 ELSE 4 END;
        IF tier < best THEN
            best := tier;
            place := at;
            EXIT WHEN best = 0;
        END IF;
    END LOOP;
    RETURN CASE place WHEN 1 THEN 'name' WHEN 2 THEN 'company' WHEN 3 THEN 'email' ELSE (
        SELECT 'customFields.' || k.key
        FROM json_object_keys(custom_fields) WITH ORDINALITY AS k (key, at)
        WHERE k.at = place - 3) END;
END $$;

CREATE FUNCTION lead_hit_json(l lead, match_field text) RETURNS json
LANGUAGE sql STABLE PARALLEL SAFE
RETURN row_to_json(ROW(
    l.id, l.email, l.name, l.company, l.status, l.score, match_field,
    iso_ms(l.last_active_at))::lead_hit_on_wire);

-- A word as a key of the index, or all keys that begin with it, as tsquery writes them.
CREATE FUNCTION search_key(tenant bigint, is_live boolean, word text, is_beginning boolean)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '''' || tenant || CASE WHEN is_live THEN 'l=' ELSE 't=' END || word
    || CASE WHEN is_beginning AND length(word) > 1 THEN ''':*' ELSE '''' END;

-- The keys that a list asks for: all of them. Written as search_document writes them, and cut where
-- it cuts.
CREATE FUNCTION search_filters(
    tenant bigint, is_live boolean, tag text, assigned_to text, fields text[], field_values text[])
RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT string_agg(
        '''' || tenant || CASE WHEN is_live THEN 'l' ELSE 't' END
            || replace(replace(k.key, '\', '\\'), '''', '''''') || '''', '&')::tsquery
    FROM string_to_table(concat(
        '#' || tag, E'\x01@' || assigned_to,
        (SELECT string_agg(E'\x01:' || f.field || '=' || left(f.value, 64), '')
            FROM unnest(fields, field_values) AS f (field, value))), E'\x01') AS k (key)
    WHERE k.key <> '');

-- Leads that have every word (tier 0) or words that begin with each (tier 1); `most` of either or
-- of both.
CREATE FUNCTION search_beginnings(
    tenant bigint, is_live boolean, ask search_question, wanted_kinds smallint[], wanted_tier integer,
    most bigint)
RETURNS TABLE (id text, score smallint, tier smallint)
LANGUAGE plpgsql STABLE ROWS 1000 SET enable_seqscan = off AS $$
DECLARE
    query tsquery;
BEGIN
    SELECT string_agg(search_key(tenant, is_live, w, wanted_tier IS DISTINCT FROM 0), '&')
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
CREATE FUNCTION search_insides(
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
    others text := '';
    query tsquery;
    found bigint := 0;
    taken bigint;
BEGIN
    FOREACH word IN ARRAY ask.words LOOP
        CONTINUE WHEN NOT '%' || word || '%' = ANY (ask.insides);
        around := search_words_around(tenant, is_live, word, most_words);
        IF leaders IS NULL OR cardinality(around) < cardinality(leaders) THEN
            leader := word;
            leaders := around;
        END IF;
    END LOOP;
    IF leaders IS NULL OR leaders = '{}' THEN
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
            others := others || '&' || search_key(tenant, is_live, word, true);
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

-- Leads that have every word if one typo in each is allowed for, but not without (tier 3).
-- others: the words that were taken for those asked for.
CREATE FUNCTION search_typos(
    tenant bigint, is_live boolean, ask search_question, wanted_kinds smallint[], most bigint)
RETURNS TABLE (id text, score smallint, tier smallint, others text[])
LANGUAGE plpgsql STABLE ROWS 100 SET enable_seqscan = off AS $$
DECLARE
    few CONSTANT integer := 64;
    word text;
    around text[];
    alike text[];
    all_alike text[] := '{}';
    query text := '';
BEGIN
    FOREACH word IN ARRAY ask.words LOOP
        around := '{}';
        alike := '{}';
        IF '%' || word || '%' = ANY (ask.insides) THEN
            around := search_words_around(tenant, is_live, word, few);
        END IF;
        IF length(word) BETWEEN 4 AND 40 AND search_has_inside(word) THEN
            alike := search_words_like(tenant, is_live, word);
            all_alike := all_alike || alike;
        END IF;
        query := query || '&(' || search_key(tenant, is_live, word, true) || coalesce((
            SELECT '|' || string_agg(search_key(tenant, is_live, w, false), '|')
            FROM unnest(around || alike) AS w), '') || ')';
    END LOOP;
    IF all_alike = '{}' THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT s.id, s.score, 3::smallint, all_alike
    FROM lead_search s
    WHERE s.tenant_id = tenant AND s.live = is_live
      AND search_tokens(s.tenant_id, s.live, s.text, s.keys) @@ substr(query, 2)::tsquery
      AND (wanted_kinds IS NULL OR s.kind = ANY (wanted_kinds))
      AND NOT s.text LIKE ALL (ask.insides)
    LIMIT most;
END $$;
