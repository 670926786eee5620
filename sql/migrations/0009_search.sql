-- Search: an inverted index of words, and a lexicon of the words beside it.
--
-- WRITES. Statement triggers on `lead` maintain four tables within each write, whatever its source:
--   lead_count   the counters of 0008.
--   lead_score   one row per lead for lists by score (0002). The scorer's statement score_write_many
--                updates it itself, with the explanation of the score.
--   lead_search  one row per lead: its folded words (name, company, e-mail address, custom fields)
--                and the keys that lists filter by. A GIN index holds both as tokens. Each token
--                begins with tenant and mode (`7l=acme`: tenant 7, live, the word acme), so a search
--                reads only its tenant's part of the index. The table is separate from lead, because
--                a lead is updated soon after its insert (score, status), and the update would
--                insert all its tokens into the GIN index again.
--   lead_word    the lexicon: each word once per tenant and mode, with a trigram index.
--
-- QUERIES. search_question_parse() splits a question into folded words. A hit belongs to the best
-- tier that it reaches:
--   tier 0  whole words: every word of the question is a word of the lead    search_find_prefix()
--   tier 1  prefixes: every word begins a word of the lead                   search_find_prefix()
--   tier 2  substrings: every word is contained in a word of the lead        search_find_substring()
--   tier 3  typos: as tier 2, with one typo allowed in each word             search_find_typo()
-- Digits, four or more, are also searched as substrings of words that hold a letter (john1985). Numbers
-- are found only by prefix; but a long result, of which counts are estimates, may contain leads with
-- the digits inside a number.
-- Within a tier hits are ordered by score, then by id. The statement lead_search_find
-- (sql/lead_search.sql) combines the tiers; search_match_field() names the field with the best match.
--
-- FOLDING. search_fold() removes differences that people do not notice, from leads and questions alike:
-- case, compatibility forms (full-width, ligatures), marks, and characters that cannot be seen. What is
-- neither letter nor digit is a space. What was arguable:
--   all          A mark is a character with a combining class; so Arabic and Hebrew vowel signs go, and the
--                vowels of Indic scripts, Thai, Khmer stay, because they spell the word. A zero-width
--                space goes like all that cannot be seen: it separates no words. Digits of every script
--                are ASCII digits; numerals of Han stay.
--   Latin        ø ł đ ħ ı ŧ ð ɓ ɗ ƙ ƴ = o l d h i t d b d k y; ß æ œ þ = ss ae oe th;
--                ə = e; the Catalan l·l = ll. An apostrophe of any form is a space.
--   Greek        ς = σ; without tonos and breathings.
--   Cyrillic     й = и, ё = е: the mark goes. A letter that Russian keyboards lack is the one written in its
--                place: і ї = и, є = е, ґ ғ = г, қ = к, ң = н, ө = о, ұ ү = у, һ ҳ = х, ә = а, ҷ = ч.
--   Hebrew       Final letters = the others; Yiddish ligatures = two letters.
--   Arabic       أ إ آ ٱ = ا, ؤ = و, ئ = ي: hamza is a mark; alone (ء) it goes. Alef maksura, Farsi yeh and
--                yeh barree = yeh. Keheh = kaf. Teh marbuta and all forms of heh = heh. Tatweel goes.
--   Armenian     և = եւ = եվ.
--   Indic        Nukta goes; candrabindu ँ = anusvara ं, Gurmukhi tippi = bindi. A nasal with virama before a
--                stop is an anusvara (हिन्दी = हिंदी, पाण्डेय = पांडेय), not in Tamil and Malayalam. A Malayalam
--                chillu = its consonant with virama. Other viramas and vowel signs stay.
--   Thai, Lao    Tone marks, maitaikhu and thanthakhat go; two SARA E = SARA AE. Khmer: the signs above
--                consonants go.
--   Kana         Katakana = Hiragana, small = large (キャノン = キヤノン). The voicing marks and the
--                prolonged sound mark stay: ハ, バ and パ are three letters. The iteration marks ゝ ゞ ヽ ヾ
--                are what they repeat; 々 stays. A full-width minus behind Kana is a prolonged sound mark,
--                if Kana or nothing follows.
--   Hangul       Composed or of separate jamo; fillers go.
--   Han          Only glyph variants of names: 髙 = 高, 﨑 = 崎, 𠮷 = 吉. Simplified and traditional forms
--                differ.
--
-- UNSPACED SCRIPTS. Han, Kana, Hangul and Bopomofo are written with or without spaces between words, so a
-- question may have a space where the name has none, and the other way round. In the text of a lead each
-- syllable of such a word is joined to the next by a hyphen (`김-민-수`); in patterns they are joined by
-- `_`, which is a hyphen or a space. A word ends where another script begins: 株式会社ABC is two words.
-- The index holds a token for each syllable and the next (search_tokens), so it finds any two syllables; LIKE on the text checks the order and finds the tier. Such words are not in the lexicon. A typo in
-- them is one syllable too many or two swapped, in words of four syllables or more.
--
-- PHONE NUMBERS. The digits of a phone number are a key of the lead: without country code, then a dot and the
-- country code, if it is known (search_phone_key). They are not in the text, so `555` does not find every
-- number with these digits, and other questions cost no more. A question of at least five digits
-- and no letters also finds the leads of which a word or the phone number is or begins with all its digits,
-- read as a number with and without country code (search_phone_readings). Zeros in front of a number
-- do not count: they are trunk and international prefixes.
--
-- COST. The cost of a whole word or a prefix grows with its matches in the tenant. PostgreSQL compares
-- every key of a tsquery with every hit. The functions below therefore send few keys at a time (64),
-- and check the rest with LIKE on the folded text.
--
-- MAINTENANCE. workers/search_maintenance.py cleans the pending lists of the GIN indexes every second,
-- and deletes words from the lexicon that no lead contains any more.
--
-- Every function that reads tables sets enable_seqscan = off: its plans are cached for the session,
-- and a plan made while the tables were small must not scan them later.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE EXTENSION IF NOT EXISTS btree_gin;

-- 1. From a lead to its words and tokens.

-- The four functions below name characters for regular expressions, as the inside of [ ].

-- Characters that cannot be seen: default ignorables of Unicode (soft hyphen, zero-width and bidi
-- characters, variation selectors, fillers, tags), controls, and strokes that only lengthen a word.
CREATE FUNCTION search_invisible() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '\x02-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u115f\u1160'
    '\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0'
    '\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff'
    '\u0640\u07fa\u180a';

-- Marks: the characters with a combining class, without viramas, signs of Kana, and vowels of Thai,
-- Lao, Telugu, Tibetan, Buginese and Tai Viet. Vowels of Indic scripts have no combining class.
CREATE FUNCTION search_marks() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '\u0300-\u036f\u1ab0-\u1ace\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f'
    '\u0483-\u0489\u2de0-\u2dff\ua66f-\ua672\ua674-\ua67d\ua69e\ua69f\U0001e000-\U0001e02a'  -- Cyrillic
    '\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\ufb1e'                            -- Hebrew
    '\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed'            -- Arabic
    '\u0898-\u089f\u08ca-\u08e1\u08e3-\u08ff\U00010eab-\U00010eac'
    '\u0711\u0730-\u074a\u07eb-\u07f3\u07fd\u0816-\u082d\u0859-\u085b'          -- Syriac to Mandaic
    '\u093c\u0951-\u0954\u09bc\u09fe\u0a3c\u0abc\u0b3c\u0c3c\u0cbc'                      -- India
    '\u1cd0-\u1cd2\u1cd4-\u1ce0\u1ce2-\u1ce8\u1ced\u1cf4\u1cf8\u1cf9\ua8e0-\ua8f1'
    '\u1be6\u1c37\U000110ba\U00011100-\U00011102\U00011173\U000111ca\U00011236\U000112e9'
    '\U0001133b\U0001133c\U00011366-\U00011374\U00011446\U0001145e\U000114c3\U000115c0\U000116b7'
    '\U0001183a\U00011943\U00011d42'
    '\u0e47-\u0e4c\u0e4e\u0ec8-\u0ecc\u17c9-\u17d1\u17d3\u17dd\u1037\u108d'    -- Thai to Myanmar
    '\u1939-\u193b\u1a75-\u1a7f\u1b34\u1b6b-\u1b73\ua92b-\ua92d\ua9b3\uaabf\uaac1'
    '\u0f18\u0f19\u0f35\u0f37\u0f39\u0f82\u0f83\u0f86\u0f87\u0fc6\u18a9'       -- Tibetan, Mongolian
    '\u135d-\u135f\ua6f0\ua6f1\u2cef-\u2cf1\u302a-\u302f\U00016ff0\U00016ff1'  -- Ethiopic to Han
    '\U00010d24-\U00010d27\U00016af0-\U00016af4\U00016b30-\U00016b36\U0001e130-\U0001e136'
    '\U0001e2ae\U0001e2ec-\U0001e2ef\U0001e8d0-\U0001e8d6\U0001e944-\U0001e94a';

-- Punctuation, symbols and blanks, of all scripts in use, except U+0020. U+0001 separates fields.
CREATE FUNCTION search_signs() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '\x02-\x1f\x21-\x2f\x3a-\x60\x7b-\xbf\xd7\xf7\u02b9-\u02df\u02e5-\u02ff\u0375\u03f6\u0482'
    '\u055a-\u055f\u0589-\u058f\u05be\u05c0\u05c3\u05c6\u05f3\u05f4'           -- Armenian, Hebrew
    '\u0606-\u060f\u061b\u061d-\u061f\u066a-\u066d\u06d4\u06de\u06e9\u06fd\u06fe\u0700-\u070d'
    '\u07f6-\u07f9\u0830-\u083e\u085e\ufbb2-\ufbc2\ufd3e-\ufd4f\ufdcf\ufdfd-\ufdff'
    '\u0964\u0965\u0970\u09f2\u09f3\u09fa\u09fb\u09fd\u0a76\u0af0\u0af1\u0b70\u0bf3-\u0bfa\u0c77'
    '\u0c7f\u0c84\u0d4f\u0d79\u0df4\u1cc0-\u1cc7\u1cd3\ua828-\ua82b\ua836-\ua839\ua874-\ua877'
    '\ua8ce\ua8cf\ua8f8-\ua8fa\ua8fc\uabeb'                                              -- India
    '\u0e3f\u0e4f\u0e5a\u0e5b\u0f01-\u0f17\u0f1a-\u0f1f\u0f34\u0f36\u0f38\u0f3a-\u0f3d\u0f85'
    '\u0fbe-\u0fda\u104a-\u104f\u109e\u109f\u1735\u1736\u17d4-\u17d6\u17d8-\u17db\u1940-\u1945'
    '\u19de-\u19ff\u1a1e\u1a1f\u1aa0-\u1aad\u1b5a-\u1b6a\u1b74-\u1b7e\u1bfc-\u1bff\u1c3b-\u1c3f'
    '\u1c7e\u1c7f\ua92e\ua92f\ua95f\ua9c1-\ua9cd\ua9de\ua9df\uaa5c-\uaa5f\uaa77-\uaa79\uaade\uaadf'
    '\uaaf0\uaaf1'                                                             -- South-East Asia
    '\u10fb\u1360-\u1368\u1390-\u1399\u1400\u166d\u166e\u1680\u169b\u169c\u16eb-\u16ed\u1800-\u180a'
    '\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff\u2cf9-\u2cff\u2e00-\u2fff\ua4fe\ua4ff\ua60d-\ua60f'
    '\ua673\ua67e\ua6f2-\ua721\ua789\ua78a'
    '\u3000-\u3004\u3008-\u3020\u3030\u303d-\u303f\u30a0\u30fb\u31c0-\u31ef\u4dc0-\u4dff\ua490-\ua4cf'
    '\ufe10-\ufe6f\ufff0-\uffff\U00010100-\U0001013f\U0001d000-\U0001d356\U0001f000-\U0001faff';

-- Han, Kana, Hangul and Bopomofo, which are written without spaces. One character is a syllable.
CREATE FUNCTION search_unspaced() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '\u1100-\u11ff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c\u3041-\u309f\u30a1-\u30fa'
    '\u30fc-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff'
    '\U0001aff0-\U0001b16f\U00020000-\U0003ffff';

-- The digits 0 to 9 of every script but ASCII.
CREATE FUNCTION search_digits() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT string_agg(chr(zero + n), '' ORDER BY zero, n)
    FROM unnest(ARRAY[
        1632, 1776, 1984, 2406, 2534, 2662, 2790, 2918, 3046, 3174, 3302, 3430, 3558, 3664, 3792,
        3872, 4160, 4240, 6112, 6160, 6470, 6608, 6784, 6800, 6992, 7088, 7232, 7248, 42528, 43216,
        43264, 43472, 43504, 43600, 44016, 66720, 68912, 69734, 69872, 69942, 70096, 70384, 70736,
        70864, 71248, 71360, 71472, 71904, 72016, 72784, 73040, 73120, 92768, 92864, 93008, 123200,
        123632, 125264]) AS zero CROSS JOIN generate_series(0, 9) AS n);

-- Replaces a nasal with virama before a stop by an anusvara, in scripts from Devanagari to Kannada that are
-- laid out alike: Unicode has the letters of each at the same places of its block.
CREATE FUNCTION search_fold_indic(folded text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    block integer;
BEGIN
    FOREACH block IN ARRAY '{2304,2432,2560,2688,2816,3072,3200}'::integer[] LOOP
        IF folded ~ format('[%s-%s]', chr(block + 1), chr(block + 127)) THEN
            folded := regexp_replace(folded, format(
                '(?:[%s%s%s%s]%s(?=[%s-%s%s-%s%s-%s%s-%s%s-%s])|%s%s(?=[%s-%s]))',
                chr(block + 25), chr(block + 30), chr(block + 35), chr(block + 40), chr(block + 77),
                chr(block + 21), chr(block + 24), chr(block + 26), chr(block + 29),
                chr(block + 31), chr(block + 34), chr(block + 36), chr(block + 39),
                chr(block + 42), chr(block + 45),
                chr(block + 46), chr(block + 77), chr(block + 42), chr(block + 45)),
                chr(block + 2), 'g');
        END IF;
    END LOOP;
    -- Malayalam: a chillu is a consonant with virama.
    FOREACH block IN ARRAY '{3450,3451,3452,3453,3454,3455}'::integer[] LOOP
        folded := replace(folded, chr(block),
            substr(U&'\0d23\0d28\0d30\0d32\0d33\0d15', block - 3449, 1) || U&'\0d4d');
    END LOOP;
    RETURN translate(folded, U&'\0901\0a70', U&'\0902\0a02');
END $$;

-- Removes marks and what cannot be seen, and replaces letters by their equals, in any script.
CREATE FUNCTION search_fold_letters(raw text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    folded text := raw;
BEGIN
    -- normalize() sorts each sequence of combining marks in quadratic time, so no sequence is longer
    -- than 200 characters before it: 8,000 marks cost 1.4 s, now 0.08.
    IF octet_length(raw) > 2000 THEN
        folded := regexp_replace(raw, '([^\x01-\x7f]{200})', '\1 ', 'g');
    END IF;
    IF folded ~ '[－−]' THEN  -- before NFKD, which makes them a hyphen
        folded := regexp_replace(folded,
            '([\u3041-\u30fa\u30fc\uff66-\uff9f])[－−](?=[\u3041-\u30fa\u30fc\uff66-\uff9f]|\s|$)', '\1ー', 'g');
    END IF;
    folded := lower(regexp_replace(
        normalize(folded, NFKD), '[' || search_invisible() || search_marks() || ']+', '', 'g')
        COLLATE "default");  -- not of a column of collation "C", which has no case but for a to z
    IF octet_length(folded) = length(folded) THEN
        RETURN folded;
    END IF;
    folded := translate(folded, 'øłđħıŧςðɓɗƙƴəǝ', 'oldhitσdbdkyee');
    folded := replace(folded, 'l·l', 'll');
    folded := replace(replace(replace(replace(
        folded, 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th');
    IF folded ~ '[\u0454-\u05f2]' THEN  -- Cyrillic, Hebrew
        folded := translate(folded, 'іґєғқңөұүһәҷҳ', 'игегкноуухачх');
        folded := translate(folded,
            U&'\05da\05dd\05df\05e3\05e5', U&'\05db\05de\05e0\05e4\05e6');
        folded := replace(replace(replace(folded,
            U&'\05f0', U&'\05d5\05d5'), U&'\05f1', U&'\05d5\05d9'), U&'\05f2', U&'\05d9\05d9');
    END IF;
    IF folded ~ '[\u0565\u0e40\u0ec0]' THEN  -- Armenian, Thai, Lao
        folded := replace(replace(replace(folded, U&'\0565\057e', U&'\0565\0582'),
            U&'\0e40\0e40', U&'\0e41'), U&'\0ec0\0ec0', U&'\0ec1');
    END IF;
    IF folded ~ '[\u0900-\u0dff]' THEN
        folded := search_fold_indic(folded);
    END IF;
    IF folded ~ '[\u0600-\u06ff]' THEN  -- alef, yeh, kaf, heh; without hamza
        folded := translate(folded,
            U&'\0671\0649\06cc\06d2\06a9\06aa\0629\06c1\06d5\06c3\06be\0621\0674',
            U&'\0627\064a\064a\064a\0643\0643\0647\0647\0647\0647\0647');
    END IF;
    IF folded ~ '[\u3041-\u30ff髙﨑𠮷]' THEN
        folded := translate(folded,
            'ァアィイゥウェエォオカキクケコサシスセソタチッツテトナニヌネノハヒフヘホマミムメモャヤュユョヨラリルレロヮワヰヱヲンヵヶぁぃぅぇぉっゃゅょゎゕゖ髙﨑𠮷',
            'ああいいううええおおかきくけこさしすせそたちつつてとなにぬねのはひふへほまみむめもややゆゆよよらりるれろわわゐゑをんかけあいうえおつやゆよわかけ高崎吉');
        folded := regexp_replace(folded, '([\u3041-\u3096])([\u3099\u309a]?)[\u309d\u30fd]', '\1\2\1', 'g');
    END IF;
    IF folded ~ ('[' || search_digits() || ']') THEN
        folded := translate(folded, search_digits(), repeat('0123456789', 58));
    END IF;
    RETURN normalize(folded, NFKC);
END $$;

-- Replaces signs by spaces and separates the words of unspaced scripts from others. Their syllables get
-- a hyphen in between.
CREATE FUNCTION search_separate(folded text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    unspaced CONSTANT text := search_unspaced();
BEGIN
    folded := regexp_replace(folded, '[' || search_signs() || ']+', ' ', 'g');
    IF folded ~ ('[' || search_unspaced() || ']') THEN
        IF folded ~ (
            '^[^ ]|[^ ' || unspaced || '][' || unspaced || ']|[' || unspaced || '][^ ' || unspaced || ']'
        ) THEN
            folded := regexp_replace(folded, '([' || unspaced || ']+)', ' \1 ', 'g');
        END IF;
        folded := regexp_replace(folded, ' {2,}', ' ', 'g');
        folded := regexp_replace(folded, '([' || unspaced || '])', '-\1', 'g');
        folded := replace(folded, ' -', ' ');
    END IF;
    IF octet_length(folded) > 2000 THEN  -- words are cut after 200 characters
        folded := regexp_replace(folded, '([^ -]{200})[^ -]+', '\1', 'g');
    END IF;
    RETURN folded;
END $$;

-- The words of a text, separated by spaces: see FOLDING. It uses only built-in functions with fixed
-- behaviour and no dictionary, so the index stays valid after a dump or an upgrade.
CREATE FUNCTION search_fold(raw text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    folded text;
BEGIN
    IF octet_length(raw) = length(raw) THEN
        folded := lower(raw COLLATE "C");
    ELSE
        folded := search_fold_letters(raw);
        IF octet_length(folded) <> length(folded) THEN
            RETURN search_separate(folded);
        END IF;
    END IF;
    -- Frequent signs first: a third of the cost of the regular expression.
    folded := replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(
        folded, '.', ' '), '@', ' '), '-', ' '), '_', ' '), ',', ' '), '''', ' '), '/', ' '),
        '+', ' '), '&', ' '), '$', ' ');
    IF folded ~ '[^a-z0-9 \x01]' THEN
        folded := regexp_replace(folded, '[\x02-\x08\x0e-\x1f\x7f]+', '', 'g');
        folded := regexp_replace(folded, '[^a-z0-9 \x01]+', ' ', 'g');
    END IF;
    IF octet_length(folded) > 2000 THEN  -- words are cut after 200 characters
        folded := regexp_replace(folded, '([^ ]{200})[^ ]+', '\1', 'g');
    END IF;
    RETURN folded;
END $$;

-- All strings and numbers inside a nested JSON value, separated by spaces. A number is cut to 20
-- characters: 1e308 has 309 digits.
CREATE FUNCTION search_flatten(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT string_agg(
        CASE jsonb_typeof(v) WHEN 'number' THEN left(v #>> '{}', 20) ELSE v #>> '{}' END, ' ')
    FROM jsonb_path_query(value, 'strict $.**') AS v
    WHERE jsonb_typeof(v) IN ('string', 'number'));

-- The fields, or {} if type text cannot hold them (\u0000, half of a surrogate pair). The API refuses
-- such fields; a lead written another way is stored, and its fields are not searchable.
CREATE FUNCTION search_readable(fields json) RETURNS json
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    PERFORM fields::jsonb;
    RETURN fields;
EXCEPTION WHEN untranslatable_character OR invalid_text_representation THEN
    RETURN '{}';
END $$;

-- How many of the digits of an international number are the country code.
CREATE FUNCTION search_country_code_length(digits text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN left(digits, 1) IN ('1', '7') THEN 1
    WHEN left(digits, 2) IN (
        '20', '27', '30', '31', '32', '33', '34', '36', '39', '40', '41', '43', '44', '45', '46', '47',
        '48', '49', '51', '52', '53', '54', '55', '56', '57', '58', '60', '61', '62', '63', '64', '65',
        '66', '81', '82', '84', '86', '90', '91', '92', '93', '94', '95', '98') THEN 2
    ELSE 3 END;

-- The key of a phone number, between two U+0001: +5550142000.1 for the country code 1, +5550142000. if it
-- is not known. An extension, from the first letter on, is left out. Null: no digits.
CREATE FUNCTION search_phone_key(phone text, phone_e164 text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    digits text := substr(phone_e164, 2);
    code_length integer;
BEGIN
    IF digits IS NULL THEN
        digits := translate(phone, '+ ().-', '');
        IF digits ~ '[^0-9]' THEN
            digits := replace(substring(search_fold(phone) FROM '[0-9][0-9 ]*'), ' ', '');
        END IF;
        IF phone ~ '^[^0-9]*[+＋]' OR digits LIKE '00%' THEN
            digits := ltrim(digits, '0');
        ELSE
            code_length := 0;
        END IF;
    END IF;
    code_length := coalesce(code_length, search_country_code_length(digits));
    RETURN E'\x01+' || nullif(ltrim(substr(digits, code_length + 1), '0'), '') || '.'
        || left(digits, code_length) || E'\x01';
END $$;

-- The searchable document of a lead.
-- text: the folded words of name, company, e-mail address and each custom field, in this order. Every
-- word is surrounded by spaces; a U+0001, as a word, separates two fields.
-- keys: what lists filter by, each after a U+0001: #tag, @assignee, :field=value; then the phone number.
-- Long values are cut
-- and a U+0001 becomes U+0002, so a list compares such filters with the lead itself.
CREATE FUNCTION search_document(
    name text, company text, email text, custom_fields json, tags text[], assigned_to text,
    phone text, phone_e164 text)
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
            E'\x01@' || replace(assigned_to, E'\x01', E'\x02'), f.pairs,
            CASE WHEN phone IS NOT NULL OR phone_e164 IS NOT NULL
                THEN search_phone_key(phone, phone_e164) END)
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

-- A word, or a prefix, as the key of a tsquery.
CREATE FUNCTION search_key(tenant bigint, is_live boolean, word text, is_prefix boolean)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '''' || tenant || CASE WHEN is_live THEN 'l=' ELSE 't=' END || word
    || CASE WHEN is_prefix AND length(word) > 1 THEN ''':*' ELSE '''' END;

-- The tokens that the index holds for a lead. Each begins with tenant and mode (7l=acme: the word acme
-- in the live leads of tenant 7), so the size of one tenant does not slow down another.
-- A word of an unspaced script becomes one token for each syllable: the syllable and the next one, also the
-- first of the next word. A hyphen before the token says that the syllable does not begin a word: `김-민-수`
-- becomes `김민 -민수 -수`. Every second token is made at a time, because a match of a regular expression
-- cannot begin inside the match before it.
-- REINDEX and pg_restore run this with an empty search_path, so it repeats what search_unspaced() returns.
CREATE FUNCTION search_tokens(tenant_id bigint, live boolean, text text, keys text)
RETURNS tsvector LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    space text := tenant_id || CASE WHEN live THEN 'l' ELSE 't' END;
BEGIN
    IF octet_length(text) <> length(text) THEN
        DECLARE
            unspaced CONSTANT text := '['
                '\u1100-\u11ff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c\u3041-\u309f\u30a1-\u30fa'
                '\u30fc-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff'
                '\U0001aff0-\U0001b16f\U00020000-\U0003ffff]';
            pair CONSTANT text := '([ -]' || unspaced || ')[ -](' || unspaced || ')';
        BEGIN
            IF text ~ unspaced THEN
                text := regexp_replace(text, pair, ' \1\2 ', 'g') || ' ' || regexp_replace(
                    regexp_replace(text, '(?<!' || unspaced || ') ' || unspaced
                        || '(?=[ -]' || unspaced || ')', '', 'g'),
                    pair, ' \1\2 ', 'g');
            END IF;
        END;
    END IF;
    RETURN array_to_tsvector(array_remove(array_remove(array_remove(
        string_to_array(
            replace(text, ' ', E'\x01' || space || '=') || replace(keys, E'\x01', E'\x01' || space),
            E'\x01'),
        ''), space || '='), space));
END $$;

-- The document of each lead. No index contains status_source, score or created_at, and a fifth of each
-- page stays free, so PostgreSQL updates most rows in place (HOT). More free space would slow down searches
-- with thousands of hits, which read the rows.
CREATE TABLE lead_search (
    tenant_id      bigint NOT NULL,
    created_at     timestamptz NOT NULL,
    status_source  smallint NOT NULL,
    score          smallint NOT NULL,
    live           boolean NOT NULL,
    id             text COLLATE "C" NOT NULL,
    text           text COLLATE "C" NOT NULL,
    keys           text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, live, id)
) WITH (fillfactor = 80);

CREATE INDEX lead_search_tokens ON lead_search
    USING gin (search_tokens(tenant_id, live, text, keys));

-- No statistics: they are expensive to gather, and plans must not change with them.
ALTER INDEX lead_search_tokens ALTER COLUMN 1 SET STATISTICS 0;

-- The lexicon: the words of all leads, to find words that contain a substring. Numbers are not
-- included: they are only found by prefix. The key is not unique: two writers with the same new word
-- must not wait for each other, and a duplicate does no harm.
CREATE TABLE lead_word (
    tenant_id     bigint NOT NULL,
    live          boolean NOT NULL,
    word          text COLLATE "C" NOT NULL,
    unused_since  timestamptz                    -- see lead_word_delete_unused
);

CREATE INDEX lead_word_by_word ON lead_word (tenant_id, live, word);
CREATE INDEX lead_word_by_part ON lead_word
    USING gin ((tenant_id * 2 + live::integer), word gin_trgm_ops);

-- 2. The triggers. They run once per statement, and each runs one statement, so a batch of 200 leads
-- costs little more than one lead.

CREATE FUNCTION lead_was_inserted() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    WITH slot AS MATERIALIZED (
        SELECT lead_count_slot() AS slot
    ), counted AS (
        INSERT INTO lead_count AS c (tenant_id, live, slot, status, source, n)
        SELECT a.tenant_id, a.live, s.slot, a.status, a.source, count(*)
        FROM added a CROSS JOIN slot s GROUP BY a.tenant_id, a.live, s.slot, a.status, a.source
        ON CONFLICT (tenant_id, live, slot, status, source) DO UPDATE SET n = c.n + excluded.n
    ), scored AS (
        INSERT INTO lead_score (tenant_id, live, id, status_source, score, created_at)
        SELECT a.tenant_id, a.live, a.id, a.status_source, a.score, a.created_at FROM added a
    ), filed AS (
        INSERT INTO lead_search (tenant_id, live, id, status_source, score, created_at, text, keys)
        SELECT a.tenant_id, a.live, a.id, a.status_source, a.score, a.created_at, d.text, d.keys
        FROM added a CROSS JOIN LATERAL search_document(
            a.name, a.company, a.email, a.custom_fields, a.tags, a.assigned_to, a.phone,
            a.phone_e164) AS d
        RETURNING tenant_id, live, text
    ), used AS (
        SELECT DISTINCT w.tenant_id, w.live, w.word
        FROM (
            SELECT tenant_id, live, unnest(string_to_array(text, ' ')) COLLATE "C" AS word
            FROM filed
        ) AS w
        WHERE length(w.word) > 3 AND strpos(w.word, '-') = 0
          AND ltrim(w.word, '0123456789') <> ''
    )
    INSERT INTO lead_word (tenant_id, live, word)
    SELECT u.tenant_id, u.live, u.word FROM used u
    WHERE NOT EXISTS (
        SELECT FROM lead_word w
        WHERE w.tenant_id = u.tenant_id AND w.live = u.live AND w.word = u.word
          AND w.unused_since IS NULL OFFSET 0);
    RETURN NULL;
END $$;

-- Each created lead soon gets its first score, so updates that change nothing but scores are told apart
-- first. A FULL JOIN is never a nested loop: the plan is made for the first update of a session, and if that
-- has one row, a nested loop would later compare each of 200 old rows with each of 200 new ones.
CREATE FUNCTION lead_was_updated() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    is_changed boolean;
    is_rescored boolean;
BEGIN
    SELECT
        bool_or((n.status_source, n.created_at) <> (o.status_source, o.created_at)
            OR (n.name, n.company, n.email, n.custom_fields::text, n.tags, n.assigned_to, n.phone,
                n.phone_e164)
                IS DISTINCT FROM
            (o.name, o.company, o.email, o.custom_fields::text, o.tags, o.assigned_to, o.phone,
                o.phone_e164)),
        bool_or(n.score <> o.score)
    INTO is_changed, is_rescored
    FROM new_leads n FULL JOIN old_leads o
        ON o.tenant_id = n.tenant_id AND o.live = n.live AND o.id = n.id;
    IF is_changed IS NOT TRUE THEN
        IF is_rescored THEN
            UPDATE lead_search AS s SET score = n.score
            FROM new_leads n
            WHERE s.tenant_id = n.tenant_id AND s.live = n.live AND s.id = n.id
              AND s.score <> n.score;
            -- score_write_many has updated lead_score itself; another writer has not.
            IF EXISTS (SELECT FROM new_leads n WHERE NOT EXISTS (
                SELECT FROM lead_score s WHERE s.tenant_id = n.tenant_id AND s.live = n.live
                  AND s.score = n.score AND s.id = n.id OFFSET 0)) THEN
                UPDATE lead_score AS s SET score = n.score
                FROM new_leads n FULL JOIN old_leads o
                    ON o.tenant_id = n.tenant_id AND o.live = n.live AND o.id = n.id
                WHERE s.tenant_id = o.tenant_id AND s.live = o.live AND s.score = o.score
                  AND s.id = o.id AND n.score <> o.score;
            END IF;
        END IF;
        RETURN NULL;
    END IF;
    WITH compared AS MATERIALIZED (
        SELECT n.tenant_id, n.live, n.id, n.name, n.company, n.email, n.custom_fields, n.tags,
            n.assigned_to, n.phone, n.phone_e164, n.status, n.source, n.status_source, n.score, n.created_at,
            o.status AS old_status, o.source AS old_source, o.score AS old_score,
            n.status_source <> o.status_source AS moved,
            (n.status_source, n.score, n.created_at)
                <> (o.status_source, o.score, o.created_at) AS reranked,
            (n.name, n.company, n.email, n.custom_fields::text, n.tags, n.assigned_to, n.phone,
                n.phone_e164)
                IS DISTINCT FROM
            (o.name, o.company, o.email, o.custom_fields::text, o.tags, o.assigned_to, o.phone,
                o.phone_e164) AS reworded
        FROM new_leads n FULL JOIN old_leads o
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
    ), scored AS (
        UPDATE lead_score AS s
        SET status_source = c.status_source, score = c.score, created_at = c.created_at
        FROM compared c
        WHERE s.tenant_id = c.tenant_id AND s.live = c.live AND s.score = c.old_score AND s.id = c.id
          AND c.reranked
    ), ranked AS (
        UPDATE lead_search AS s
        SET status_source = c.status_source, score = c.score, created_at = c.created_at
        FROM compared c
        WHERE s.tenant_id = c.tenant_id AND s.live = c.live AND s.id = c.id
          AND c.reranked AND NOT c.reworded
    ), filed AS (
        UPDATE lead_search AS s
        SET status_source = c.status_source, score = c.score, created_at = c.created_at,
            text = d.text, keys = d.keys
        FROM compared c CROSS JOIN LATERAL search_document(
            c.name, c.company, c.email, c.custom_fields, c.tags, c.assigned_to, c.phone,
            c.phone_e164) AS d
        WHERE s.tenant_id = c.tenant_id AND s.live = c.live AND s.id = c.id AND c.reworded
        RETURNING s.tenant_id, s.live, s.text
    ), used AS (
        SELECT DISTINCT w.tenant_id, w.live, w.word
        FROM (
            SELECT tenant_id, live, unnest(string_to_array(text, ' ')) COLLATE "C" AS word
            FROM filed
        ) AS w
        WHERE length(w.word) > 3 AND strpos(w.word, '-') = 0
          AND ltrim(w.word, '0123456789') <> ''
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
    ), unscored AS (
        DELETE FROM lead_score AS s USING removed r
        WHERE s.tenant_id = r.tenant_id AND s.live = r.live AND s.score = r.score AND s.id = r.id
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

-- 3. From a question to words and patterns.

-- Whether a word is also searched as a substring: three characters and a letter, or four digits.
CREATE FUNCTION search_allows_substring(word text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN length(word) > CASE WHEN ltrim(word, '0123456789') = '' THEN 3 ELSE 2 END;

-- A parsed question: its words, and LIKE patterns for the text of a lead. A text that is LIKE ALL of
-- whole_patterns contains every word. LIKE ALL of prefix_patterns: for each word the text has a word
-- that begins with it; LIKE ALL of substring_patterns: a word that contains it. Folded words
-- consist of letters and digits, so they contain nothing that is special to LIKE or tsquery. A single
-- letter matches only as a whole word. Words of two letters and numbers match as prefixes too.
-- Substrings are searched for the first eight words of a question.
-- unspaced: the words of unspaced scripts, which are not in words. A lone syllable is in so many leads that
-- the index is asked for it only if the question has no other words: for two of them. In patterns `_`
-- joins their syllables: a hyphen or a space in the text.
-- digits: those of a question that may be a phone number; null: it is none.
CREATE TYPE search_question AS (
    words text[], unspaced text[],
    whole_patterns text[], prefix_patterns text[], substring_patterns text[], digits text);

-- The digits of a question that may be a phone number, without an extension; null: it is none.
CREATE FUNCTION search_question_digits(asked text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    digits text;
BEGIN
    IF asked ~ '[0-9]|[^\x01-\x7f]' THEN
        digits := replace(substring(search_fold(asked) FROM
            '^ *(?:tel +)?([0-9][0-9 ]*?) *(?:(?:x|ext) *[0-9]*)? *$'), ' ', '');
    END IF;
    RETURN CASE WHEN length(digits) BETWEEN 5 AND 24 THEN digits END;
END $$;

-- What the digits of a question may be: a number without country code (null: any), and, unless they begin with
-- one zero, a number with country code. With 8 digits and more, the code may also be unknown (''): a
-- lead may have the number without it. The Russian trunk prefix is 8: 8 and 10 digits = +7 and 10 digits.
CREATE FUNCTION search_phone_readings(digits text)
RETURNS TABLE (number text, country_code text) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT r.number, r.country_code
    FROM (
        SELECT ltrim(digits, '0') AS stripped,
            search_country_code_length(ltrim(digits, '0')) AS code_length
    ) AS d
    CROSS JOIN LATERAL (VALUES
        (d.stripped, NULL, true),
        (ltrim(substr(d.stripped, d.code_length + 1), '0'), left(d.stripped, d.code_length),
            digits !~ '^0[^0]'),
        (ltrim(substr(d.stripped, d.code_length + 1), '0'), '',
            digits !~ '^0[^0]' AND length(d.stripped) > 7),
        (substr(d.stripped, 2), '7', digits ~ '^8[0-9]{10}$'),
        (substr(d.stripped, 2), '', digits ~ '^8[0-9]{10}$'),
        ('8' || substr(d.stripped, 2), '', digits ~ '^7[0-9]{10}$')
    ) AS r (number, country_code, is_possible)
    WHERE r.is_possible AND length(r.number) > 2;
$$;

-- Patterns for the keys of a lead with the phone number, whole or as a prefix; one of them must match.
CREATE FUNCTION search_phone_patterns(digits text, is_whole boolean) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN digits IS NULL THEN '{}' ELSE ARRAY(
    SELECT E'%\x01+' || r.number || CASE WHEN is_whole THEN '' ELSE '%' END || '.'
        || coalesce(r.country_code || E'\x01', '%')
    FROM search_phone_readings(digits) AS r) END;

CREATE FUNCTION search_question_parse(asked text) RETURNS search_question
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT ROW(
        coalesce(array_agg(q.word ORDER BY q.n) FILTER (WHERE NOT q.is_unspaced), '{}'),
        coalesce(
            array_agg(q.word ORDER BY q.n) FILTER (WHERE q.is_unspaced AND length(q.word) > 1),
            CASE WHEN bool_and(q.is_unspaced) THEN (array_agg(q.word ORDER BY q.n))[:2] END, '{}'),
        coalesce(array_agg('% ' || q.pattern || ' %' ORDER BY q.n), '{}'),
        coalesce(array_agg('% ' || q.pattern || CASE
            WHEN length(q.word) > 1 OR q.is_unspaced THEN '%' ELSE ' %' END ORDER BY q.n), '{}'),
        coalesce(array_agg(CASE
            WHEN q.is_unspaced OR q.n <= 8 AND search_allows_substring(q.word)
                THEN '%' || q.pattern || '%'
            WHEN length(q.word) > 1 THEN '% ' || q.word || '%' ELSE '% ' || q.word || ' %' END
            ORDER BY q.n), '{}'),
        search_question_digits(asked)
    )::search_question
    FROM (
        SELECT w.word, row_number() OVER (ORDER BY min(w.at)) AS n,
            replace(w.word, '-', '_') AS pattern,
            w.word ~ ('[' || search_unspaced() || ']') AS is_unspaced
        FROM string_to_table(search_fold(replace(asked, E'\x01', ' ')), ' ')
            WITH ORDINALITY AS w (word, at)
        WHERE w.word <> '' GROUP BY w.word
    ) AS q);

-- All words that differ from the given word by one typo: one letter missing, added, changed, or swapped
-- with the next. The letters that are tried are those of the word's script.
CREATE FUNCTION search_word_typos(word text) RETURNS SETOF text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    WITH split AS (
        SELECT left(word, at) AS head, substr(word, at + 1) AS tail
        FROM generate_series(0, length(word)) AS at
    ), letter AS (
        SELECT string_to_table(CASE
            WHEN word ~ '[a-z]' THEN 'abcdefghijklmnopqrstuvwxyz0123456789'
            WHEN word ~ '[а-я]' THEN 'абвгдежзиклмнопрстуфхцчшщъыьэюя'
            WHEN word ~ '[α-ω]' THEN 'αβγδεζηθικλμνξοπρστυφχψω'
            WHEN word ~ '[\u05d0-\u05ea]' THEN
                U&'\05d0\05d1\05d2\05d3\05d4\05d5\05d6\05d7\05d8\05d9\05db\05dc\05de\05e0\05e1\05e2'
                '\05e4\05e6\05e7\05e8\05e9\05ea'
            WHEN word ~ '[\u0627-\u064a]' THEN
                U&'\0627\0628\062a\062b\062c\062d\062e\062f\0630\0631\0632\0633\0634\0635\0636\0637'
                '\0638\0639\063a\0641\0642\0643\0644\0645\0646\0647\0648\064a\067e\0686\0698\06af'
        END, NULL) AS letter
    )
    SELECT head || substr(tail, 2) FROM split WHERE tail <> ''
    UNION SELECT head || substr(tail, 2, 1) || left(tail, 1) || substr(tail, 3)
        FROM split WHERE length(tail) > 1
    UNION SELECT head || letter || tail FROM split, letter
    UNION SELECT head || letter || substr(tail, 2) FROM split, letter WHERE tail <> ''
    EXCEPT SELECT word
$$;

-- The same for a word of an unspaced script with 4 to 12 syllables: one syllable too many, or two swapped.
CREATE FUNCTION search_unspaced_typos(word text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(
    SELECT array_to_string(string_to_array(t.typo, NULL), '-')
    FROM search_word_typos(replace(word, '-', '')) AS t (typo) WHERE length(word) BETWEEN 7 AND 23);

-- 4. From words of a question to words of the lexicon and keys of the index.

-- Up to `most` words of the lexicon that contain `part`, in order.
CREATE FUNCTION search_words_containing(tenant bigint, is_live boolean, part text, most integer)
RETURNS text[] LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
BEGIN
    RETURN ARRAY(SELECT DISTINCT w.word FROM (
        SELECT word FROM lead_word
        WHERE tenant_id * 2 + live::integer = tenant * 2 + is_live::integer
          AND word LIKE '%' || part || '%' AND unused_since IS NULL
        LIMIT most) AS w ORDER BY w.word);
END $$;

-- The words of the lexicon that differ from the given word by one typo. Words of three letters are not
-- in the lexicon, so all variants with three letters are returned.
CREATE FUNCTION search_words_one_typo_away(tenant bigint, is_live boolean, asked text)
RETURNS text[] LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
BEGIN
    RETURN ARRAY(SELECT t.word FROM search_word_typos(asked) AS t (word)
        WHERE length(t.word) = 3 OR EXISTS (
            SELECT FROM lead_word w
            WHERE w.tenant_id = tenant AND w.live = is_live AND w.word = t.word OFFSET 0));
END $$;

-- All keys with a prefix, as a tsquery. If the lexicon holds few words with the prefix, they are listed
-- one by one: PostgreSQL can then skip through their posting lists. For a prefix key it reads the whole
-- lists.
CREATE FUNCTION search_prefix_keys(tenant bigint, is_live boolean, asked text)
RETURNS text LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
DECLARE
    few CONSTANT integer := 64;
    found text[];
BEGIN
    IF length(asked) < 4 OR ltrim(asked, '0123456789') = '' THEN  -- such words are not in the lexicon
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

-- The keys of a word of an unspaced script, as a tsquery: for each syllable and the next one, whether they
-- begin a word or not; with is_prefix the first must begin one. LIKE on the text checks their order, and
-- what is behind 16 syllables.
CREATE FUNCTION search_syllable_keys(
    tenant bigint, is_live boolean, asked text, is_prefix boolean)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT string_agg('(' || search_key(tenant, is_live, k.pair, false) || k.rest
        || CASE WHEN is_prefix AND k.at = 1 THEN ''
            ELSE '|' || search_key(tenant, is_live, '-' || k.pair, false) || k.rest END || ')', '&')
    FROM (
        SELECT s.at, s.syllable || coalesce(lead(s.syllable) OVER following, '') AS pair,
            CASE WHEN count(*) OVER () = 1 THEN ':*' ELSE '' END AS rest,
            s.at > 1 AND lead(s.at) OVER following IS NULL AS is_last
        FROM string_to_table(asked, '-') WITH ORDINALITY AS s (syllable, at)
        WINDOW following AS (ORDER BY s.at)
    ) AS k WHERE k.at <= 16 AND NOT k.is_last);

-- The filters of a list by tag, assignee and custom fields, as a tsquery. The keys are written and cut
-- like those of search_document.
CREATE FUNCTION search_filters(
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

-- 5. The tiers.

-- Tiers 0 and 1: up to `most` leads whose best tier is wanted_tier (null: 0 or 1).
CREATE FUNCTION search_find_prefix(
    tenant bigint, is_live boolean, question search_question, wanted_status_sources smallint[],
    wanted_tier integer, most bigint)
RETURNS TABLE (id text, score smallint, tier smallint)
LANGUAGE plpgsql STABLE ROWS 1000 SET enable_seqscan = off AS $$
DECLARE
    -- Whether the index finds nothing but prefixes. It finds words of unspaced scripts anywhere, and
    -- phone numbers of any country.
    is_exact CONSTANT boolean := question.digits IS NULL
        AND cardinality(question.words) = cardinality(question.whole_patterns);
    is_whole CONSTANT boolean := wanted_tier IS NOT DISTINCT FROM 0;
    whole_patterns CONSTANT text[] := question.whole_patterns;  -- a field would be extracted for each row
    keys text;
    query tsquery;
BEGIN
    SELECT string_agg(CASE
        WHEN is_whole THEN search_key(tenant, is_live, w, false)
        ELSE search_prefix_keys(tenant, is_live, w) END, '&')
    INTO keys FROM unnest(question.words) AS w;
    IF question.unspaced <> '{}' THEN
        keys := concat_ws('&', keys, (
            SELECT string_agg(search_syllable_keys(tenant, is_live, w, true), '&')
            FROM unnest(question.unspaced) AS w));
    END IF;
    IF question.digits IS NOT NULL THEN
        keys := concat_ws('|', keys, search_key(tenant, is_live, question.digits, NOT is_whole), (
            SELECT string_agg(DISTINCT format(CASE WHEN is_whole THEN '''%s%s+%s.'':*' ELSE '''%s%s+%s'':*' END,
                tenant, CASE WHEN is_live THEN 'l' ELSE 't' END, number), '|')
            FROM search_phone_readings(question.digits)));
    END IF;
    query := keys;
    RETURN QUERY SELECT f.id, f.score, f.tier FROM (
        SELECT s.id, s.score, CASE
            WHEN s.text LIKE ALL (whole_patterns) THEN 0
            WHEN is_exact THEN 1
            WHEN question.digits IS NOT NULL AND (s.text LIKE '% ' || question.digits || ' %'
                OR s.keys LIKE ANY (search_phone_patterns(question.digits, true))) THEN 0
            WHEN s.text LIKE ALL (question.prefix_patterns) THEN 1
            WHEN question.digits IS NOT NULL AND (s.text LIKE '% ' || question.digits || '%'
                OR s.keys LIKE ANY (search_phone_patterns(question.digits, false))) THEN 1
            ELSE 2 END::smallint AS tier
        FROM lead_search s
        WHERE s.tenant_id = tenant AND s.live = is_live
          AND search_tokens(s.tenant_id, s.live, s.text, s.keys) @@ query
          AND (wanted_status_sources IS NULL OR s.status_source = ANY (wanted_status_sources))
    ) AS f
    -- The tier is computed again for each mention, so first what needs none.
    WHERE (is_exact AND wanted_tier IS NULL) OR f.tier = wanted_tier
       OR (wanted_tier IS NULL AND f.tier < 2) LIMIT most;
END $$;

-- Tier 2: up to `most` leads that contain every word, at least one of them only as a substring.
--
-- The driving word is the word of the question that the fewest lexicon words contain. These lexicon
-- words are looked up in order, `few` at a time, because PostgreSQL compares every key of a tsquery with
-- every hit. Another word of the question becomes a condition of the same tsquery if few lexicon words
-- contain it; if the driving word has few keys, one other word may have more. LIKE on the text checks
-- all words. A lead that contains several of the driving lexicon words is returned for the first.
CREATE FUNCTION search_find_substring(
    tenant bigint, is_live boolean, question search_question, wanted_status_sources smallint[],
    most bigint)
RETURNS TABLE (id text, score smallint, tier smallint)
LANGUAGE plpgsql STABLE ROWS 1000 SET enable_seqscan = off AS $$
DECLARE
    few CONSTANT integer := 64;
    most_words CONSTANT integer := 40000;
    word text;
    containing text[];
    driving_word text;
    driving_words text[];
    has_unspaced CONSTANT boolean := cardinality(question.words) < cardinality(question.whole_patterns);
    has_substring boolean := has_unspaced;
    is_number boolean;
    conditions text := '';
    keys text;
    query tsquery;
    found bigint := 0;
    taken bigint;
    most_alternatives integer;
BEGIN
    FOREACH word IN ARRAY question.words LOOP
        CONTINUE WHEN NOT '%' || word || '%' = ANY (question.substring_patterns);
        containing := search_words_containing(tenant, is_live, word, most_words);
        IF ltrim(word, '0123456789') = '' AND cardinality(question.whole_patterns) > 1 THEN
            has_substring := has_substring  -- a number is not in the lexicon, so it is no driving word
                OR EXISTS (SELECT FROM unnest(containing) AS w WHERE NOT starts_with(w, word));
            CONTINUE;
        END IF;
        IF length(word) = 3 AND cardinality(question.whole_patterns) > 1 THEN  -- not in the lexicon
            containing := ARRAY(SELECT w FROM unnest(word || containing) AS w ORDER BY w COLLATE "C");
        END IF;
        has_substring := has_substring OR cardinality(containing) = most_words
            OR EXISTS (SELECT FROM unnest(containing) AS w WHERE NOT starts_with(w, word));
        IF driving_words IS NULL OR cardinality(containing) < cardinality(driving_words) THEN
            driving_word := word;
            driving_words := containing;
        END IF;
    END LOOP;
    IF driving_words = '{}' OR NOT has_substring THEN
        RETURN;
    END IF;
    driving_words := coalesce(driving_words, '{NULL}');  -- one search, by the conditions alone
    FOREACH word IN ARRAY question.unspaced LOOP
        conditions := conditions || '&' || search_syllable_keys(tenant, is_live, word, false);
    END LOOP;
    most_alternatives := CASE WHEN cardinality(driving_words) <= few THEN 512 ELSE few END;
    FOREACH word IN ARRAY question.words LOOP
        CONTINUE WHEN word = driving_word;
        IF '%' || word || '%' = ANY (question.substring_patterns) THEN
            containing := search_words_containing(tenant, is_live, word, most_alternatives);
            is_number := ltrim(word, '0123456789') = '';
            CONTINUE WHEN cardinality(containing) = most_alternatives
                AND (NOT is_number OR driving_word IS NOT NULL);
            conditions := conditions || '&(' || search_key(tenant, is_live, word, is_number) || coalesce((
                SELECT '|' || string_agg(search_key(tenant, is_live, w, false), '|')
                FROM unnest(containing) AS w), '') || ')';
            most_alternatives := CASE
                WHEN cardinality(containing) > few THEN few ELSE most_alternatives END;
        ELSE
            keys := search_prefix_keys(tenant, is_live, word);
            conditions := conditions || CASE
                WHEN cardinality(driving_words) > few AND keys LIKE '%:*' THEN ''
                ELSE '&' || keys END;
        END IF;
    END LOOP;
    IF cardinality(question.words) = 1 AND NOT has_unspaced THEN
        driving_words := ARRAY(
            SELECT w FROM unnest(driving_words) AS w WHERE NOT starts_with(w, driving_word));
    END IF;
    FOR at IN 1..cardinality(driving_words) BY few LOOP
        containing := driving_words[at : at + few - 1];
        SELECT coalesce('(' || string_agg(search_key(tenant, is_live, w, false), '|') || ')'
            || conditions, substr(conditions, 2))
        INTO query FROM unnest(containing) AS w;
        RETURN QUERY SELECT s.id, s.score, 2::smallint
        FROM lead_search s
        WHERE s.tenant_id = tenant AND s.live = is_live
          AND search_tokens(s.tenant_id, s.live, s.text, s.keys) @@ query
          AND (wanted_status_sources IS NULL OR s.status_source = ANY (wanted_status_sources))
          AND s.text LIKE ALL (question.substring_patterns)
          AND NOT s.text LIKE ALL (question.prefix_patterns)
          AND (question.digits IS NULL OR NOT (s.text LIKE '% ' || question.digits || '%'
              OR s.keys LIKE ANY (search_phone_patterns(question.digits, false))))
          AND (cardinality(driving_words) <= few OR containing[1] <= (
              SELECT min(w.word COLLATE "C") FROM string_to_table(s.text, ' ') AS w (word)
              WHERE w.word LIKE '%' || driving_word || '%'))
        LIMIT most - found;
        GET DIAGNOSTICS taken = ROW_COUNT;
        found := found + taken;
        EXIT WHEN found >= most;
    END LOOP;
END $$;

-- Tier 3: up to `most` leads that contain every word only if one typo is allowed in each. variants: the
-- words of the lexicon that were tried as typos.
CREATE FUNCTION search_find_typo(
    tenant bigint, is_live boolean, question search_question, wanted_status_sources smallint[],
    most bigint)
RETURNS TABLE (id text, score smallint, tier smallint, variants text[])
LANGUAGE plpgsql STABLE ROWS 100 SET enable_seqscan = off AS $$
DECLARE
    few CONSTANT integer := 64;
    word text;
    containing text[];
    variants text[];
    all_variants text[] := '{}';
    alternatives text[] := '{}';  -- of each unspaced word: its patterns, separated by |
    query text := '';
BEGIN
    FOREACH word IN ARRAY question.unspaced LOOP
        variants := search_unspaced_typos(word);
        all_variants := all_variants || variants;
        alternatives := alternatives || concat_ws('|', '%' || replace(word, '-', '_') || '%',
            '% ' || nullif(array_to_string(variants, ' %|% '), '') || ' %');
        query := query || '&(' || (
            SELECT string_agg(search_syllable_keys(tenant, is_live, w, false), '|')
            FROM unnest(word || variants) AS w) || ')';
    END LOOP;
    FOREACH word IN ARRAY question.words LOOP
        containing := '{}';
        variants := '{}';
        IF '%' || word || '%' = ANY (question.substring_patterns) THEN
            containing := search_words_containing(tenant, is_live, word, few);
        END IF;
        IF length(word) BETWEEN 4 AND 40 AND ltrim(word, '0123456789') <> '' THEN
            variants := search_words_one_typo_away(tenant, is_live, word);
            all_variants := all_variants || variants;
        END IF;
        query := query || '&(' || search_key(tenant, is_live, word, true) || coalesce((
            SELECT '|' || string_agg(search_key(tenant, is_live, w, false), '|')
            FROM unnest(containing || variants) AS w), '') || ')';
    END LOOP;
    IF all_variants = '{}' THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT s.id, s.score, 3::smallint, all_variants
    FROM lead_search s
    WHERE s.tenant_id = tenant AND s.live = is_live
      AND search_tokens(s.tenant_id, s.live, s.text, s.keys) @@ substr(query, 2)::tsquery
      AND (wanted_status_sources IS NULL OR s.status_source = ANY (wanted_status_sources))
      AND NOT s.text LIKE ALL (question.substring_patterns)
      AND NOT EXISTS (SELECT FROM unnest(alternatives) AS a (patterns)
        WHERE NOT s.text LIKE ANY (string_to_array(a.patterns, '|')))
    LIMIT most;
END $$;

-- 6. The hit as the API returns it.

-- The field with the best match: first the tier in which it holds all words of the question, then the
-- tier of any word. Among equal matches the first of name, company, email, the custom fields in their
-- order, and phone. variants: words that match as typos; a field holds all words but for typos if it has
-- at least as many variants as words that it lacks. If the lead has the number that the words of the
-- question are, the single words do not count.
CREATE FUNCTION search_match_field(
    text text, keys text, custom_fields json, question search_question, variants text[])
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    fields CONSTANT text[] := string_to_array(text, E'\x01');
    digits CONSTANT text := question.digits;
    is_phone CONSTANT boolean := digits IS NOT NULL
        AND keys LIKE ANY (search_phone_patterns(digits, false));
    is_number CONSTANT boolean := is_phone OR digits IS NOT NULL AND text LIKE '% ' || digits || '%';
    has_several CONSTANT boolean := cardinality(question.whole_patterns) > 1;
    best integer := 8;
    tier integer;
    matched integer;
BEGIN
    FOR at IN 1..coalesce(cardinality(fields), 0) LOOP
        tier := CASE
            WHEN is_number THEN CASE WHEN fields[at] LIKE '% ' || digits || ' %' THEN 0
                WHEN fields[at] LIKE '% ' || digits || '%' THEN 1 ELSE 8 END
            WHEN fields[at] LIKE ALL (question.whole_patterns) THEN 0
            WHEN fields[at] LIKE ALL (question.prefix_patterns) THEN 1
            WHEN fields[at] LIKE ALL (question.substring_patterns) THEN 2
            WHEN NOT has_several THEN 8
            WHEN fields[at] LIKE ANY (question.whole_patterns) THEN 4
            WHEN fields[at] LIKE ANY (question.prefix_patterns) THEN 5
            WHEN fields[at] LIKE ANY (question.substring_patterns) THEN 6
            WHEN string_to_array(fields[at], ' ') && variants THEN 7 ELSE 8 END;
        IF tier > 3 AND variants IS NOT NULL AND NOT is_number THEN  -- apart: a subquery makes CASE slow
            IF (SELECT count(*) FROM unnest(question.substring_patterns) AS p WHERE NOT fields[at] LIKE p)
                <= (SELECT count(*) FROM unnest(variants) AS v
                    WHERE strpos(fields[at], ' ' || v || ' ') > 0) THEN
                tier := 3;
            END IF;
        END IF;
        IF tier < best THEN
            best := tier;
            matched := at;
            EXIT WHEN best = 0;
        END IF;
    END LOOP;
    IF is_phone AND (best > 1 OR best > 0 AND keys LIKE ANY (search_phone_patterns(digits, true))) THEN
        RETURN 'phone';
    END IF;
    RETURN CASE matched WHEN 1 THEN 'name' WHEN 2 THEN 'company' WHEN 3 THEN 'email' ELSE (
        SELECT 'customFields.' || k.key
        FROM json_object_keys(custom_fields) WITH ORDINALITY AS k (key, at)
        WHERE k.at = matched - 3) END;
END $$;

CREATE TYPE lead_hit_on_wire AS (
    "id" text, "email" text, "name" text, "company" text, "status" text, "score" smallint,
    "matchField" text, "lastActiveAt" text
);

CREATE FUNCTION lead_hit_json(l lead, match_field text) RETURNS json
LANGUAGE sql STABLE PARALLEL SAFE
RETURN row_to_json(ROW(
    l.id, l.email, l.name, l.company, l.status, l.score, match_field,
    iso_ms(l.last_active_at))::lead_hit_on_wire);

-- 7. Maintenance.

-- One row: the word of the lexicon that the sweep has reached.
CREATE TABLE lead_word_sweep (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tenant_id  bigint NOT NULL DEFAULT 0,
    live       boolean NOT NULL DEFAULT false,
    word       text COLLATE "C" NOT NULL DEFAULT '',
    at         timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 20);

INSERT INTO lead_word_sweep DEFAULT VALUES;

-- Moves the entries that writers left in the pending lists of the GIN indexes into the indexes, so that
-- no writer has to do it and no search has to read the lists. Returns the number of pages. Only the
-- owner of an index may do this, so the function runs as its owner.
CREATE FUNCTION lead_search_clean_pending() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT
RETURN gin_clean_pending_list('lead_search_tokens') + gin_clean_pending_list('lead_word_by_part');

-- Checks the next words of a tenant and mode. A word that no lead contains is marked; a word that was
-- marked an hour ago is deleted. A writer inserts a marked word again; a writer that read the word
-- before it was marked has committed within the hour, so its lead is found here. Returns the last word
-- checked; null: there are no more.
CREATE FUNCTION lead_word_delete_unused(
    tenant bigint, is_live boolean, beyond text, most integer)
RETURNS text LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    one record;
    last text;
    is_used boolean;
BEGIN
    FOR one IN
        SELECT w.word, array_agg(w.ctid) AS row_ids, min(w.unused_since) AS unused_since
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
            WHERE tenant_id = tenant AND live = is_live AND ctid = ANY (one.row_ids);
        ELSIF NOT is_used AND one.unused_since < now() - interval '1 hour' THEN
            DELETE FROM lead_word
            WHERE tenant_id = tenant AND live = is_live AND ctid = ANY (one.row_ids)
              AND unused_since < now() - interval '1 hour';
        ELSIF NOT is_used THEN
            UPDATE lead_word SET unused_since = now()
            WHERE tenant_id = tenant AND live = is_live AND ctid = ANY (one.row_ids)
              AND unused_since IS NULL;
        END IF;
    END LOOP;
    RETURN last;
END $$;
