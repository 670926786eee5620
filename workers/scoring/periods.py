"""Periods of payment, and other words that tell time, as people write them."""

from workers.scoring.folding import fold, read_table

# Times per year. An adverb tells how often; a noun does so too ("5k/month"), except after a small
# number: "24 months" is a duration, which changes nothing.
_ADVERBS = """
365 /d daily täglich diario diária giornaliero ежедневно günlük 毎日 每天 每日 日額 매일 日均 दैनिक
52  /w weekly pw wöchentlich hebdo hebdomadaire semanal semanales settimanale wekelijks tygodniowo
    еженедельно haftalık 毎週 每周 每週 週額 매주 주당 साप्ताहिक
26  biweekly fortnightly
12  /m /md /mnd /mon monthly pm pcm mtl monatlich mensuel mensuelle mensuels mensual mensuales
    mensal mensais mensile mensili maandelijks månadsvis miesięcznie mies ежемесячно aylık hàng
    bulanan รายเดือน मासिक شهريا شهري חודשי 月額 月々 毎月 每月 月次 月均 월간 매월 매달 월별
4   /q quarterly quartalsweise vierteljährlich trimestriel trimestrielle trimestral trimestrale
    kwartalnie ежеквартально 毎四半期 每季度 每季 분기별 매분기
2   halbjährlich semestriel semestral 半年 半期 반기
1   /y /a /j yearly annual annually pa annuel annuelle anual anuales annuo annuale jährlich
    jaarlijks rocznie ежегодно yıllık tahunan वार्षिक सालाना سنويا سنوي שנתי
    年間 年額 毎年 每年 年均 연간 매년
"""
_NOUNS = """
365 day days tag tage tagen jour jours día días dia dias giorno giorni dag dagen dni день дней gün
    ngày hari दिन يوم יום 日 日間 天 하루
52  week weeks wk wks woche wochen semaine semaines semana semanas settimana settimane weken
    tydzień tygodni неделя недель неделю hafta tuần minggu हफ़्ते सप्ताह أسبوع שבוע
    週 周 週間 星期 주일 주간 일주일
26  fortnight
12  month months mo mos mth mths monat monate monaten monats mois mes meses mês mese mesi maand
    maanden månad måned måneder mdr miesiąc miesięcy měsíc měsíčně мес месяц месяца месяцев
    ay tháng bulan bln เดือน महीना महीने माह شهر חודש
    月 ヶ月 か月 カ月 ヵ月 ケ月 个月 個月 箇月 월 개월 달
4   quarter quarters qtr quartal quartale trimestre trimestres kwartał kwartaal kvartal квартал quý
    四半期 季度 季 분기 तिमाही
2   semester semesters semestre semestres halbjahr полугодие
1   year years yr yrs annum jahr jahre jahren jahres an ans année années año años ano anos anno anni
    jaar jaren rok roku lat год года лет году năm tahun yıl ปี साल वर्ष سنة שנה 年 年度 연 년
"""
_DEADLINES = """
next this last coming nächsten nächster nächstes diesen dieses prochain ce próximo este prossimo
questo следующем этом
"""
_LATER = "今月 来月 先月 本月 次月 下月 上月 下个月 上个月 이번달 다음달 이번주 今週 来週 本周 下周"
_DATES = """
january february march april may june july august september october november december
jan feb mar apr jun jul aug sep sept oct nov dec januar februar märz mai juni juli oktober dezember
mär okt dez janvier février mars avril juin juillet août septembre octobre novembre décembre
janv févr avr juil enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre
diciembre gennaio febbraio aprile maggio giugno luglio settembre ottobre dicembre
января февраля марта апреля мая июня июля августа сентября октября ноября декабря
"""
_SINCE = "since founded established est in by until year fy gj seit bis depuis desde fondée с"

PERIODS = read_table(_ADVERBS)
TIME_NOUNS = read_table(_NOUNS)
LATER = frozenset(fold(_LATER).split())
"""Words that contain a noun of time, but tell when."""
DEADLINES = frozenset(fold(_DEADLINES).split())
"""Words before a noun of time that make it a deadline: "next month"."""
MONTH_NAMES = frozenset(fold(_DATES).split())
YEAR_MARKS = frozenset(fold(_SINCE).split())
"""Words before a year."""
