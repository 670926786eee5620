import re
import time
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from service.ids import _encode_time, make_id, make_request_id

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@given(st.integers(0, 2**48 - 1))
def test_the_time_is_written_as_the_ulid_library_writes_it(ms: int) -> None:
    assert _encode_time(ms) == str(ULID.from_int(ms << 80))[:10]


def test_ids_differ_and_contain_the_time_of_their_creation() -> None:
    before = time.time() - 0.001
    ids = [make_id("lead") for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(f"lead_[{ALPHABET}]{{26}}", each) for each in ids)
    assert before <= ULID.from_str(ids[0][5:]).timestamp <= time.time()


def test_a_request_id_tells_nothing_of_the_requests_before_it() -> None:
    ids = [make_request_id() for _ in range(32_000)]
    assert all(re.fullmatch(f"req_[{ALPHABET}]{{26}}", each) for each in ids)
    assert len(set(ids)) == len(ids)
    for place in range(-16, 0):
        assert len({each[place] for each in ids[:1000]}) == len(ALPHABET)
    rising = sum(a < b for a, b in pairwise(ids))
    assert 15_000 < rising < 17_000  # half of them, give or take 11 sigma


def test_every_digit_is_equally_frequent_at_every_random_position() -> None:
    ids = [make_id("lead")[-16:] for _ in range(32_000)]
    for place in range(16):
        counts = Counter(each[place] for each in ids)
        assert set(counts) == set(ALPHABET)
        assert all(800 < count < 1200 for count in counts.values())  # 1000, give or take 6 sigma
