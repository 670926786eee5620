"""The words of job titles by seniority, in many languages, as regular expressions.

The first class that matches is used. A class whose titles contain titles of another class comes
before it: an assistant to the CEO is staff, a vice president is not a president, and a managing
director is not a director. A title of another language has the class of its usual translation:
常務 and 상무 are managing directors, 執行役員 is an executive officer. A general manager is a
director, because many lead a branch; 总经理 and gerente general lead a company.

The words are compared with folded titles, so case and accents do not count; but ø, ł and đ are
letters of their own, as is Turkish i without a dot, and German may write ae
for ä. The terms after the slash are in scripts that write words without spaces or attach
particles to them, so they match anywhere.
"""

from typing import Literal

Seniority = Literal["executive", "vp", "director", "manager", "staff", "junior"]

WORDS: dict[Seniority, str] = {
    "junior": r"""
        intern, internship, trainee, apprentice, student\w*, junior, jr, praktikant(?:in|ka)?,
        azubi, werkstudent(?:in)?, auszubildender?, schue?ler(?:in)?, lehrling, stagiaire,
        alternante?, étudiante?, apprentie?, becari[oa], pasante, practicante, estudiante,
        estudante, aprendiz[a]?, estagiári[oa], tirocinante, apprendista, stagista, stagiair,
        stażyst(?:a|ka), praktykant(?:ka)?, stážist(?:a|ka), brigádn(?:ík|ice), gyakornok,
        diák, harjoittelija, opiskelija, lærling, lärling, stagiar[ăa]?, ucenic[ăa]?,
        стажер(?:ка)?, стажист(?:ка)?, практикант(?:ка)?, студент(?:ка)?, ученик,
        φοιτητ\w+, φοιτήτρια, ασκούμεν\w+, stajyer, [öo]ğrenci, thực tập(?: sinh)?, sinh viên,
        magang, mahasisw[ai]
        / 実習, 實習, 实习, インターン, 学生(?!支援|課|部|服|工作|指導|処|处), 學生(?!事務|服|處),
        アルバイト, 新卒(?!採用), 見習, 인턴, 학생, 실습생, متدرب, طالب, دانشجو, کارآموز,
        מתמחה, סטודנט, นักศึกษา, ฝึกงาน, प्रशिक्षु, इंटर्न, छात्र""",
    "staff": r"""
        (?:assistant|asst)(?! \w| \(?deputy), (?:assistant|asst) (?:to|of|for), [ep]a to,
        (?:executive|personal|management|administrative|exec) (?:assistant|asst), secretary,
        (?:advis[eo]r|aide|driver|secretary|chauffeur) (?:to|of|for),
        \w*assistenz, \w*assistent(?:in|e|i|ti)?, \w*sekretae?r(?:in|e)?, \w*sekretariat,
        secrétaire, secretári[oa], secretariado, \w*secretaresse, asistente, assistante,
        assistant (?:de|du|des), segretari[oa], asystent(?:ka)?, asistent(?:ka|a)?,
        sekretar(?:ka|ko), sekretářka, asszisztens, titkár(?:nő)?, sihteeri, secretar[ăa]?,
        секретар\w*, помощни\w+,
        ассистент\w*, асистент\w*, помічни\w+, βοηθός, γραμματέας, asistan[ıi]?, sekreteri?,
        trợ lý, thư ký, asisten, sekretaris,
        (?:product|process|data|service|system|account|risk|project|platform) owner
        / 秘书, 秘書, 助理, 補佐, アシスタント, 비서, سكرتير, مساعد ال, منشی, دستیار, מזכיר, עוזר,
        सहायक, सचिव, เลขา""",
    "vp": r"""
        [aefgrs]?vp, (?:vice|v)[ .]?pres(?:ident[ea]?)?, vizeprae?sident(?:in)?, dga,
        deputy (?:ceo|coo|cfo|cto|md|president|chief \w+ officer|(?:managing|general) director),
        deputy director general, stellv\w* (?:geschae?fts|vorstand)\w*,
        direct(?:eur|rice) générale? adjointe?, direct(?:eur|rice) générale? déléguée?,
        directora? general adjunt[oa], subdirectora? general, vicepreședinte, viceprezident(?:ka)?,
        (?:вице|віце) ?президент\w*, зам(?:еститель)? ген\w* ?директора,
        заступник ген\w* ?директора, wiceprezes(?:ka)?, vice vd, varatoimitusjohtaja, alelnök,
        vezérigazgató helyettes\w*, αντιπρόεδρο\w*, genel müdür yard[ıi]mc[ıi]s[ıi],
        başkan[ıi]? yard[ıi]mc[ıi]s[ıi], phó (?:tổng giám [đd]ốc|chủ tịch), wakil direktur utama,
        wakil presiden\w*
        / 副总裁, 副總裁, 副総裁, 副社長(?!室), 副[总總](?![监監]), 副行长, 副執行長,
        부사장, 부대표, نائب الرئيس, نائب رئيس, نائب المدير العام, معاون مدیر ?عامل, סמנכ,
        उपाध्यक्ष, รองประธาน, รองกรรมการผู้จัดการ""",
    "executive": r"""
        c[abcdefgiklmnoprstx]o, [cс][eе][oо], ^сто$, ciso, chro, cpto, c (?:level|suite), ned,
        chief (?:executive|[\w &,]{1,40} officer), president[ea]?, pres, chairm[ae]n, chairwoman,
        chairperson, chair(?= ?(?:$|[,;&|(]|of|and|emerit)),
        (?:co ?)?founder(?! relations| success| support), entrepreneur, propriet(?:or|ress),
        (?:co ?)?owner(?! (?:relation|liaison|service|support|success|care|experience|engagement)),
        ^(?:joint )?md\.?$, ^partner$, (?:managing|mng|mngg|mging) (?:director|dir|partner),
        (?:general|founding|senior|equity) partner, (?:executive|exec) (?:director|dir|officer),
        board (?:member|director), member of (?:the )?(?:\w+ )?board, director general,
        geschae?fts(?:fue?hr|leit)\w*, gesch\.? ?fue?hr\w*, prae?sident(?:in)?, gf, vorstand\w*,
        inhaber(?:in)?, (?:mit)?grue?nder(?:in)?, unternehmer(?:in)?, gesellschafter(?:in)?,
        eigentue?mer(?:in)?, pdg, dg, (?:co ?)?fondat(?:eur|rice|ore), gérante?, propriétaire,
        chef(?:fe)? d'entreprise, dirigeante?, direct(?:eur|rice) (?:générale?|exécuti(?:f|ve)),
        (?:co ?)?fundadora?, directora? (?:general|ejecutiv[oa]), gerente general,
        consejer[oa] delegad[oa], administradora? únic[oa], dueñ[oa], proprietári[oa],
        soci[oa](?! ?(?:comercial|de negocio|sanitari|assistenzial|educativ)), propietari[oa],
        diretora? (?:geral|executiv[oa]), direttore generale, titolare, proprietari[oa],
        amministrat(?:ore|rice) (?:delegat|unic)[oa], (?:mede)?oprichter, eigenaar, eigenaresse,
        algemeen directeur, prezes(?:ka)?, w[łl]aściciel(?:ka)?, (?:wspó[łl])?za[łl]ożyciel(?:ka)?,
        cz[łl]onk?(?:ek|ini) zarządu, dyrektor(?:ka)? (?:generaln[ya]|zarządzając[ya]),
        jednatel(?:ka)?, konateľ(?:ka)?, (?:generální|výkonn[ýá]) ředitel(?:ka)?, majitel(?:ka)?,
        (?:spolu)?(?:zakladatel|zakladateľ)(?:ka)?, generáln[yá] riaditeľ(?:ka)?, elnök,
        ügyvezető, vezérigazgató, (?:társ)?tulajdonos, (?:társ ?)?alapító,
        (?:verkställande|administrerende|adm) dir(?:ekt[øo]r)?, vd, (?:med)?grundare, ägare,
        daglig leder, styreleder, (?:med)?grundlægger, indehaver, ejer, toimitusjohtaja,
        (?:osa)?omistaja, (?:yhteis)?perustaja, director(?:ul)? executiv, director(?:ul)? general,
        (?:co ?)?fondato(?:r|are), proprietar, președinte, (?:co ?)?eier,
        ген(?:еральн\w+)? ?директор\w*, (?:исполнительн|виконавч|изпълнител)\w+ директор\w*,
        (?:со)?учредитель(?:ница)?, (?:со|съ)?основател(?:ь|ьница|ка)?, (?:со)?владел(?:ец|ица),
        (?:со)?собственни(?:к|ца), собственик, управител, президент, (?:спів)?засновни(?:к|ця),
        (?:спів)?власни(?:к|ця), председатель (?:правления|совета\w*), член правления,
        διευθύν(?:ων|ουσα) σύμβουλος, γενικ(?:ός|ή) διευθυντ\w*, (?:συν)?ιδρυτής,
        (?:συν)?ιδρύτρια, ιδιοκτήτ(?:ης|ρια), πρόεδρος, genel müdür, kurucu(?:su)?,
        (?:işletme|şirket|firma|işyeri|iş|dükkan|mağaza) sahibi, ^sahibi$,
        (?:yönetim|icra) kurulu (?:başkan[ıi]|üyesi), tổng giám [đd]ốc, giám [đd]ốc [đd]iều hành,
        sáng lập, chủ tịch, chủ (?:doanh nghiệp|sở hữu|công ty|cửa hàng),
        (?:direktur|presiden) (?:utama|direktur|eksekutif), pendiri, pemilik
        / 首席, 总裁(?!办), 總裁(?!辦), 総裁, 总经理(?!办), 總經理(?!辦), 董事, 创始人, 創始人,
        创办人, 創辦人, 合伙人, 合夥人, 老板, 老闆, 行长, 頭取,
        (?:執行|技術|營運|財務|行銷|資訊|產品|策略|人資|法務|資安)長, (?<!支)社長(?!室), 取締役,
        会長(?!室), 創業者, 創立者, 執行役, 専務, 常務, 経営者, オーナー, 店主, ^代表$, 代表社員,
        最高\w+責任者, シー(?:イー|オー|ティー|エフ|エム)オー, (?<!영업)대표, (?<!지)사장(?!실),
        회장(?!실), 창업자, 전무, 상무, 임원, المدير التنفيذي, الرئيس التنفيذي, المدير العام,
        مدير عام, مدير تنفيذي, رئيس تنفيذي, رئيس مجلس, مؤسس, مالك,
        صاحبة? (?:ال)?(?:شركة|عمل|مشروع),
        مدیر ?عامل, بنیان ?گذار, مالک, صاحب شرکت, رئیس هیئت مدیره, מנכ, מייסד, בעלים,
        יו["״']?ר(?!\w),
        ประธาน, กรรมการผู้จัดการ, ซีอีโอ, ผู้ก่อตั้ง, เจ้าของ(?:กิจการ|บริษัท|ธุรกิจ|ร้าน),
        संस्थापक, मुख्य कार्यकारी, सीईओ, प्रबंध निदेशक, अध्यक्ष, मालिक""",
    "director": r"""
        director(?:[aes]|as|es|ul|ate)?, dir, chief, direktor(?:in|ka)?, direkt[øo]r,
        head(?! ?(?:hunt|count|chef|cook|waiter|nurse|coach)), direct(?:eur|rice),
        dirett(?:ore|rice), diretora?, dyrektor(?:ka)?, ředitel(?:ka)?, riaditeľ(?:ka)?, igazgató,
        leit(?:er|erin|ung), prokurist(?:in)?, hoofd, [ad]?gm, general manager, gerente geral,
        (?:abteilungs|bereichs|marketing|personal|vertriebs|werks)leit(?:er|erin|ung),
        \w*johtaja, директор(?:а|ка)?, глава, διευθυντ\w*, διευθύντρια, müdür\w*, giám [đd]ốc,
        direktur
        / 总监, 總監, 部長, 部长, 支社長, 室長, 所長, 局長, 工場長, ディレクター, 이사(?!회),
        부장, 실장, 지사장, مدير, מנהל, निदेशक, महाप्रबंधक, ผู้อำนวยการ""",
    "manager": r"""
        \w*manager(?:in|e|s|ka|ul)?, mn?gr, supervisor\w*, lead(?! ?(?:gen|qualif|nurtur)),
        (?:team)?leader, \w+leit(?:er|erin), gerente, jef[ea], responsable, responsabile,
        chef(?:fe)? (?:de|du|des)(?! (?:cuisine|partie|rang)), chef(?:fe)? d'\w+,
        it (?:chef|sjef), \w+(?<!sous)(?<!kuchen)(?:chef|sjef), encargad[oa], encarregad[oa],
        coordenadora?, coordinadora?, coordinator, gestora?, kierowni(?:k|czka), menedżer(?:ka)?,
        manažer(?:ka)?, vedoucí, vezető, \w+vezető, principal, \w+leder, \w*leider, \w+ledare,
        \w*päällik\w+, руководитель(?:ница)?, начальни(?:к|ца), менеджер(?:ка)?, мениджър(?:ка)?,
        керівни(?:к|ця), yönetici(?:si)?, trưởng (?:phòng|nhóm|bộ phận), quản lý, προϊστάμεν\w*,
        υπεύθυν\w+, manajer
        / 经理, 經理, 主管, 店长, 次長, 課長, 係長, 店長, 主任, マネージャ, マネジャ, リーダー,
        차장, 과장, 팀장, 매니저, مدیر, प्रबंधक, मैनेजर, ผู้จัดการ""",
}
