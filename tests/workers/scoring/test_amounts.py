"""Budgets and team sizes in the notations of many languages.

A table has lines of "text = dollars a year", or people; "-" is no amount.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.scoring.amounts import parse_number, parse_yearly_sum

BUDGETS = {
    "english": """
        $5k-$10k/mo = 60000; $10k+/mo = 120000; $1,000 per week = 52000; 100k p.a. = 100000
        $5,000.00 = 5000; USD 10K/month = 120000; 50K$/yr = 50000; 2MUSD = 2e6; $.5M = 500000
        $5k to $10k = 5000; between 5 and 10k = 5000; up to 50k = 50000; under $10k = 10000
        <10k = 10000; >100k = 100000; 100k+ = 100000; ~50k = 50000; 50k max = 50000; $5-10k = 5000
        20k per quarter = 80000; $100 daily = 36500; £20k pcm = 240000; $5k/m = 60000
        half a million = 500000; a million dollars = 1e6; one million = 1e6; $1.125M = 1.125e6
        twenty five thousand = 25000; 2 hundred thousand = 200000; 1½ million = 1.5e6; $2bn = 2e9
        A$ 15k = 10000; $15k AUD = 10000; MXN $20,000 = 1000; 10,000 US Dollars = 10000
        1,234,567 = 1234567; 1_000_000 = 1e6; 10% of 1M = 100000; 120k/yr (10k/mo) = 120000
        2 projects at 50k each = 50000; 3 seats, $5k = 5000; 50k over 6 months = 50000
        next month 50k = 50000; 5000 month = 60000; 0-10k = 10000""",
    "german": """
        10.000,00 € = 10000; € 20.000 = 20000; 3.000,50 € monatlich = 36000; 1,2 Mio. € = 1.2e6
        €1.2 Mrd = 1.2e9; 10–20 Tsd. € = 10000; TEUR 50 = 50000; 50 TEUR p.a. = 50000
        k€ 50 = 50000; T€ 50 = 50000; T€50 = 50000; 50 T€ = 50000; 5.000 €/Mon. = 60000
        20'000.- = 20000; CHF 1’500’000.– = 1.5e6; 20.000,- € = 20000; 5k pro Monat = 60000
        10k pro Jahr = 10000; von 5 bis 10 Tsd. Euro = 5000; 1,5 Millionen = 1.5e6""",
    "romance": """
        1 000 000 € = 1e6; 1 000 000 = 1e6; 5 000 - 10 000 € = 5000; 5 à 10 k€ = 5000
        5k€ par mois = 60000; 12 500,50 € = 12500; 1.000.000 = 1e6; $1,5M = 1.5e6; 2 M€ = 2e6
        entre 5 y 10 mil = 5000; 1 mil = 1000; R$ 10 mil/mês = 24000; R$ 50 mil = 10000
        R$50.000,00 = 10000; R$ 1,5 milhão = 300000; 2 millones de pesos = 100000
        20 mila euro = 20000; 1000 euros mensuales = 12000""",
    "slavic": """
        750 тыс. руб. = 8333.33; 50 т.р. = 555.56; 500к = 500000; 1 млрд = 1e9; $5к = 5000
        100 тыс. ₽ в месяц = 13333.33; от 5 до 10 тыс = 5000; 10 tys. zł = 2500
        500 тис. грн = 12500; 500 тисяч гривень = 12500; 2 мільйони гривень = 50000
        50 tys zł miesięcznie = 150000; 50 000 Kč = 2272.73; 50 000 грн = 1250""",
    "japanese": """
        100万円 = 6666.67; １００万円 = 6666.67; ５万 = 50000; 百万円 = 6666.67; 五十万 = 500000
        三億 = 3e8; 1億2000万円 = 800000; 2億5,000万 = 2.5e8; １．５億円 = 1e6; 3百万円 = 20000
        百二十三万四千円 = 8226.67; 一〇〇万円 = 6666.67; 12万5,000円 = 833.33
        100百万円 = 666666.67
        5–10万円 = 333.33; 5万〜10万円 = 333.33; 5万から10万円 = 333.33
        予算は100万円です = 6666.67
        予算（万円）: 50 = 3333.33; 100万ドル = 1e6; 50万ユーロ = 500000; 月額50万円 = 40000
        毎月50万円 = 40000; 50万円/月×12ヶ月 = 40000; 1ヶ月50万円 = 40000; 年間100万円 = 6666.67
        6ヶ月で300万円 = 20000; 来月100万円 = 6666.67; 2026年4月から100万円 = 6666.67
        初期費用100万円、月額5万円 = 6666.67; 月額5万円、初期費用100万円 = 4000
        第3四半期 100万円 = 6666.67; ¥15,000,000 = 100000; ￥５００万 = 33333.33""",
    "chinese": """
        70万元 = 100000; 两百万元 = 285714.29; 1亿2千万 = 1.2e8; 1.5万亿 = 1e12; 5到10万 = 50000
        拾万元整 = 14285.71; 一百零五万 = 1.05e6; 1,0000,0000元 = 14285714.29; 50万块 = 71428.57
        每月5万元 = 85714.29; 一年10万元 = 14285.71; 半年7万元 = 20000; 三年70万元 = 100000
        人民币 ¥70万 = 100000; 100万美元 = 1e6; 100万日元 = 6666.67; 32万台币 = 10000
        五十多万元 = 71428.57; 50余万元 = 71428.57; 10w = 100000""",
    "korean": """
        50만원 = 357.14; 5만 5천원 = 39.29; 1,500만원 = 10714.29; 2천500만원 = 17857.14
        오십만원 = 357.14; 일억오천만원 = 107142.86; 천만 원 = 7142.86; 만원 = 7.14
        월 50만원 = 4285.71; 연 1억원 = 71428.57; 한 달 50만원 = 4285.71; 100만 ~ 200만원 = 714.29
        10만 달러 = 100000; 2026년 5천만원 = 35714.29; 3분기 500만원 = 3571.43""",
    "indian": """
        ₹5,00,000 = 5882.35; 1,23,45,678 = 12345678; 3 crore 50 lakh = 3.5e7; ₹1.5Cr = 176470.59
        5L = 500000; ₹ 5 lakhs p.a. = 5882.35; 5 LPA = 500000; 10-15 lakhs = 1e6; ₹5L-10L = 5882.35
        Rs. 5,00,000/- = 5882.35; Rs 50,000/month = 7058.82; 85 lakh INR = 100000
        50 हज़ार = 50000; 5 लाख = 500000; 2 करोड़ = 2e7; ५०,००० रुपये = 588.24
        five lakh = 500000""",
    "others": """
        10 tỷ = 1e10; 5 triệu đồng/tháng = 2400; 2 milyon TL = 50000; 50 bin TL = 1250
        Rp 200jt = 12500; 5 ล้านบาท = 151515.15; 500 ألف دولار = 500000; ٥٠٠٠ = 5000
        ٥٠٬٠٠٠ دولار = 50000; 100 אלף שקל = 28571.43; 500 ezer Ft = 1388.89
        1 mio. kr. = 100000; 50.000 kr/md = 60000; 2 md kr = 2e8; Rp2,5 M = 156250
        S/ 50,000 = 13513.51; S/. 50,000 = 13513.51
        50 هزار دلار = 50000; ۵۰ میلیون تومان = 1000; مليون دولار = 1e6
        نصف مليون دولار = 500000
        200 אלף ש״ח = 57142.86; 50,000 ש"ח = 14285.71; 50,000 שקלים = 14285.71
        מיליון שקל = 285714.29""",
    "currencies": """
        1.5MEUR = 1.5e6; 10k EUR = 10000; EUR10k = 10000; 50kUSD = 50000; M€ 1.5 = 1.5e6
        10MJPY = 66666.67; ₩50,000,000 = 35714.29; ₫50.000.000 = 2000; 33 000 ฿ = 1000
        we try 5000 = 5000""",
    "science": """
        1e5 = 100000; 1.5E6 = 1.5e6; 1e400 = 1e12; 1e5/mo = 1.2e6; 1e-400 = -""",
    "dates": """
        Q3 2026: $80k = 80000; Q3 2026 – $80k = 80000; Q3/26 80k = 80000; 3Q26: 80k = 80000
        Q2/2026 - 30k EUR = 30000; FY2027 50k = 50000; FY26: $1.2M = 1.2e6; 2026 $80k = 80000
        by 2027-01-15: 20000 EUR = 20000; 3.10.2026: 5000 = 5000; 2025/26 80k = 80000
        March 15, 20k = 20000; 2026 = -; Budget 2026 = -; unknown 2026 = -; $2025 = 2025
        2000 = 2000
        H1 2027 = -; 3-6 months = -; 24 months = -""",
    "negatives": """
        -5000 = -; −5000 = -; －５０００ = -; -$5000 = -; $-5000 = -; budget: -5000 = -
        minus 10k = -
        -5k to -10k = -; (5000) = -; ($5,000) = -; USD (5000) = -; △5000 = -; マイナス100万円 = -
        - 5000 USD = 5000; budget-5000 = 5000; Enterprise (5000) = 5000; (about 5k) = 5000""",
    "nothing": """
        0 = -; $0 = -; none = -; n/a = -; no budget = -; 20% = -; 10-20% = -; v2.1 = -; 1.2.3 = -
        +1-555-0142 = -; (555) 014-2000 = -; 0171 2345678 = -; call 5551234567 = -
        50 employees = -
        1万人 = -; 24/7 = -; 十分 = -; 一部上場 = -""",
}  # fmt: skip
TEAM_SIZES = {
    "latin": """
        50-100 = 50; 10-25 = 10; 500+ = 500; 1,000+ = 1000; ~200 = 200; about 40 people = 40
        10k employees = 10000; 10-person team = 10; 1.200 = 1200; 1 200 = 1200; 1.5 = 1.5
        1,5 = 1.5
        2-3 = 2; 5 mil = 5000; founded 1998, 50 employees = 50; $5M ARR, 50 employees = 50
        in 2025: 200 = 200; 2024 = 2024; five people = 5; 2 Mio. EUR = 2e6; 50 чел. = 50
        1.000 Mitarbeiter = 1000; 5 a 10 personas = 5; 0 = -; -5 = -; solo = -""",
    "japanese": "1万人 = 10000; 五十人 = 50; 50名 = 50; 1万5千人 = 15000; 数百人 = 100",
    "chinese": "20多人 = 20; 五百员工 = 500; 100余人 = 100; 一千五百人 = 1500; 50人~100人 = 50",
    "korean": "50명 = 50; 1만 명 = 10000; 백명 = 100; 10명 이상 = 10; 2천 명 = 2000",
    "indian": "1 lakh employees = 100000; 1,23,456 = 123456; ५० लोग = 50; ٥٠ موظف = 50",
}
LONG_TEXTS = (
    "1-", "1 111 ", "+1 1", "(1", "0-0", "1,", "1e", "1k", "1万", "2026-", "q3", "a.", "%",
    "1% of ", "5 month ", "a million ", "百", "$1-", "00 ", "일만", "\ufdfa",
)  # fmt: skip


def list_lines(tables: dict[str, str]) -> Iterator[Any]:
    for language, table in tables.items():
        for line in table.replace("\n", ";").split(";"):
            if line.strip():
                text, _, wanted = line.strip().rpartition(" = ")
                number = None if wanted == "-" else pytest.approx(float(wanted), rel=1e-3)
                yield pytest.param(text, number, id=f"{language}: {text}")


@pytest.mark.parametrize(("text", "dollars"), list(list_lines(BUDGETS)))
def test_a_budget_is_converted_to_dollars_a_year(text: str, dollars: Any) -> None:
    assert parse_yearly_sum(text) == dollars


@pytest.mark.parametrize(("text", "people"), list(list_lines(TEAM_SIZES)))
def test_a_team_size_is_a_number_of_people(text: str, people: Any) -> None:
    assert parse_number(text) == people


@pytest.mark.parametrize("number", [12000, 2500.5])
def test_a_number_is_its_amount(number: float) -> None:
    assert parse_yearly_sum(number) == parse_number(number) == number


@pytest.mark.parametrize("value", ["", None, True, -5, 0, [5], {"a": 5}, float("nan")])
def test_a_value_without_an_amount_gives_none(value: Any) -> None:
    assert parse_yearly_sum(value) is None


def test_absurd_amounts_are_bounded() -> None:
    assert parse_yearly_sum(10**400) == parse_yearly_sum("9" * 90 + "bn/mo") == 1e12


_PIECES = st.sampled_from(
    [*LONG_TEXTS, "円", "€", "-", "(", ")", "/mo", "k", "億", "crore ", "0", "."]
)


@given(st.text(max_size=120) | st.lists(_PIECES, max_size=40).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_finite_amount_or_none(text: str) -> None:
    for amount in (parse_yearly_sum(text), parse_number(text)):
        assert amount is None or 0 < amount <= 1e12


@pytest.mark.parametrize("piece", LONG_TEXTS)
def test_a_hostile_text_is_read_quickly(piece: str) -> None:
    started = time.process_time()
    parse_yearly_sum(piece * 100)
    assert time.process_time() - started < 0.05  # usual are 0.002
