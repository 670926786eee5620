"""Names in Latin letters, for e-mail addresses: most people write their address so.

The letters are those that a reader expects, not those of a standard.
"""

import unicodedata

_TEXT = """
а a б b в v г g д d е e ё e ж zh з z и i й y к k л l м m н n о o п p р r с s т t у u ф f х kh ц ts
ч ch ш sh щ sch ы y э e ю yu я ya
α a β v γ g δ d ε e ζ z η i θ th ι i κ k λ l μ m ν n ξ x ο o π p ρ r σ s ς s τ t υ y φ f χ ch ψ ps
ω o
א a ב b ג g ד d ה h ו o ז z ח h ט t י i כ k ך k ל l מ m ם m נ n ן n ס s ע a פ p ף p צ ts ץ ts ק k
ר r ש sh ת t
ا a أ a إ i آ a ب b ت t ث th ج j ح h خ kh د d ذ dh ر r ز z س s ش sh ص s ض d ط t ظ z ع a غ gh ف f
ق q ك k ل l م m ن n ه h و u ي i ى a ة a ؤ u ئ i ء a
ß ss ø o ł l đ d ı i æ ae œ oe
"""  # noqa: RUF001  # these letters are meant
_LETTERS = dict(zip(_TEXT.split()[::2], _TEXT.split()[1::2], strict=True))
_NAMED = ("HANGUL SYLLABLE ", "DEVANAGARI LETTER ", "DEVANAGARI VOWEL SIGN ", "THAI CHARACTER ")
_MUTE = {"DEVANAGARI SIGN VIRAMA": "", "DEVANAGARI SIGN ANUSVARA": "n"}


def romanize(text: str) -> str:
    """The text in the letters a to z; empty if nothing is known about its script."""
    written = ""
    for letter in unicodedata.normalize("NFC", text.lower()):
        written = _append(written, letter)
    return "".join(letter for letter in written if "a" <= letter <= "z")


def _append(written: str, letter: str) -> str:
    """Appends a letter. Indian letters have an `a` inside, which a vowel sign replaces."""
    if letter in _LETTERS:
        return written + _LETTERS[letter]
    name = unicodedata.name(letter, "")
    if name in _MUTE or name.startswith("DEVANAGARI VOWEL SIGN"):
        written = written.removesuffix("a")
    if name in _MUTE:
        return written + _MUTE[name]
    for beginning in _NAMED:
        if name.startswith(beginning):
            return written + _read_name(name.removeprefix(beginning), beginning)
    plain = unicodedata.normalize("NFD", letter)[0]
    return written + _LETTERS.get(plain, plain)


def _read_name(name: str, beginning: str) -> str:
    """The sound of a letter whose name in Unicode begins with or consists of it."""
    sound = name.lower().split()
    if beginning != "THAI CHARACTER ":
        return sound[-1]
    if sound[0] == "sara":
        return sound[1][:1]
    return sound[0].removesuffix("o") if sound[0][-1:] == "o" and len(sound) > 1 else ""
