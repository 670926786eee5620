import time

from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from service.ids import encode_ulid, make_id


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**80 - 1))
def test_an_id_is_what_the_ulid_library_makes_of_the_same_bits(ms: int, bits: int) -> None:
    assert encode_ulid(ms, bits) == str(ULID.from_int(ms << 80 | bits))


def test_ids_differ_and_carry_the_time_they_were_made() -> None:
    before = time.time() - 0.001
    ids = [make_id("lead") for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 31 and each.startswith("lead_") for each in ids)
    assert before <= ULID.from_str(ids[0][5:]).timestamp <= time.time()
