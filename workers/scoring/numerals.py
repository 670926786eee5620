"""Written numbers: digits with separators, and the numerals and scales of many languages."""

import math
import re

from workers.scoring.folding import read_table

MAX_AMOUNT = 1e12
THOUSAND, MILLION = 1e3, 1e6

_SCALES_TEXT = """
1e1  十 拾 십
1e2  hundred hundreds सौ 百 佰 백
1e3  k к thousand thousands grand tausend tsd mille mila mil milhares duizend tusen тыс тысяч
     тысяча тысячи tys tysięcy tysiące tisíc tis ezer bin mii nghìn ngàn ribu rb
     тис тисяч тисяча тисячі هزار พัน हज़ार hazar hazaar হাজার
     ألف آلاف אלף χιλιάδες χιλ 千 仟 천
1e4  w 万 萬 만 หมื่น
1e5  l lakh lakhs lac lacs लाख লাখ แสน
1e6  m м mm mn mio mln mi mill kk кк млн million millions millionen millón millon millones milhão
     milhões milione milioni milion miliony milionów miliónů miljoen miljoner miljon millió milioane
     milyon миллион миллиона миллионов мільйон мільйони мільйонів میلیون
     triệu tr juta jt ล้าน مليون ملايين מיליון εκατ
1e7  cr crore crores करोड़ কোটি
1e8  億 亿 억
1e9  b bn bi billion billions milliard milliards milliarde milliarden mrd mrds md mia mld
     miliardi miliardo miliard miliardów miljard miljarder млрд миллиард миллиарда миллиардов milyar
     miliar мільярд мільярди мільярдів میلیارد tỷ tỉ bilhão bilhões مليار
1e12 tn trn trillion trillions billones 兆 조
"""
_NUMERALS_TEXT = """
0 〇 零 영
1 one un une uno una um uma ein eine einen один 一 壱 壹 일
2 two zwei deux dos due dois два 二 弐 贰 两 兩 이
3 three drei trois tres tre três три 三 参 叁 삼
4 four vier quatre cuatro 四 肆 사
5 five fünf cinq cinco 五 伍 오
6 six sechs seis 六 陆 육
7 seven sieben sept siete 七 柒 칠
8 eight acht huit ocho 八 捌 팔
9 nine neun neuf nueve 九 玖 구
10 ten zehn dix diez dez
20 twenty zwanzig vingt veinte
30 thirty
40 forty
50 fifty fünfzig cinquante cincuenta
60 sixty
70 seventy
80 eighty
90 ninety
0.5 half نصف
"""
SHORT_SCALES = {"t": 1e3}
"""Scales only before a currency, as in TEUR and tkr."""

SCALES = read_table(_SCALES_TEXT)
NUMERALS = read_table(_NUMERALS_TEXT)

_GROUPS = re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}|\d{1,3}(?:\.\d{2,3})*\.\d{3}|\d{1,4}(?:,\d{4})+")
"""Groups of three digits, India's 1,23,45,678 and East Asia's 1,0000,0000."""


def read_digits(text: str, *, point: bool = False) -> float | None:
    """The value of digits with separators; None if they are a date or a version.

    20.000, 20,000, 20 000 and 20'000 are twenty thousand, 1.5 and 1,5 one and a half. With `point`
    a dot is a decimal point: $1.125M.
    """
    if text.isdecimal():
        return min(float(text), MAX_AMOUNT)
    mantissa, _, exponent = re.sub("[ '_]|[.,-]+$", "", text).partition("e")
    plain = _remove_groups(mantissa, point=point)
    if plain.count(".") > 1:
        return None
    value = float(f"{plain}e{exponent or 0}")
    return value if math.isfinite(value) and value < MAX_AMOUNT else MAX_AMOUNT


def _remove_groups(text: str, *, point: bool) -> str:
    """Leaves only a decimal point, or several dots. Cents after groups are left out."""
    if text.isdecimal():  # groups of blanks or apostrophes
        return text
    last = max(text.rfind("."), text.rfind(","))
    others = ",.".replace(text[last], "")
    if others in text and text.count(text[last]) == 1:
        return text[:last].replace(others, "")
    is_decimal = text[0] == "0" or (point and text.count(".") == 1)
    if not is_decimal and (_GROUPS.fullmatch(text) or others in text):
        return re.sub("[.,]", "", text)
    return text.replace(",", ".")
