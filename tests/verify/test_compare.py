"""Comparison: every right answer, however written, and no wrong one."""

from __future__ import annotations

import math

import pytest
import torch

from verify.compare import same
from verify.plain import Opaque, Raised
from verify.tensors import plain

T = torch.tensor


@pytest.mark.parametrize(
    ("came", "truth"),
    [
        (2, 2.0),
        (2.0, 2),
        (T(2.0), 2.0),
        (T(2), 2.0),
        (2.00001, 2.0),
        (T([1.0, 2.0]), T([1.0, 2.0], dtype=torch.float64)),
        (T([1.0, 2.0]).bfloat16(), T([1.0, 2.0])),
        (T([1, 2], dtype=torch.int32), T([1, 2])),
        ([1, [2.0]], [1.0, [2]]),
        ({"a": 1}, {"a": 1.0}),
        (math.nan, math.nan),
        (math.inf, math.inf),
        (None, None),
        ("a", "a"),
        (True, True),
        (T(True), True),
        (T([1e6, 1e-3]), T([1e6, 0.0])),
    ],
)
def test_right_answers_are_the_same(came: object, truth: object) -> None:
    assert same(plain(came), plain(truth))


@pytest.mark.parametrize(
    ("came", "truth"),
    [
        (2.1, 2.0),
        (True, 1),
        (1, True),
        ("2", 2),
        (None, 0),
        ([2.0], 2.0),
        (T([2.0]), 2.0),
        (math.nan, 2.0),
        (2.0, math.nan),
        (math.inf, 1e308),
        (-math.inf, math.inf),
        (10**400, 2.0),
        (T([1.0, 2.0]), T([[1.0, 2.0]])),
        (T([1.0, math.nan]), T([1.0, 2.0])),
        (T([1.0, math.inf]), T([1.0, 2.0])),
        (T([1, 2]), T([1.0, 2.0])),
        (T([1.0, 2.0]), T([1, 2])),
        ([1.0], [1.0, 2.0]),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"b": 1}, {"a": 1}),
        ("ab", b"ab"),
    ],
)
def test_wrong_answers_are_not(came: object, truth: object) -> None:
    assert not same(plain(came), plain(truth))


def test_exceptions_are_the_same_by_type_and_by_what_they_say() -> None:
    assert same(Raised("ValueError", "a", 3), Raised("ValueError", "a", None))
    assert not same(Raised("ValueError", "a", 3), Raised("ValueError", "b", 3))
    assert same(
        Raised("ZeroDivisionError", "division by zero", 3),
        Raised("ZeroDivisionError", "float division by zero", 3),
    )
    assert not same(Raised("ValueError", "a", 3), Raised("TypeError", "a", 3))
    assert not same(Opaque("ValueError", "a"), Raised("ValueError", "a", 3))


def test_byte_counts_can_be_compared_to_the_byte() -> None:
    assert same(10**15 + 1, 10**15, rtol=0, atol=1)
    assert not same(10**15 + 2, 10**15, rtol=0, atol=1)
