"""Classifies job titles by seniority, in many languages."""

import re
import unicodedata
from functools import lru_cache
from typing import Literal

Seniority = Literal["executive", "vp", "director", "manager", "staff", "junior"]

# The first class that matches is used. A class whose titles contain titles of another class comes
# before it: an assistant to the CEO is staff, a vice president is not a president, and a managing
# director is not a director. Case and accents are ignored. The terms after the slash are in scripts
# that write words without spaces or attach particles to them, so they match anywhere.
_WORDS: dict[Seniority, str] = {
    "junior": r"""
        intern, internship, trainee, apprentice, student\w*, junior, praktikant(?:in)?, azubi,
        werkstudent(?:in)?, auszubildender?, stagiaire, alternante?, étudiante?, becari[oa],
        pasante, estagiári[oa], tirocinante, stagista, stagiair, stażyst(?:a|ka), стажёр, стажер,
        студент(?:ка)?, stajyer
        / 実習, インターン, 实习, 인턴, متدرب, מתמחה""",
    "staff": r"""
        assistant (?:to|of), (?:executive|personal|management) assistant,
        assistenz, assistent(?:in)?, secretary,
        sekretär(?:in)?, secrétaire, secretári[oa], asistente (?:de|a), assistante? (?:de|du),
        segretari[oa], product owner, process owner, секретарь, помощник, ассистент
        / 秘书, 秘書, 助理, アシスタント, 비서, سكرتير""",
    "vp": r"""
        [es]?vp, avp, vice[ -]?president[ea]?, vizepräsident(?:in)?, вице[ -]президент, wiceprezes
        / 副总裁, 副總裁, 副社長, 부사장, نائب الرئيس""",
    "executive": r"""
        c[cdefimoprst]o, ciso, chro, chief, president[ea]?, chairm[ae]n, chairwoman,
        (?:co[ -]?)?founder, (?:co[ -]?)?owner, managing (?:director|partner), general partner,
        executive director, geschäftsführ\w*, vorstand\w*, inhaber(?:in)?, (?:mit)?gründer(?:in)?,
        gesellschafter(?:in)?, pdg, dg, (?:co[ -]?)?fondat(?:eur|rice), gérante?,
        direct(?:eur|rice) générale?, (?:co[ -]?)?fundadora?, directora? general,
        directora? ejecutiv[oa], direttore generale, diretora? geral, diretora? executiv[oa],
        propietari[oa], proprietári[oa], dueñ[oa], amministrat(?:ore|rice) delegat[oa], titolare,
        (?:mede)?oprichter, eigenaar, algemeen directeur, prezes, właściciel(?:ka)?, kurucu,
        генеральный директор, исполнительный директор, основатель, владелец, собственник, президент,
        διευθύνων σύμβουλος, ιδρυτής, genel müdür, tổng giám đốc
        / 首席, 总裁, 總裁, 总经理, 總經理, 董事长, 董事長, 创始人, 創辦人, 社長,
        取締役, 会長, 創業者, 대표, 사장, 회장, 창업자, المدير التنفيذي, الرئيس التنفيذي,
        المدير العام, مؤسس, מנכ, מייסד, ประธาน, संस्थापक, मुख्य कार्यकारी""",
    "director": r"""
        director\w*, head, direktor(?:in)?, direct(?:eur|rice), dirett(?:ore|rice), diretora?,
        dyrektor, leit(?:er|erin|ung), prokurist(?:in)?, hoofd,
        (?:abteilungs|bereichs|marketing|personal|vertriebs|werks)leit(?:er|erin),
        директор, глава, διευθυντ\w*, müdür\w*, giám đốc
        / 总监, 總監, 部長, 本部長, 이사, 부장, مدير, מנהל, निदेशक, ผู้อำนวยการ""",
    "manager": r"""
        manager\w*, supervisor\w*, lead, \w+leit(?:er|erin), gerente, jef[ea], chef, responsable,
        responsabile, encargad[oa], encarregad[oa], coordenadora?, coordinadora?, coordinator,
        gestora?, kierowni(?:k|czka), manažer(?:ka)?, vedoucí, principal, руководитель, начальник,
        менеджер, yönetici, trưởng phòng, προϊστάμεν\w*
        / 经理, 經理, 課長, 係長, 主任, マネージャ, 과장, 팀장, 매니저, प्रबंधक, ผู้จัดการ""",
}


def _simplify(title: str) -> str:
    """Lower case without accents: Geschäftsführer and GESCHAFTSFUHRER are equal."""
    parts = unicodedata.normalize("NFKD", title.casefold())
    bare = "".join(c for c in parts if not unicodedata.combining(c))
    return unicodedata.normalize("NFKC", bare)


def _compile(words: str) -> re.Pattern[str]:
    parted, _, anywhere = _simplify(words).partition("/")
    alternatives = "|".join(word.strip() for word in parted.split(","))
    return re.compile(
        rf"(?<!\w)(?:{alternatives})(?!\w)|" + "|".join(w.strip() for w in anywhere.split(","))
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
