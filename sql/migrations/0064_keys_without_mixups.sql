-- U+0001 parts the keys that lists filter by. One inside a tag or a field made two keys of it, so that
-- the filter tag=b found a lead with the tag "a\u0001#b". It is now filed, and asked for, as U+0002; a
-- list whose parameters hold either compares with the lead itself.
CREATE OR REPLACE FUNCTION search_document(
    name text, company text, email text, custom_fields json, tags text[], assigned_to text)
RETURNS TABLE (text text, keys text) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT
        search_fold(concat(
            ' ', replace(name, E'\x01', ' '), E' \x01 ', replace(company, E'\x01', ' '),
            E' \x01 ', replace(email, E'\x01', ' '), f.words, ' ')),
        concat(
            CASE WHEN strpos(array_to_string(tags, ''), E'\x01') = 0
                THEN E'\x01#' || nullif(array_to_string(tags, E'\x01#'), '')
                ELSE (SELECT string_agg(E'\x01#' || replace(tag, E'\x01', E'\x02'), '')
                    FROM unnest(tags) AS tag) END,
            E'\x01@' || replace(assigned_to, E'\x01', E'\x02'), f.pairs)
    FROM (
        SELECT
            string_agg(E' \x01 ' || coalesce(replace(CASE
                WHEN left(value, 1) IN ('{', '[') AND json_typeof(custom_fields -> key) <> 'string'
                THEN search_flatten((custom_fields -> key)::jsonb) ELSE value
            END, E'\x01', ' '), ''), '') AS words,
            string_agg(E'\x01:' || replace(key || '=' || left(value, 64), E'\x01', E'\x02'), '')
                AS pairs
        FROM json_each_text(CASE WHEN strpos(custom_fields::text, '\u') > 0
            THEN search_readable(custom_fields) ELSE custom_fields END)
    ) AS f
$$;

CREATE OR REPLACE FUNCTION search_filters(
    tenant bigint, is_live boolean, tag text, assigned_to text, fields text[], field_values text[])
RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT string_agg(
        '''' || tenant || CASE WHEN is_live THEN 'l' ELSE 't' END || replace(
            replace(replace(k.key, E'\x01', E'\x02'), '\', '\\'), '''', '''''') || '''',
        '&')::tsquery
    FROM (
        SELECT '#' || tag UNION ALL SELECT '@' || assigned_to
        UNION ALL SELECT ':' || f.field || '=' || left(f.value, 64)
        FROM unnest(fields, field_values) AS f (field, value)
    ) AS k (key)
    WHERE k.key <> '');

UPDATE lead_search AS s SET keys = d.keys
FROM lead l CROSS JOIN LATERAL search_document(
    l.name, l.company, l.email, l.custom_fields, l.tags, l.assigned_to) AS d
WHERE (strpos(array_to_string(l.tags, ''), E'\x01') > 0 OR strpos(l.assigned_to, E'\x01') > 0
    OR strpos(l.custom_fields::text, '\u0001') > 0)
  AND s.tenant_id = l.tenant_id AND s.live = l.live AND s.id = l.id AND s.keys <> d.keys;
