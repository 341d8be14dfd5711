"""The checks of the linear algebra lab: matrices with planted spectra, so that the truth is known.

A planted matrix is U diag(s) V^T with random orthonormal U and V and singular values of our own
choice, made in float64 and handed over in float32.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from verify.authoring import check
from verify.plain import Plain, Raised
from verify.tensors import to_tensor
from verify.trial import Trial

KINDS = ("tall", "wide", "square")
ADAPTED = [(4096, 1024), (11008, 4096), (2048, 5632)]  # layers as they are in real models
TAIL = 1e-4  # of W's norm: how near to the least possible error counts as the least


@check("low_rank", review="B and A")
def factors_are_shaped_like_loras(trial: Trial) -> None:
    """`low_rank` returns two factors, B of shape (out, r) and A of shape (r, in)."""
    cases, came = _factorised(trial)
    why = "Two matrices (B, A) are asked for, so shaped that B @ A has W's shape and r in between."
    for case, answer in zip(cases, came, strict=True):
        asked = _asked_factors(case)
        if not isinstance(answer, dict) or "came" in answer:
            trial.fail(asked, answer["came"] if isinstance(answer, dict) else answer, why=why)
        out, width = case.W.shape
        shapes = answer["shapes"]
        told = "shapes came back: " + _shapes(shapes)
        trial.require(shapes == [[out, case.r], [case.r, width]], asked, told, why=why)


@check("low_rank", review="The best approximation", after=("factors_are_shaped_like_loras",))
def nothing_of_that_rank_is_nearer(trial: Trial) -> None:
    """`low_rank` is the best there is: B @ A misses W by the singular values left out, no more."""
    cases, came = _factorised(trial)
    for case, answer in zip(cases, came, strict=True):
        asked = _asked_factors(case)
        if not isinstance(answer, dict) or "product" not in answer:
            trial.fail(asked, answer)
        product, size = to_tensor(answer["product"]).double(), case.s.norm()
        error = float((case.truth - product).norm() / size)
        least = float(case.s[case.r :].norm() / size)
        trial.require(
            error <= least + TAIL,
            asked,
            f"B @ A misses W by {error:.4g} of W's norm",
            why=f"There is a matrix of rank {case.r} that is nearer to W.",
        )
        why = "It is about as near as it can be, and yet not the best approximation."
        trial.expect(f"{asked}: B @ A", answer["product"], case.best, why=why, rtol=1e-3)


@check("relative_error", review="How far off")
def error_is_relative_and_frobenius(trial: Trial) -> None:
    """`relative_error` is the Frobenius norm of W - B @ A, over that of W."""
    cases = [_estimate(trial, kind, factor) for kind in KINDS for factor in (0.5, 1.5)]
    cases.append(_exact(trial))
    given = [{"arguments": case} for case in cases]
    came = trial.observe("calls", function="relative_error", cases=given)
    asked = [f"relative_error(W, B, A) for B {_shape(B)}, A {_shape(A)}" for _, B, A in cases]
    truths = [
        (W.double() - B.double() @ A.double()).norm() / W.double().norm() for W, B, A in cases
    ]
    why = "It compares the size of what is missed with the size of W itself: 0 if nothing is."
    trial.expect_each(asked, came, truths, why=why)


@check("rank_for_energy", review="Energy")
def rank_keeps_that_share(trial: Trial) -> None:
    """`rank_for_energy` is the smallest rank that keeps the share of squared singular values."""
    cases = [_spectrum(trial, kind, d) for kind in KINDS for d in ("flat", "slow", "fast")]
    cases += [_spectrum(trial, "tall", "one"), _spectrum(trial, "wide", "all")]
    given = [{"arguments": [W, fraction]} for W, fraction, _ in cases]
    came = trial.observe("calls", function="rank_for_energy", cases=given)
    asked = [f"rank_for_energy(W, {f:.4g}) for W of shape {_shape(W)}" for W, f, _ in cases]
    why = "Add up the squared singular values from the largest on, until the share is reached."
    trial.expect_each(asked, came, [r for _, _, r in cases], why=why, rtol=0.0, atol=0.0)


@check("lora_param_count", review="What it costs")
def parameters_counted(trial: Trial) -> None:
    """`lora_param_count` counts the weights of B and of A."""
    cases = [[*shape, trial.random.choice([4, 16, 32, 64])] for shape in ADAPTED]
    for _ in range(3):
        out, width = trial.random.sample(range(300, 9000), 2)
        cases.append([out, width, trial.random.randint(3, 99)])
    given = [{"arguments": case} for case in cases]
    came = trial.observe("calls", function="lora_param_count", cases=given)
    asked = [f"lora_param_count({out}, {width}, {r})" for out, width, r in cases]
    why = "Draw the two factors as rectangles and count their elements."
    truths = [r * (out + width) for out, width, r in cases]
    trial.expect_each(asked, came, truths, why=why, rtol=0.0, atol=0.5)


@dataclasses.dataclass(frozen=True)
class Planted:
    """A matrix whose singular values are known: W is ``truth`` rounded to float32."""

    W: Tensor
    r: int
    s: Tensor
    truth: Tensor
    best: Tensor


def _factorised(trial: Trial) -> tuple[list[Planted], list[Any]]:
    """Return planted matrices of all kinds, the last with r = its rank, and what came back."""
    cases = [_planted(trial, kind) for kind in KINDS for _ in range(2)]
    cases.append(_planted(trial, trial.random.choice(KINDS), full=True))
    given = [{"W": case.W, "r": case.r} for case in cases]
    came = trial.observe("factorisations", cases=given)
    if isinstance(came, Raised):
        trial.fail(_asked_factors(cases[0]), came)
    assert isinstance(came, list)
    return cases, came


def _planted(trial: Trial, kind: str, *, full: bool = False) -> Planted:
    """Draw a matrix of full rank k whose singular values fall by a tenth to a third each."""
    k = trial.random.randint(6, 10)
    ratios = [trial.random.uniform(0.67, 0.9) for _ in range(k)]
    s = trial.random.uniform(2, 6) * torch.tensor(ratios, dtype=torch.float64).cumprod(0)
    U, V = _sides(trial, kind, k)
    r = k if full else trial.random.randint(2, k - 2)
    truth, best = (U * s) @ V.T, (U[:, :r] * s[:r]) @ V[:, :r].T
    return Planted(truth.float(), r, s, truth, best)


def _sides(trial: Trial, kind: str, k: int) -> tuple[Tensor, Tensor]:
    """Draw orthonormal columns U (out, k) and V (in, k) for a matrix of ``kind`` and rank k."""
    more = trial.random.randint(3, 7)
    out, width = {"tall": (k + more, k), "wide": (k, k + more), "square": (k, k)}[kind]
    U, V = (torch.linalg.qr(trial.normal(n, k).double()).Q for n in (out, width))
    return U, V


def _estimate(trial: Trial, kind: str, factor: float) -> list[Tensor]:
    """Draw W, B and A such that B @ A is about ``factor`` times as large as W, and unlike it."""
    r, k = trial.random.randint(2, 5), trial.random.randint(6, 10)
    U, V = _sides(trial, kind, k)
    (out, width), size = (U.shape[0], V.shape[0]), trial.random.uniform(2, 5)
    B, A = trial.normal(out, r), trial.normal(r, width)
    product = B @ A
    W = product / product.norm() + 1.5 * trial.normal(out, width) / math.sqrt(out * width)
    return [size * W, size * factor * W.norm() / product.norm() * B, A]


def _exact(trial: Trial) -> list[Tensor]:
    """Draw W, B and A of small whole numbers such that W is B @ A to the last digit."""
    out, width, r = trial.random.randint(5, 9), trial.random.randint(5, 9), 3
    B, A = trial.integers(1, 5, out, r).float(), trial.integers(1, 5, r, width).float()
    return [B @ A, B, A]


def _spectrum(trial: Trial, kind: str, decay: str) -> tuple[Tensor, float, int]:
    """Draw a matrix, a share of its energy between what r - 1 and r terms hold, and that r.

    The singular values are nearly alike, fall slowly, or fast; or so that one of them is enough,
    or that all are needed. The energy is above 1, or the share itself could not be reached.
    """
    draw, k = trial.random, trial.random.randint(14, 18)
    i = torch.arange(1, k + 1, dtype=torch.float64)
    s, low, high = {
        "flat": (1 - draw.uniform(0.4, 0.6) * i / k, k // 3, k // 2),
        "slow": (i ** -draw.uniform(0.3, 0.5), k // 2, k - 3),
        "fast": (draw.uniform(0.72, 0.8) ** i, 4, 7),
        "one": (draw.uniform(0.2, 0.3) ** i, 1, 1),
        "all": (i ** -draw.uniform(0.3, 0.5), k, k),
    }[decay]
    s, r = s / s.norm() * draw.uniform(1.15, 1.4), draw.randint(low, high)
    U, V = _sides(trial, kind, k)
    held = torch.cat([torch.zeros(1), s.square().cumsum(0) / s.square().sum()])
    between = draw.uniform(0.35, 0.65)
    return ((U * s) @ V.T).float(), float(held[r - 1].lerp(held[r], between)), r


def _asked_factors(case: Planted) -> str:
    return f"low_rank(W, {case.r}) for W of shape {_shape(case.W)}"


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _shapes(shapes: Plain) -> str:
    """Return shapes as tuples, for reading; anything else as it is, cut short."""
    if not isinstance(shapes, list):
        return str(shapes)[:80]
    told = [str(tuple(s)) if isinstance(s, list) else str(s)[:40] for s in shapes[:4]]
    return " and ".join(told) or "none"
