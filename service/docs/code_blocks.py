"""Code in pages: blocks with colours and a caption, and code inside sentences."""

import re

from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name

_FORMATTER = HtmlFormatter(nowrap=True)
_LANGUAGES = {
    "sh": ("bash", "Shell"),
    "python": ("python", "Python"),
    "js": ("js", "Node.js"),
    "ruby": ("ruby", "Ruby"),
    "go": ("go", "Go"),
    "php": ("php", "PHP"),
    "json": ("json", "JSON"),
    "http": ("text", "HTTP"),
    "sql": ("sql", "SQL"),
    "text": ("text", "Output"),
}
"""The lexer and the caption by the first word of an info string."""
_BREAKABLE = re.compile(r"(?<=[\w}]/)(?=[\w{])")
_LONG = 24
"""Characters of code that fit on a line of any phone."""


def render_code(code: str, info: str) -> str:
    """Render a block. `info` is `LANGUAGE [title=FILE] [run]`; the last is for the tests."""
    language, *words = info.split()
    lexer, caption = _LANGUAGES[language]
    titles = [word.removeprefix("title=") for word in words if word.startswith("title=")]
    title = titles[0] if titles else caption
    coloured = highlight(code, get_lexer_by_name(lexer), _FORMATTER).rstrip("\n")
    return (
        f'<figure class="code"><figcaption>{escape(title)}</figcaption>'
        f'<pre tabindex="0"><code class="{language}">{coloured}</code></pre></figure>\n'
    )


def render_inline_code(code: str) -> str:
    """Render code inside a sentence; a line ends inside it only if it is long."""
    short = ' class="short"' if len(code) <= _LONG else ""
    return f"<code{short}>{break_after_slashes(code)}</code>"


def break_after_slashes(text: str) -> Markup:
    """Allow a line to end after a slash of a long path, so that it never ends inside a word."""
    return escape(text) if len(text) <= _LONG else Markup("<wbr>").join(_BREAKABLE.split(text))
