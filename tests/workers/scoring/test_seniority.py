import pytest

from workers.scoring.mail_domains import classify_domain
from workers.scoring.seniority import find_seniority

TITLES = {
    "executive": """
        CEO; cto; Founder; Co-Founder & CTO; CO-FOUNDER; President; Owner; Managing Director;
        Chief Revenue Officer; Geschäftsführer; Geschaftsfuhrerin; Vorstandsvorsitzende; Gründerin;
        Directeur général; Directora general; Dueño; Генеральный директор; 总经理; 대표이사;
        代表取締役社長; מנכ"ל; Tổng giám đốc; Amministratore Delegato""",
    "vp": """
        VP of Sales; SVP; Vice President, Marketing; Vice-Président; Vizepräsidentin; 副社長;
        副总裁""",
    "director": """
        Head of Marketing; Director of Operations; Leiterin Vertrieb; Bereichsleiter;
        Директор по продажам; 営業部長; مدير المبيعات; Giám đốc; Pazarlama Müdürü; Direttrice""",
    "manager": """
        Account Manager; Team Lead; Teamleiterin; Jefe de ventas; Responsable commercial;
        Kierownik sprzedaży; マネージャー; 課長; Chef de projet; Руководитель отдела""",
    "staff": """
        Software Engineer; Buyer 🛒; Assistant to the CEO; Executive Assistant; Product Owner;
        Internal Auditor; Assistentin der Geschäftsführung; 秘書; ; ...""",
    "junior": "Intern; Praktikant; Sales Trainee; Stagiaire; Working Student; インターン; Стажёр",
}


@pytest.mark.parametrize(
    ("title", "seniority"),
    [
        (title.strip(), seniority)
        for seniority, titles in TITLES.items()
        for title in titles.split(";")
    ],
)
def test_a_title_is_classified_by_its_seniority(title: str, seniority: str) -> None:
    assert find_seniority(title) == seniority


@pytest.mark.parametrize(
    ("domain", "kind"),
    [
        ("gmail.com", "free"), ("yahoo.co.jp", "free"), ("hotmail.de", "free"), ("qq.com", "free"),
        ("gmx.net", "free"), ("live.com.mx", "free"), ("mailinator.com", "disposable"),
        ("x7f.mailinator.com", "disposable"), ("acmecorp.com", "company"), ("yahoo", "company"),
        ("live.acme.com", "company"), ("outlook-gmbh.de", "company"), ("", "company"),
        ("xn--mller-shne-zhb8l.de", "company"), ("notgmail.com", "company"),
    ],
)  # fmt: skip
def test_a_domain_is_classified_as_company_free_or_disposable(domain: str, kind: str) -> None:
    assert classify_domain(domain) == kind
