"""Documents of very many values are refused before they are read: a parser's time and memory grow with them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs import document
from specs.document import MAX_VALUES, read_document
from specs.errors import InputError


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_ten_million_values(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"circuit.{suffix}"
    file.write_text('{"kept": [' + "0," * 10**7 + "0]}")
    began = time.process_time()
    with pytest.raises(InputError, match=f"10000000 values; at most {MAX_VALUES // (4 if suffix == 'yaml' else 1)}"):
        read_document(str(file))
    assert time.process_time() - began < 2


def test_a_million_values_of_another_tool_take_seconds(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    file.write_text("[" + ",".join(['["a0.h0->m0", 0.5]'] * (MAX_VALUES // 2)) + "]")
    began = time.process_time()
    assert len(read_document(str(file), nan=True)) == MAX_VALUES // 2  # pyright: ignore[reportArgumentType]
    assert time.process_time() - began < 5


_TEXTS = st.text(st.sampled_from('[]{}"\\,a\u00e9'), max_size=40)


def _depth(text: str) -> int:
    """The most brackets open at once, outside of strings, up to the first backslash where no string is: malformed there."""
    depth = most = at = 0
    inside = False
    while at < len(text):
        if text[at] == "\\":
            if not inside:
                break
            at += 1
        elif text[at] == '"':
            inside = not inside
        elif not inside:
            depth += (text[at] in "[{") - (text[at] in "]}")
            most = max(most, depth)
        at += 1
    return most


@given(_TEXTS, st.integers(0, 5))
def test_depth_is_told_without_parsing(text: str, limit: int) -> None:
    deeper = document._deeper_than(text, limit)  # pyright: ignore[reportPrivateUsage]
    most = _depth(text)
    assert deeper or most <= limit
    assert deeper == (most > limit) or "\\" in text


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(_VALUES, st.booleans(), st.integers(0, document.MAX_DEPTH + 2))
def test_the_quick_look_refuses_what_the_slow_one_does(value: object, nan: bool, depth: int) -> None:
    for _ in range(depth):
        value = [value]
    try:
        document._check("f", value, nan)  # pyright: ignore[reportPrivateUsage]
    except InputError:
        sound = False
    else:
        sound = True
    assert document._sound(value, nan) == sound  # pyright: ignore[reportPrivateUsage]
