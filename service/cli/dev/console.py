"""The messages of `leadlog dev`, on a terminal or behind a pipe."""

import shlex
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from service.cli.address import find_reachable_host, make_url
from service.settings import Settings


class PipeSafeConsole(Console):
    """A console that stops printing when its pipe is closed (`leadlog dev | tee log`, Ctrl-C)."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class DevConsole:
    def __init__(self) -> None:
        self._console = PipeSafeConsole()

    @property
    def is_terminal(self) -> bool:
        return self._console.is_terminal

    def report(self, sentence: str) -> None:
        self._print(Text(sentence, style="dim" if self.is_terminal else ""))

    def report_ready(self, settings: Settings, key_file: Path, key: str) -> None:
        """Prints the URL, the admin key, the documentation, and three requests to try."""
        ready = f"Leadlog is ready at {make_url(settings.host, settings.port)}"
        facts = f"Admin key: {key} (also in {key_file})"
        if self.is_terminal:
            self._print(Panel.fit(Text(ready, style="bold green"), padding=(0, 2)))
        else:
            self._print(Text(ready))
        self._print(Text(facts))
        docs = f"{make_url(find_reachable_host(settings.host), settings.port)}/docs"
        self._print(Text(f"Documentation, with a quickstart: {docs}"))
        self._print(Text("Try:"))
        for line in make_examples(settings, key_file):
            self._print(Text(line, style="cyan" if self.is_terminal else ""))

    def _print(self, content: Text | Panel) -> None:
        # Not wrapped, so that lines can be copied.
        self._console.print(content, soft_wrap=True)


def make_examples(settings: Settings, key_file: Path) -> list[str]:
    """Three curl commands. They read the key from its file to keep it out of the shell history."""
    url = make_url(find_reachable_host(settings.host), settings.port)
    curl = f'curl -sS -H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})"'
    lead = '\'{"email": "sarah@acmecorp.com", "name": "Sarah Chen", "company": "Acme Corp"}\''
    return [
        f"{curl} {url}/v1/leads -H 'Content-Type: application/json' -d {lead}",
        f"{curl} '{url}/v1/leads?limit=5&sortBy=score'",
        f"{curl} '{url}/v1/leads/search?q=acme'",
    ]
