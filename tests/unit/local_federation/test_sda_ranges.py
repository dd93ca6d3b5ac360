"""What a byte range of RFC 9110 means: never a byte outside the file, and a malformed range is the whole file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdi.local_federation.sda.archive import safe_parts
from gdi.local_federation.sda.ranges import Span, Unsatisfiable, span


@given(
    st.text(alphabet="bytes=-,0123456789 ", max_size=30)
    | st.builds("bytes={}-{}".format, st.integers(0, 2**62), st.integers(0, 2**62)),
    st.integers(0, 10**6),
)
def test_no_range_reaches_outside_the_file(header: str, size: int) -> None:
    try:
        found = span(header, None, '"e"', size)
    except Unsatisfiable:
        return
    assert 0 <= found.start <= size and 0 <= found.length <= size - found.start
    assert found.partial or found == Span(0, size, False)


@given(st.integers(1, 10**9), st.data())
def test_a_good_range_is_exactly_what_was_asked_for(size: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start, size - 1))
    assert span(f"bytes={start}-{end}", None, '"e"', size) == Span(start, end - start + 1, True)
    assert span(f"bytes={start}-", '"e"', '"e"', size) == Span(start, size - start, True)
    assert span(f"bytes={start}-{end}", '"old"', '"e"', size) == Span(0, size, False)


def test_behind_the_end_there_is_nothing() -> None:
    for header, size in (("bytes=10-", 10), ("bytes=0-0", 0), ("bytes=-0", 10), ("bytes=-5", 0)):
        with pytest.raises(Unsatisfiable):
            span(header, None, '"e"', size)


@given(st.text(max_size=60))
def test_no_path_part_leads_up_or_names_something_hidden(path: str) -> None:
    parts = safe_parts(path)
    assert parts is None or all(p and not p.startswith(".") and "\0" not in p for p in parts)
