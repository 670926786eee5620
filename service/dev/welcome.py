"""What `leadlog dev` says to the person at the terminal, or to the log behind a pipe."""

import shlex
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from service.address import find_reachable_host, make_url
from service.settings import Settings


class LastingConsole(Console):
    """Falls silent when nobody reads any more (`leadlog dev | tee log`, Ctrl-C): we must go on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Announcer:
    def __init__(self) -> None:
        self._console = LastingConsole()

    @property
    def is_terminal(self) -> bool:
        return self._console.is_terminal

    def say(self, sentence: str) -> None:
        self._print(Text(sentence, style="dim" if self.is_terminal else ""))

    def welcome(self, settings: Settings, key_file: Path, key: str) -> None:
        """Where Leadlog is, the admin key, and three requests to try."""
        ready = f"Leadlog is ready at {make_url(settings.host, settings.port)}"
        facts = f"Admin key: {key} (also in {key_file})"
        if self.is_terminal:
            self._print(Panel.fit(Text(ready, style="bold green"), padding=(0, 2)))
        else:
            self._print(Text(ready))
        self._print(Text(facts))
        self._print(Text("Try:"))
        for line in make_examples(settings, key_file):
            self._print(Text(line, style="cyan" if self.is_terminal else ""))

    def _print(self, what: Text | Panel) -> None:
        # Lines that are to be copied must not be wrapped.
        self._console.print(what, soft_wrap=True)


def make_examples(settings: Settings, key_file: Path) -> list[str]:
    """Three curl lines; the key comes out of its file, so that no shell history keeps it."""
    url = make_url(find_reachable_host(settings.host), settings.port)
    curl = f'curl -sS -H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})"'
    lead = '\'{"email": "sarah@acmecorp.com", "name": "Sarah Chen", "company": "Acme Corp"}\''
    return [
        f"{curl} {url}/v1/leads -H 'Content-Type: application/json' -d {lead}",
        f"{curl} '{url}/v1/leads?limit=5&sortBy=score'",
        f"{curl} '{url}/v1/leads/search?q=acme'",
    ]
