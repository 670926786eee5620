"""Fills a database with plausible leads, the same ones every time, inside PostgreSQL.

Lead n has the id `lead_01J` and n in 23 digits, so that a load script can name any of them. In a
million leads a word of FEW is in about a thousand, a word of MANY in 50,000 and more. Every other
lead has a second surname. The number of different second surnames grows with the number of leads,
as in real tables: a million leads have 50,000, each of them in some ten leads.
"""

from math import isqrt

from service.database.connect import Connection

BATCH = 20_000


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST = _words(
    "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Barbara "
    "Richard Susan Joseph Jessica Thomas Sarah Carlos Maria Christopher Karen Daniel Lisa Matthew "
    "Nancy Anthony Betty Mark Sandra Jürgen Søren Zoë François Ángela Łukasz Иван Ольга Δημήτρης "
    "伟 敏 静 さくら 健太 محمد فاطمة Noa Yael Aarav Priya Ngọc Minh"
)
LAST_BEGINS = _words(
    "Ander Berg Carl Dahl Eck Falk Gold Hart Isen Jost Kron Lind Mark Nord Oster Pfeil Quist Rosen "
    "Stein Thal Ulm Vogel Wald Zimmer Alder Brook Crane Dun Elling Fair Green Hazel Kings Lang "
    "Marl Ox"
)
LAST_ENDS = _words(
    "son mann ström feld wood ley ton ford ham bach er quist gren holm by worth stad hurst mere "
    "dale croft field burn low ridge well shaw cote grove land"
)
COMPANY_BEGINS = _words(
    "Acme Globex Initech Umbrella Stark Hooli Vandelay Soylent Nova Delta Blue Bright Quantum "
    "Cloud Logic Micro Omni Trans Euro Pacific Atlantic Summit Pioneer Apex Vertex Zenith North "
    "South River Stone"
)
COMPANY_ENDS = (
    *("Solutions",) * 8, *("Systems",) * 7, *("Partners",) * 6,
    *("Labs", "Group", "Logistics", "Health", "Foods", "Energy", "Media", "Robotics", "Analytics"),
    *("Software", "Security", "Networks", "Capital", "Motors", "Studios", "Textiles", "Pharma"),
    *("Optics", "Shipping", "Airways", "Chemicals", "Insurance", "Hotels", "Farms", "Mining"),
)  # fmt: skip
SYLLABLES = _words(
    "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu bra cle dri flo gru pha ske kni "
    "lou mai nea pei rio sau tei vau wha qui yve zoi"
)
TITLES = ("CEO", "CTO", "VP of Sales", "Head of Marketing", "Founder", "Buyer", "Leiterin Vertrieb",
          "営業部長", "Account Manager", "Software Engineer")  # fmt: skip
FREE_MAIL = ("gmail.com", "outlook.com", "web.de", "yahoo.co.jp")
FEW = tuple(f"{begin}{end}".lower() for begin, end in zip(LAST_BEGINS, LAST_ENDS, strict=False))
MANY = ("solutions", "systems", "partners")


def count_rare(leads: int) -> int:
    """The number of different second surnames in a table of `leads` leads."""
    return 50 * isqrt(leads)


def pick_rare(leads: int, count: int) -> list[str]:
    """`count` of the second surnames, evenly spread."""
    step = count_rare(leads) // count
    return [spell_rare(number * step) for number in range(1, count + 1)]


def spell_rare(number: int) -> str:
    """The second surname of a number, as _LEADS spells it: four syllables, no two numbers alike."""
    scattered = number * 1_234_567 % 40**4
    return "".join(SYLLABLES[scattered // 40**place % 40] for place in range(4))


_LEADS = """
INSERT INTO lead (
    tenant_id, live, id, email, email_key, name, company, title, phone, status, source, tags,
    custom_fields, assigned_to, score, first_seen_at, last_active_at, created_at, updated_at)
SELECT $1::bigint, true, 'lead_01J' || lpad(n::text, 23, '0'), m.email, m.email,
    m.first || ' ' || m.last || m.rare, m.company, ($8::text[])[1 + d[5] % cardinality($8::text[])],
    '+1-555-' || lpad((d[6] % 10000)::text, 4, '0'),
    (ARRAY['new', 'new', 'new', 'qualified', 'contacted', 'converted', 'lost'])[1 + d[7] % 7],
    (ARRAY['api', 'api', 'chat', 'form', 'import'])[1 + d[8] % 5],
    (ARRAY['{}', '{inbound}', '{inbound,startup}', '{enterprise,trial,newsletter}'
        ])[1 + d[9] % 4]::text[],
    format('{"industry":"%s","teamSize":"%s"}',
        (ARRAY['SaaS', 'FinTech', 'Logistics', 'Health', 'Retail'])[1 + d[10] % 5],
        (ARRAY['1-9', '10-25', '50-100', '500+'])[1 + d[11] % 4])::json,
    CASE WHEN d[12] % 3 = 0 THEN 'user_' || d[12] % 40 END,
    least(d[13] % 101, d[14] % 101), m.at, m.later, m.at, m.later
FROM generate_series($2::bigint, $3::bigint) AS n
CROSS JOIN LATERAL (
    -- Numbers that look random and are the same in every run.
    SELECT array_agg(hashint8extended(n, seed) & 2147483647 ORDER BY seed) AS d
    FROM generate_series(1, 17) AS seed
) AS dice
CROSS JOIN LATERAL (
    SELECT ($4::text[])[1 + d[1] % cardinality($4::text[])] AS first,
        ($5::text[])[1 + d[2] % cardinality($5::text[])]
            || ($6::text[])[1 + d[3] % cardinality($6::text[])] AS last,
        CASE WHEN d[14] % 2 = 0 THEN (
            SELECT '-' || initcap(string_agg(($12::text[])[
                1 + d[17] % $11::bigint * 1234567 % 2560000 / (40 ^ place)::integer % 40
                ], '' ORDER BY place))
            FROM generate_series(0, 3) AS place) ELSE '' END AS rare,
        ($7::text[])[1 + d[4] % cardinality($7::text[])] AS company,
        date_trunc('milliseconds',
            now() - interval '700 days' * (1 - n::double precision / $10::bigint)) AS at,
        ($9::text[])[1 + d[15] % cardinality($9::text[])] AS free
) AS drawn
CROSS JOIN LATERAL (
    SELECT first, last, rare, company, at,
        date_trunc('milliseconds', at + (now() - at) * ((d[16] % 1000) / 1000.0)) AS later,
        translate(lower(last), 'ö', 'o') || '.' || n || '@' || CASE WHEN d[16] % 5 < 2 THEN free
            ELSE replace(lower(company), ' ', '') || '.com' END AS email
) AS m
"""
_TIMELINE = """
INSERT INTO timeline (tenant_id, live, lead_id, version, event_id, type, at, summary, actor)
SELECT tenant_id, live, id, 1, 'evt_' || substr(id, 6), 'lead.created', created_at,
    'Lead created', 'key_bench'
FROM lead WHERE tenant_id = $1 ORDER BY id
"""


async def fill_leads(conn: Connection, tenant_id: int, count: int) -> None:
    """Inserts `count` leads of a tenant in live mode, each with its first timeline entry."""
    companies = [f"{begin} {end}" for begin in COMPANY_BEGINS for end in COMPANY_ENDS]
    for first in range(1, count + 1, BATCH):
        last = min(first + BATCH - 1, count)
        await conn.execute(
            _LEADS, tenant_id, first, last, FIRST, LAST_BEGINS, LAST_ENDS, companies, TITLES,
            FREE_MAIL, count, count_rare(count), SYLLABLES, timeout=300,
        )  # fmt: skip
    await conn.execute(_TIMELINE, tenant_id, timeout=300)
    # Brings statistics, visibility maps and indexes to their state after hours without writes.
    await conn.execute("VACUUM (ANALYZE)", timeout=600)
