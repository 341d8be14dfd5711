"""The scenes of the linear algebra lab: the learner's functions on matrices, and facts of factors.

Public and free of answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from verify.scene import attempt

Exercise = SimpleNamespace


def calls(exercise: Exercise, function: str, cases: list[dict[str, Any]]) -> list[Any]:
    """Return what ``function`` gives for each case: a list of arguments in order."""
    asked = getattr(exercise, function)
    return [attempt(asked, *case["arguments"]) for case in cases]


def factorisations(exercise: Exercise, cases: list[dict[str, Any]]) -> list[Any]:
    """Return what there is to know of the factors that `low_rank` gives for each case."""
    ask = functools.partial(_factors, exercise.low_rank)
    return [attempt(ask, case["W"], case["r"]) for case in cases]


def _factors(low_rank: Callable[..., Any], W: Tensor, r: int) -> dict[str, Any]:
    """Return the shapes of what came back and, where they fit, the product.

    The factors themselves are nobody's business: many pairs have the same product.
    """
    came = low_rank(W.clone(), r)
    if not isinstance(came, tuple | list):
        return {"came": came}
    factors = [_tensor(part) for part in came]
    shapes = [list(part.shape) if isinstance(part, Tensor) else part for part in factors]
    if shapes != [[W.shape[0], r], [r, W.shape[1]]]:
        return {"shapes": shapes}
    B, A = (part.detach().cpu().double() for part in factors)
    return {"shapes": shapes, "product": B @ A}


def _tensor(part: object) -> Any:
    return torch.as_tensor(part) if isinstance(part, np.ndarray) else part
