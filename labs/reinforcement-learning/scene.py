"""The scenes of the preferences lab: the learner's functions on tensors, values and gradients.

Public and free of answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from verify.scene import attempt

Exercise = SimpleNamespace


def calls(exercise: Exercise, function: str, cases: list[list[Any]]) -> list[Any]:
    """Return what ``function`` gives for each case: its arguments in order."""
    asked = getattr(exercise, function)
    return [attempt(asked, *arguments) for arguments in cases]


def arguments_afterwards(exercise: Exercise, function: str, cases: list[list[Any]]) -> list[Any]:
    """Return for each case its tensors, in order, as ``function`` leaves them."""
    ask = functools.partial(_tensors_left, getattr(exercise, function))
    return [attempt(ask, arguments) for arguments in cases]


def _tensors_left(function: Callable[..., Any], arguments: list[Any]) -> list[Tensor]:
    function(*arguments)
    return [each for each in arguments if isinstance(each, Tensor)]


def gradients(
    exercise: Exercise, function: str, cases: list[list[Any]], trained: list[int]
) -> list[Any]:
    """Return for each case the gradients that ``function``'s result leaves on its arguments.

    The arguments whose places are in ``trained`` require a gradient. A result of more than one
    element is weighted with 1, 2, 3, ... and added up before its backward pass.
    """
    ask = functools.partial(_gradients, getattr(exercise, function), trained)
    return [attempt(ask, arguments) for arguments in cases]


def _gradients(
    function: Callable[..., Any], trained: list[int], arguments: list[Any]
) -> list[Tensor | None]:
    leaves: list[Tensor] = [arguments[place].requires_grad_() for place in trained]
    result = function(*arguments)
    if isinstance(result, Tensor) and result.requires_grad:
        weights = torch.arange(1, result.numel() + 1, device=result.device, dtype=result.dtype)
        (result.flatten() * weights).sum().backward()
    return [leaf.grad for leaf in leaves]
