"""Plain data: the only kind of value that crosses from the learner's process to the judge's.

A plain value is None, bool, int, float, str, bytes, a list of plain values, a dict with str keys
and plain values, or one of the three records below.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

DTYPES: dict[str, int] = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
}
"""The element types that may cross, with their size in bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Array:
    """A tensor: dtype name, shape, and elements as little-endian bytes in row-major order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Opaque:
    """Something that is not plain: its type's name and a short text, never the thing itself."""

    type: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Raised:
    """An exception that ended a call.

    ``text`` is its message, ``line`` the last line of ``exercise.py`` it passed through (or None)
    and ``code`` what stands there.
    """

    type: str
    text: str
    line: int | None
    code: str = ""


Plain: TypeAlias = (
    bool
    | int
    | float
    | str
    | bytes
    | list["Plain"]
    | dict[str, "Plain"]
    | Array
    | Opaque
    | Raised
    | None
)
