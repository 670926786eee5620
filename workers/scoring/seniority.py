"""Classifies job titles by seniority, in many languages."""

import re
from functools import lru_cache
from typing import Literal

from workers.scoring.folding import UNSPACED, fold

Seniority = Literal["executive", "vp", "director", "manager", "staff", "junior"]

# The first class that matches is used. A class whose titles contain titles of another class comes
# before it: an assistant to the CEO is staff, a vice president is not a president, and a managing
# director is not a director. A title of another language has the class of its usual translation:
# 常務 and 상무 are managing directors, 執行役員 is an executive officer. A general manager is a
# director, because many lead a branch; 总经理 leads a company. Case and accents are ignored. The
# terms after the slash are in scripts that write words without spaces or attach particles to them,
# so they match anywhere.
_WORDS: dict[Seniority, str] = {
    "junior": r"""
        intern, internship, trainee, apprentice, student\w*, junior, jr, praktikant(?:in)?, azubi,
        werkstudent(?:in)?, auszubildender?, stagiaire, alternante?, étudiante?, becari[oa],
        pasante, estagiári[oa], tirocinante, stagista, stagiair, stażyst(?:a|ka), стажёр, стажер,
        студент(?:ка)?, stajyer
        / 実習, インターン, 实习, 인턴, متدرب, מתמחה""",
    "staff": r"""
        (?:assistant|asst)(?! \w| \(?deputy), (?:assistant|asst) (?:to|of|for), [ep]a to,
        (?:executive|personal|management|administrative|exec) (?:assistant|asst), secretary,
        (?:advis[eo]r|aide|driver|secretary) (?:to|of|for),
        \w*assistenz, \w*assistent(?:in)?, \w*sekretär(?:in)?, secrétaire, secretári[oa],
        asistente (?:de|a), assistante? (?:de|du), segretari[oa], секретарь, помощник, ассистент,
        (?:product|process|data|service|system|account|risk|project|platform) owner
        / 秘书, 秘書, 助理, 補佐, アシスタント, 비서, سكرتير, सहायक, सचिव""",
    "vp": r"""
        [aefgrs]?vp, (?:vice|v)[ .]?pres(?:ident[ea]?)?, vizepräsident(?:in)?, dga,
        direct(?:eur|rice) générale? adjointe?, vice ?presidenta, вице президент, wiceprezes
        / 副总裁, 副總裁, 副総裁, 副社長, 副[总總](?![监監]), 副行长, 부사장, 부대표, نائب الرئيس,
        उपाध्यक्ष""",
    "executive": r"""
        c[abcdefgiklmnoprstx]o, ciso, chro, cpto, c (?:level|suite), (?<!in )chief,
        president[ea]?, pres, chairm[ae]n, chairwoman, chairperson, (?:co ?)?founder,
        (?:co ?)?owner, propriet(?:or|ress), entrepreneur, ^(?:joint )?md\.?$, ^partner$,
        managing (?:director|dir|partner), (?:general|founding|senior|equity) partner,
        (?:executive|exec) (?:director|dir|officer), board (?:member|director), director general,
        geschäfts(?:führ|leit)\w*, präsident(?:in)?, gf, vorstand\w*, inhaber(?:in)?,
        (?:mit)?gründer(?:in)?, unternehmer(?:in)?, gesellschafter(?:in)?, pdg, dg,
        (?:co ?)?fondat(?:eur|rice), gérante?, propriétaire, direct(?:eur|rice) générale?,
        (?:co ?)?fundadora?, directora? general, directora? ejecutiv[oa], direttore generale,
        diretora? geral, diretora? executiv[oa],
        propietari[oa], proprietári[oa], dueñ[oa], amministrat(?:ore|rice) delegat[oa], titolare,
        (?:mede)?oprichter, eigenaar, algemeen directeur, prezes, właściciel(?:ka)?, kurucu,
        генеральный директор, исполнительный директор, основатель, владелец, собственник,
        президент,
        διευθύνων σύμβουλος, ιδρυτής, genel müdür, tổng giám đốc
        / 首席, 总裁, 總裁, 総裁, 总经理, 總經理, 董事, 创始人, 創辦人, 合伙人, 老板, 行长, 頭取,
        (?<!支)社長, 取締役, 会長, 創業者, 執行役, 専務, 常務, 経営者, オーナー, 店主, ^代表$,
        代表社員, 最高\w+責任者, (?<!영업)대표, (?<!지)사장, 회장, 창업자, 전무, 상무, 임원,
        المدير التنفيذي, الرئيس التنفيذي, المدير العام, مؤسس, מנכ, מייסד, ประธาน, संस्थापक,
        मुख्य कार्यकारी, प्रबंध निदेशक, अध्यक्ष, मालिक""",
    "director": r"""
        director\w*, dir, head(?! ?(?:hunt|count|chef|cook|waiter|nurse|coach)), direktor(?:in)?,
        direct(?:eur|rice), dirett(?:ore|rice), diretora?, dyrektor, leit(?:er|erin|ung),
        prokurist(?:in)?, hoofd, [ad]?gm, general manager, editor in chief,
        (?:abteilungs|bereichs|marketing|personal|vertriebs|werks)leit(?:er|erin|ung),
        директора?, глава, διευθυντ\w*, müdür\w*, giám đốc
        / 总监, 總監, 部長, 部长, 支社長, 室長, 所長, 局長, 工場長, ディレクター, 이사(?!회),
        부장, 실장, 지사장, مدير, מנהל, निदेशक, महाप्रबंधक, ผู้อำนวยการ""",
    "manager": r"""
        manager\w*, mn?gr, supervisor\w*, lead(?! ?(?:gen|qualif|nurtur)), \w+leit(?:er|erin),
        gerente, jef[ea], chef, responsable, responsabile, encargad[oa], encarregad[oa],
        coordenadora?, coordinadora?, coordinator, gestora?, kierowni(?:k|czka), manažer(?:ka)?,
        vedoucí, principal, руководитель, начальник, менеджер, yönetici, trưởng phòng,
        προϊστάμεν\w*
        / 经理, 經理, 主管, 店长, 次長, 課長, 係長, 店長, 主任, マネージャ, マネジャ, リーダー,
        차장, 과장, 팀장, 매니저, प्रबंधक, ผู้จัดการ""",
}

_LETTER = rf"[^\W{UNSPACED}]"
_GENDER = re.compile(r"(?<=\w\w)(?:[*:_/·.]-?|\()(?:in|innen|e|a|fe|t?rice)\)?(?!\w)")
"""The second gender: Leiter/-in, Leiter*in, gérant(e), directeur·rice."""
_SINGLE_LETTERS = re.compile(r"(?<!\w)[a-zß-ԯ](?:[. ・·]+[a-zß-ԯ](?!\w))+")
_SPACED_OUT = re.compile(r"(?<=[\u3040-\u9fff]) (?=[\u3040-\u9fff])")
_HYPHENS = re.compile("[ _-]+")


def _simplify(title: str) -> str:
    """Folded, with blanks for hyphens; "C. E. O." is ceo, "Leiter*in" leiter, "社 長" 社長."""
    plain = fold(title)
    if plain.isalpha():
        return plain
    plain = _HYPHENS.sub(" ", _GENDER.sub("", plain))
    plain = _SINGLE_LETTERS.sub(lambda match: re.sub(r"\W", "", match[0]), plain)
    return _SPACED_OUT.sub("", plain).replace(". ", " ")


def _compile(words: str) -> re.Pattern[str]:
    parted, _, anywhere = fold(words).partition("/")
    alternatives = "|".join(word.strip() for word in parted.split(","))
    return re.compile(
        rf"(?<!{_LETTER})(?:{alternatives})(?!{_LETTER})|"
        + "|".join(word.strip() for word in anywhere.split(","))
    )


_CLASSES = tuple((seniority, _compile(words)) for seniority, words in _WORDS.items())


@lru_cache(maxsize=4096)
def find_seniority(title: str) -> Seniority:
    """The class of a title; an unknown title is staff."""
    plain = _simplify(title)
    for seniority, pattern in _CLASSES:
        if pattern.search(plain):
            return seniority
    return "staff"
