"""Torch's objects as plain data."""

from __future__ import annotations

from collections.abc import Callable

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


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1.5, 2.5])[::2],  # one element, and a stride of two
        torch.empty(0, dtype=torch.bfloat16)[::2],
        torch.arange(4.0).reshape(2, 2)[:, :1][:1],
        torch._neg_view(torch.tensor(2.5)),
        torch.tensor([1 + 2j]).conj().imag,
        torch.tensor(1.5).expand(2, 3),
    ],
)
def test_how_a_tensor_lies_in_memory_does_not_matter(tensor: torch.Tensor) -> None:
    came = to_tensor(to_array(tensor))
    assert (came.shape, came.dtype) == (tensor.shape, tensor.dtype)
    assert torch.equal(came, tensor)


def test_another_default_device_of_the_learners_does_not_matter() -> None:
    tensor = torch.ones(2)
    with torch.device("meta"):
        assert to_array(tensor).data == torch.ones(2, device="cpu").numpy().tobytes()


def test_what_comes_back_shares_no_memory() -> None:
    tensor = torch.zeros(3)
    came = from_plain(plain(tensor))
    came += 1  # type: ignore[operator]
    assert torch.equal(tensor, torch.zeros(3))


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Trap(Hostile):
    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


class Scalar(Hostile):
    shape = ()

    def item(self) -> object:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.bfloat16, "bfloat16"),
        (torch.device("cuda:1"), "cuda:1"),
        ((1, 2.5), [1, 2.5]),
        (np.float64(2.5), 2.5),
        (np.int32(3), 3),
        (np.array(2.5), 2.5),
        ({"a": (1,)}, {"a": [1]}),
    ],
)
def test_what_has_a_plain_form_takes_it(value: object, expected: Plain) -> None:
    assert plain(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        Hostile(),
        Trap(),
        Scalar(),
        {1: 2},
        torch.empty(2, device="meta"),
        torch.ones(2).to_sparse(),
        torch.ones(2, dtype=torch.complex64),
    ],
    ids=lambda value: type(value).__name__,
)
def test_everything_else_is_opaque(value: object) -> None:
    assert isinstance(plain(value), Opaque)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of what it has not finished
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(2).to_sparse_csr(),
        lambda: torch.eye(2).to_mkldnn(),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    ],
)
def test_a_tensor_of_another_layout_is_opaque(make: Callable[[], torch.Tensor]) -> None:
    assert isinstance(plain(make()), Opaque)


def test_a_list_that_contains_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    plain(loop)
