"""Currencies as people write them, with rough rates."""

from workers.scoring.folding import read_table

# Units per US dollar, roughly: scores need no more. The euro, the pound and the Swiss franc count
# as dollars, and so do the currencies that are not listed. A bare "$" or "¥" gives way to a name
# beside it ("$500 CAD", "¥50万元"); "pesos" are Mexican, "kr" Swedish and "rs" Indian.
_TEXT = """
1      $ us us$ usd dollar dollars dolar dolares dolares dollari dolarow bucks доллар долларов
       美元 美金 米ドル ドル 달러 미국달러 डॉलर دولار דולר đô
1      € eur euro euros euroa evro евро ευρω 欧元 歐元 ユーロ 유로 यूरो يورو אירו
1      £ gbp pound pounds quid sterling 英镑 英鎊 ポンド 파운드
1      chf sfr fr franken francs franchi 瑞郎 スイスフラン
1.4    c$ ca$ cad
1.5    a$ au$ aud
1.7    nz$ nzd
1.3    s$ sg$ sgd 新币
3.7    aed dh dhs dirham dirhams درهم sar riyal ريال qar pen soles s/ s/.
3.5    ₪ ils nis shekel shekels שקל שקלים שח ש"ח ש״ח
4      pln zł zl zloty zlote zlotych złoty złote złotych
4.4    ron lei leu myr rm ringgit
5      r$ brl real reais
7      cny rmb cnh yuan 元 块 块钱 塊 人民币 人民幣 圆 위안 人民元 युआन dkk
7.8    hk$ hkd 港元 港币 港幣
10     sek nok kr kronor kroner kronen
18     r zar rand
20     mx$ mxn peso pesos
22     czk kč kc korun
32     nt$ twd 台币 台幣 新台币 新台幣
33     ฿ thb baht บาท
40     ₺ tl lira lirasi
40     ₴ uah грн гривень гривня гривні гривны
50     egp
57     ₱ php
85     ₹ inr rs re rupee rupees rupaye 卢比 ルピー रुपये रुपए रुपया रु
90     ₽ rub rur р руб рублей рубля рубль рублях
120    bdt taka ৳ টাকা
130    kes ksh
150    ¥ jpy yen 円 日元 日圓 엔
280    pkr
360    huf ft forint
500    ₸ kzt тг тенге
950    clp
1200   ars
1400   ₩ krw won 원 韩元 韓元 ウォン
1500   ₦ ngn naira
4000   cop
16000  idr rp rupiah
50000  تومان toman tomans
500000 ﷼ ریال irr
25000  ₫ vnd đ đồng dong 越南盾
40     try
"""

WEAK = frozenset(("$", "us", "¥"))
"""These give way to another currency of the same text."""
AFTER_ONLY = frozenset(("try", "won", "real", "re", "fr", "us"))
"""Before a number these are other words: "we won 5000"."""

CURRENCIES = read_table(_TEXT)
"""Units per US dollar by folded word or symbol."""
