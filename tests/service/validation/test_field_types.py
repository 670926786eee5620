from datetime import UTC, datetime

import pytest

from service.validation.characters import is_blank
from service.validation.field_types import check_moment, parse_moment


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000"),
        ("0001-01-01T00:00:00+23:59", None),
        ("0001-01-01", "0001-01-01T00:00:00.000"),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999"),
        ("9999-12-31T23:59:59-23:59", None),
        ("2026-04-05t15:08:42z", "2026-04-05T15:08:42.000"),
        ("2026-04-05t15:08:42.5+02:00", "2026-04-05T13:08:42.500"),
        ("2026-04-05 15:08:42Z", "2026-04-05T15:08:42.000"),
    ],
)
def test_a_time_is_read_to_the_millisecond(text: str, milliseconds: str | None) -> None:
    if milliseconds is None:
        assert [fault.field for fault in check_moment("since")(text)] == ["since"]
        return
    moment = parse_moment(text)
    assert moment.replace(tzinfo=None).isoformat(timespec="milliseconds") == milliseconds
    assert moment not in {datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)}


def test_a_plus_that_a_query_string_turned_into_a_space_is_explained() -> None:
    [fault] = check_moment("createdAfter")("2026-04-05T15:08:42 02:00")
    assert fault.message.endswith("+ is written %2B.")


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000", "\u200b \ufeff", "\u3164", "\u2800"])
def test_a_text_without_a_visible_character_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", " - ", "0", "\u200bא", "\u0301", "😀"])
def test_a_text_with_a_visible_character_is_not_blank(text: str) -> None:
    assert not is_blank(text)
