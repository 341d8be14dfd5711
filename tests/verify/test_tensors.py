"""Torch's objects as plain data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from verify.codec import decode, encode
from verify.plain import DTYPES, Opaque, Plain
from verify.tensors import from_plain, plain, to_array, to_tensor


@pytest.mark.parametrize("name", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 4)])
def test_every_dtype_crosses_and_comes_back(name: str, shape: tuple[int, ...]) -> None:
    tensor = (torch.rand(shape) * 5).to(getattr(torch, name))
    came = to_tensor(decode(encode(to_array(tensor))))  # type: ignore[arg-type]
    assert came.dtype == tensor.dtype
    assert torch.equal(came, tensor)


def test_views_graphs_and_layouts_do_not_matter() -> None:
    tensor = torch.arange(12.0, requires_grad=True).reshape(3, 4).t()[1:]
    assert torch.equal(to_tensor(to_array(tensor)), tensor)


def test_what_comes_back_shares_no_memory() -> None:
    tensor = torch.zeros(3)
    came = from_plain(plain(tensor))
    came += 1  # type: ignore[operator]
    assert torch.equal(tensor, torch.zeros(3))


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.bfloat16, "bfloat16"),
        (torch.device("cuda:1"), "cuda:1"),
        ((1, 2.5), [1, 2.5]),
        (np.float64(2.5), 2.5),
        (np.int32(3), 3),
        ({"a": (1,)}, {"a": [1]}),
    ],
)
def test_what_has_a_plain_form_takes_it(value: object, expected: Plain) -> None:
    assert plain(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        Hostile(),
        {1: 2},
        torch.empty(2, device="meta"),
        torch.ones(2).to_sparse(),
        torch.ones(2, dtype=torch.complex64),
    ],
)
def test_everything_else_is_opaque(value: object) -> None:
    assert isinstance(plain(value), Opaque)


def test_a_list_that_contains_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    plain(loop)
