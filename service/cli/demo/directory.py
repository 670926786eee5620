"""The people and companies of the demo: names in many scripts, with Latin forms for addresses."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from faker import Faker

from service.cli.demo.romanization import romanize

LOCALES = (
    "en_US", "de_DE", "fr_FR", "es_ES", "pl_PL", "pt_BR", "tr_TR", "el_GR", "ru_RU", "ja_JP",
    "zh_CN", "ko_KR", "ar_SA", "he_IL", "hi_IN", "th_TH", "vi_VN",
)  # fmt: skip
NAMES = 60
"""The most first names, last names and companies per locale; leads combine them."""
DRAWS = 120
"""The number of draws from the library, which repeats common names."""
_FAMILY_FIRST = {"ja_JP": " ", "zh_CN": "", "ko_KR": "", "vi_VN": " "}
"""Locales in which the family name comes first, with what separates the names."""
_LEGAL_TEXT = """
ag and co coop cong ehf et eirl gmbh group grupa hop inc und ltd llc ltda mbh ohg oe ae ee plc sa
sarl sas sl sll slu sons spa spk srl te kai tnhh danh phan ty brisath bchk bmch chamkad chakd bristh
limited ooo oao zao npo rao ip ao da de
"""
_LEGAL_FORMS = frozenset(_LEGAL_TEXT.split())
"""Legal forms, and words between names, in Latin letters."""
_PHONES = {
    "en_US": "+1 555 01##", "de_DE": "+49 30 ### ####", "fr_FR": "+33 1 ## ## ## ##",
    "es_ES": "+34 91 ### ## ##", "pl_PL": "+48 22 ### ## ##", "pt_BR": "+55 11 9####-####",
    "tr_TR": "+90 212 ### ## ##", "el_GR": "+30 21# ### ####", "ru_RU": "+7 495 ###-##-##",
    "ja_JP": "+81 3-####-####", "zh_CN": "+86 10 #### ####", "ko_KR": "+82 2-####-####",
    "ar_SA": "+966 11 ### ####", "he_IL": "+972 3-###-####", "hi_IN": "+91 22 #### ####",
    "th_TH": "+66 2 ### ####", "vi_VN": "+84 24 #### ####",
}  # fmt: skip
_TITLES = {
    "de_DE": ("Praktikantin", "Sachbearbeiter", "Teamleiter", "Leiterin Vertrieb",
              "Vizepräsidentin", "Geschäftsführer"),
    "fr_FR": ("Stagiaire", "Comptable", "Responsable achats", "Directrice commerciale",
              "Vice-président", "Directeur général"),
    "es_ES": ("Becaria", "Analista", "Jefe de compras", "Directora de marketing",
              "Vicepresidente", "Directora general"),
    "ru_RU": ("Стажёр", "Бухгалтер", "Руководитель отдела", "Директор по продажам",
              "Вице-президент", "Генеральный директор"),
    "ja_JP": ("インターン", "営業担当", "課長", "営業部長", "副社長", "代表取締役社長"),
    "zh_CN": ("实习生", "采购专员", "销售经理", "市场总监", "副总裁", "总经理"),
    "ko_KR": ("인턴", "구매 담당", "팀장", "영업부장", "부사장", "대표이사"),
    "ar_SA": ("متدرب", "محاسب", "مشرف المشتريات", "مدير المبيعات", "نائب الرئيس", "المدير العام"),
}  # fmt: skip
# Names that the library does not have with a Latin form, each with it.
_CHINESE_LAST = """王 wang 李 li 张 zhang 刘 liu 陈 chen 杨 yang 黄 huang 赵 zhao 吴 wu 徐 xu
周 zhou 孙 sun 马 ma 朱 zhu 胡 hu 林 lin 郭 guo 何 he 高 gao 罗 luo"""
_CHINESE_FIRST = """静 jing 建华 jianhua 洁 jie 伟 wei 芳 fang 娜 na 敏 min 强 qiang 磊 lei 军 jun
洋 yang 勇 yong 艳 yan 文杰 wenjie 娟 juan 涛 tao 明 ming 超 chao 丽 li 鹏 peng 桂英 guiying"""
_VIETNAMESE_FIRST = "Linh Minh Hương Tuấn Thảo Hùng Lan Dũng Mai Phương Quân Trang Sơn Hà Nam"
_TRADES = {
    "ja_JP": "建設 kensetsu 電気 denki 運輸 unyu 食品 shokuhin ガス gas 印刷 insatsu",
    "zh_CN": "信息 xinxi 传媒 chuanmei 科技 keji 网络 wangluo 贸易 maoyi 物流 wuliu",
}
_COMPANY_FORMS = {"ja_JP": "{}株式会社", "zh_CN": "{}有限公司"}


class Name(NamedTuple):
    """A name as it is written, and in Latin letters."""

    text: str
    latin: str


class Region(NamedTuple):
    """The names of one locale."""

    firsts: list[Name]
    lasts: list[Name]
    companies: list[Name]
    titles: tuple[str, ...]
    """Titles in the language of the region, from the lowest to the highest; empty: English."""
    phone: str
    """A phone number with # for digits."""
    separator: str | None
    """What separates the names if the family name comes first; None: it comes last."""

    def join(self, first: Name, last: Name) -> str:
        """The full name, in the order of the region."""
        if self.separator is None:
            return f"{first.text} {last.text}"
        return f"{last.text}{self.separator}{first.text}"


def make_regions(seed: int) -> list[Region]:
    """The regions; the same seed gives the same names."""
    return [_make_region(locale, seed) for locale in LOCALES]


def _make_region(locale: str, seed: int) -> Region:
    fake = Faker(locale)
    fake.seed_instance(seed)
    firsts, lasts = _draw_names(fake, locale)
    if trades := _TRADES.get(locale):
        form = _COMPANY_FORMS[locale]
        companies = [
            Name(form.format(last.text + trade.text), f"{last.latin}-{trade.latin}")
            for last in lasts
            for trade in _read_pairs(trades)
        ]
    else:
        drawn = (fake.company() for _ in range(DRAWS))
        companies = [Name(text, _make_label(text)) for text in drawn]
    return Region(
        firsts,
        lasts,
        _drop_twins(companies),
        _TITLES.get(locale, ()),
        _PHONES[locale],
        _FAMILY_FIRST.get(locale),
    )


def _draw_names(fake: Any, locale: str) -> tuple[list[Name], list[Name]]:
    if locale == "zh_CN":
        return list(_read_pairs(_CHINESE_FIRST)), list(_read_pairs(_CHINESE_LAST))
    if locale == "ja_JP":
        return _draw_pairs(fake.first_name_pair), _draw_pairs(fake.last_name_pair)
    drawn = _VIETNAMESE_FIRST.split() if locale == "vi_VN" else _draw(fake.first_name)
    return _romanize_all(drawn), _romanize_all(_draw(fake.last_name))


def _draw(draw: Any) -> list[str]:
    return [str(draw()) for _ in range(DRAWS)]


def _draw_pairs(draw: Any) -> list[Name]:
    """Names that the library has with their Latin form."""
    drawn = [draw() for _ in range(DRAWS)]
    return _drop_twins([Name(text, romanize(latin)) for text, _, latin in drawn])


def _romanize_all(texts: list[str]) -> list[Name]:
    return _drop_twins([Name(text, romanize(text)) for text in texts])


def _drop_twins(names: list[Name]) -> list[Name]:
    """At most NAMES names, whose Latin forms differ: addresses must differ."""
    return list({name.latin: name for name in names if name.latin}.values())[:NAMES]


def _read_pairs(text: str) -> Iterator[Name]:
    words = text.split()
    return map(Name._make, zip(words[::2], words[1::2], strict=True))


def _make_label(company: str) -> str:
    """The company's name as a part of a domain, without legal form: `kennedy-gray`."""
    words = [romanize(word) for word in company.replace("-", " ").replace("/", " ").split()]
    kept = [word for word in words if len(word) > 1 and word not in _LEGAL_FORMS]
    return "-".join(kept[:2])[:40].strip("-")
