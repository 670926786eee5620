"""Classifies the domain of an e-mail address: a company, a free provider or a disposable one.

Free providers are listed here: the few that have nearly all free mailboxes, international brands by
pattern. The packages that list thousands are untyped and unmaintained, and contain domains of
companies too. Disposable domains change weekly and come from a maintained package.
"""

import re
from typing import Literal

from disposable_email_domains import blocklist

DomainClass = Literal["company", "free", "disposable"]

_BRANDS = re.compile(
    r"(?:aol|gmx|hotmail|live|mail|msn|outlook|rocketmail|windowslive|yahoo|yandex|ymail|zoho"
    r"|zohomail)\.(?:com|net|org|eu|[a-z]{2}|com?\.[a-z]{2})"
)
_FREE_TEXT = """
gmail.com googlemail.com icloud.com me.com mac.com mail.com email.com inbox.com pm.me proton.me
protonmail.com protonmail.ch tuta.com tuta.io tutanota.com tutanota.de tutamail.com hey.com
fastmail.com fastmail.fm hushmail.com duck.com mozmail.com usa.com myself.com consultant.com
comcast.net verizon.net att.net sbcglobal.net bellsouth.net cox.net charter.net earthlink.net
shaw.ca rogers.com sympatico.ca btinternet.com virginmedia.com sky.com talktalk.net ntlworld.com
web.de t-online.de freenet.de arcor.de online.de posteo.de mailbox.org bluewin.ch hispeed.ch
orange.fr wanadoo.fr free.fr laposte.net sfr.fr neuf.fr bbox.fr skynet.be telenet.be ziggo.nl
kpnmail.nl xs4all.nl planet.nl hetnet.nl libero.it virgilio.it tiscali.it alice.it tin.it
fastwebnet.it telefonica.net terra.es sapo.pt iol.pt uol.com.br bol.com.br terra.com.br ig.com.br
globo.com globomail.com prodigy.net.mx wp.pl o2.pl onet.pl op.pl interia.pl gazeta.pl seznam.cz
centrum.cz email.cz post.cz azet.sk zoznam.sk freemail.hu citromail.hu abv.bg mail.bg ukr.net i.ua
meta.ua bk.ru inbox.ru list.ru internet.ru rambler.ru ya.ru online.no telia.com bredband.net
elisanet.fi kolumbus.fi walla.co.il walla.com mynet.com rediffmail.com sify.com qq.com foxmail.com
163.com 126.com yeah.net sina.com sina.cn sohu.com aliyun.com 139.com 189.cn naver.com daum.net
hanmail.net kakao.com nate.com docomo.ne.jp ezweb.ne.jp softbank.ne.jp i.softbank.jp nifty.com
biglobe.ne.jp bigpond.com optusnet.com.au xtra.co.nz webmail.co.za mweb.co.za
"""
_FREE = frozenset(_FREE_TEXT.split())


def classify_domain(domain: str) -> DomainClass:
    """The class of a domain, which must be in lower case and in ASCII (A-labels)."""
    if _BRANDS.fullmatch(domain) or domain in _FREE:
        return "free"
    labels = domain.split(".")
    # Disposable services use subdomains too: x7f.mailinator.com.
    if any(".".join(labels[start:]) in blocklist for start in range(len(labels) - 1)):
        return "disposable"
    return "company"
