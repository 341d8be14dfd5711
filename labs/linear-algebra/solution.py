"""The reference solution of the linear algebra lab."""

from __future__ import annotations

import torch
from torch import Tensor


def low_rank(W: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Return factors (B, A) of the best approximation of ``W`` that has rank ``r``.

    The singular value decomposition, cut after its r largest terms: no other matrix of rank r is
    nearer to W in the Frobenius norm (Eckart and Young, 1936,
    https://doi.org/10.1007/BF02288367). How the singular values are shared out between the two
    factors is arbitrary; here B has them all.

    Args:
        W: (out, in), float32 or float64.
        r: 1 <= r <= min(out, in).

    Returns:
        B (out, r) and A (r, in), in W's dtype.
    """
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    return U[:, :r] * S[:r], Vh[:r]


def relative_error(W: Tensor, B: Tensor, A: Tensor) -> float:
    """Return ||W - B A|| / ||W|| in the Frobenius norm: 0 for equal, 1 for B A = 0.

    Args:
        W: (out, in), not all zero.
        B: (out, r).
        A: (r, in).
    """
    difference = torch.linalg.matrix_norm(W - B @ A)
    return float(difference / torch.linalg.matrix_norm(W))


def rank_for_energy(W: Tensor, fraction: float) -> int:
    """Return the smallest r whose r largest singular values hold ``fraction`` of the energy.

    The energy is the sum of the *squared* singular values, which is the sum of W's squared
    elements. What is left out after r of them is the squared `relative_error` of `low_rank`.

    Args:
        W: (out, in), float32 or float64, not all zero.
        fraction: 0 < fraction < 1.
    """
    energy = torch.linalg.svdvals(W).square().cumsum(0)
    return int((energy < fraction * energy[-1]).sum()) + 1


def lora_param_count(out_features: int, in_features: int, r: int) -> int:
    """Return the number of weights in B (out, r) and A (r, in): r * (in + out)."""
    return r * (in_features + out_features)
