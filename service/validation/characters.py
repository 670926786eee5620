"""Characters that nobody sees, and texts that look empty."""

import re

INVISIBLE = re.compile(
    # Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt, 16.0)
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    # letters and signs that are drawn as nothing
    r"\ufff9-\ufffb\u2800\U0001d159\U00016fe4\U00013441\U00013442]"
)
"""One character that leaves no mark on a page, other than spaces and control characters."""
_MARK = re.compile(rf"(?!{INVISIBLE.pattern})\S")


def is_blank(text: str) -> bool:
    """Whether a text is empty, or nothing of it can be seen."""
    return _MARK.search(text) is None
