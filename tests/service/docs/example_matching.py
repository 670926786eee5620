"""Compares a response of the service with its example, which has other ids, times and secrets."""

import re
from typing import Any

_ID = re.compile(r"(lead|key|wh|dlv|rpl|evt)_[0-9A-Za-z]+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_SECRETS = {"key", "last4", "secret", "nextCursor"}


class Matcher:
    """Holds that an id or time of the examples always stands for the same id or time."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def name(self, shown: str, real: str) -> None:
        """Let an id of the examples stand for a real one from now on."""
        self._ids[shown] = real

    def find(self, shown: str) -> str:
        """The real id for an id of the examples; itself if there is none yet."""
        return self._ids.get(shown, shown)

    def check(self, example: Any, real: Any, at: str = "$") -> None:
        """Assert that the response is like its example, with the fields in the same order."""
        if isinstance(example, dict):
            assert isinstance(real, dict), (at, real)
            assert list(example) == list(real), (at, list(real))
            for name, value in example.items():
                self._check_field(name, value, real[name], f"{at}.{name}")
        elif isinstance(example, list):
            assert isinstance(real, list), (at, real)
            assert len(example) == len(real), (at, real)
            for index, value in enumerate(example):
                self.check(value, real[index], f"{at}.{index}")
        elif isinstance(example, str) and isinstance(real, str):
            self._check_text(example, real, at)
        else:
            assert (example, type(example)) == (real, type(real)), at

    def _check_field(self, name: str, example: Any, real: Any, at: str) -> None:
        if name in _SECRETS and example is not None:
            assert isinstance(real, str), at
        elif name.endswith("Ms") and isinstance(example, float):
            assert real is None or isinstance(real, float), at
        else:
            self.check(example, real, at)

    def _check_text(self, example: str, real: str, at: str) -> None:
        if _TIME.fullmatch(example):
            assert _TIME.fullmatch(real), (at, real)
            return
        shown, found = _ID.findall(example), _ID.findall(real)
        assert shown == found, (at, real)
        for one, other in zip(_ID.finditer(example), _ID.finditer(real), strict=True):
            assert self._ids.setdefault(one[0], other[0]) == other[0], (at, real)
        assert _hide(example) == _hide(real), at


def _hide(text: str) -> str:
    """The text without what differs from run to run."""
    return _TIME.sub("time", _ID.sub("id", text))
