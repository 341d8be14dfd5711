"""What is almost as it should be: a plain value of which one thing was changed."""

from __future__ import annotations

import math
from typing import Final

from hypothesis import strategies as st

from tests.fuzz.values import PLAIN
from verify.plain import DTYPES, Array, Plain, Raised

_NUMBERS: Final = st.sampled_from(
    (0, -1, 1, 2**31, 2**63, -(2**64), 2**500, 0.5, 1e308, math.nan, math.inf, -math.inf, -0.0)
)
SHORT: Final = st.text(max_size=8)
_ENDS: Final = st.sampled_from(
    ("NotImplementedError", "MissingFunction", "MemoryError", "KeyError")
)
GARBAGE: Final = st.one_of(
    PLAIN,
    _NUMBERS,
    st.booleans(),
    st.builds(Raised, _ENDS | SHORT, SHORT, st.none() | st.integers(-1, 2**70), SHORT),
    st.sampled_from(
        (Array("float32", (2**16, 2**16, 0), b""), Array("float32", (), b"\0\0\xc0\x7f"))
    ),
)


@st.composite
def other_array(draw: st.DrawFn, array: Array) -> Array:
    """Draw a tensor that differs from ``array`` in one way or other."""
    size = len(array.data)
    count = math.prod(array.shape)
    how = draw(st.sampled_from(("dtype", "flat", "row", "fill", "bytes", "empty")))
    if how == "dtype":
        dtype = draw(st.sampled_from(sorted(DTYPES)))
        return Array(dtype, array.shape, array.data[:1] * (count * DTYPES[dtype]))
    if how == "fill" and array.dtype == "float32":
        nan = draw(st.sampled_from((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f")))
        return Array(array.dtype, array.shape, nan * count)
    if how == "bytes" and size:
        at = draw(st.integers(0, size - 1))
        put = draw(st.binary(min_size=1, max_size=8))
        return Array(array.dtype, array.shape, (array.data[:at] + put + array.data[at:])[:size])
    if how == "empty":
        return Array(array.dtype, (0, *array.shape[1:]), b"")
    return Array(array.dtype, (1, *array.shape) if how == "row" else (count,), array.data)


@st.composite
def changed(draw: st.DrawFn, value: Plain) -> Plain:
    """Draw ``value`` with one thing in it changed, somewhere."""
    if draw(st.integers(0, 5)) == 0:
        return draw(GARBAGE)
    if isinstance(value, list) and value:
        at = draw(st.integers(0, len(value) - 1))
        inner = draw(
            changed(value[at]).map(lambda it: [it]) | st.sampled_from(([], [value[at]] * 2, [None]))
        )
        return [*value[:at], *inner, *value[at + 1 :]]
    if isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 3)) == 0:
            return {draw(SHORT) if name == key else name: it for name, it in value.items()}
        return {**value, key: draw(changed(value[key]))}
    if isinstance(value, Array):
        return draw(other_array(value))
    return draw(GARBAGE)
