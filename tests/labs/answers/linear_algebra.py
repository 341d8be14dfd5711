"""The linear algebra lab in other words: ways that are right, and wrong ones that nobody listed."""

# ruff: noqa: N803, N806 - W, B, A, U, S, V are the field's names

from __future__ import annotations

import numpy as np
import torch
from torch import nn

# --- right: any split of the singular values, any way to the decomposition ------------------------


def factors_with_roots_in_both(W, r):
    U, S, V = torch.svd(W)
    root = S[:r].sqrt().diag()
    return U[:, :r] @ root, root @ V[:, :r].T


def factors_with_values_in_a(W, r):
    U, S, Vh = torch.linalg.svd(W)  # U and Vh square
    return [U[:, :r], torch.diag(S[:r]) @ Vh[:r, :]]


def factors_by_numpy(W, r):
    U, S, Vh = np.linalg.svd(W.numpy().astype(np.float64), full_matrices=False)
    return U[:, :r] * S[:r], Vh[:r]


def factors_by_projection(W, r):
    """The r leading eigenvectors of W W^T span the columns; A is what of W lies in them."""
    _, vectors = torch.linalg.eigh(W.double() @ W.double().T)
    B = vectors[:, -r:]
    return nn.Parameter(B), B.T @ W.double()


def factors_by_more_than_enough(W, r):
    U, S, V = torch.svd_lowrank(W, q=min(W.shape), niter=4)
    return (U * S)[:, :r], V[:, :r].T


def factors_turned(W, r):
    """Any invertible r x r matrix and its inverse may stand between the two."""
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    turn = torch.eye(r) + torch.ones(r, r).triu(1)
    return U[:, :r] * S[:r] @ turn, torch.linalg.solve(turn, Vh[:r])


def error_by_elements(W, B, A):
    missed = sum(float(x) ** 2 for x in (W - torch.matmul(B, A)).flatten())
    return (missed / sum(float(x) ** 2 for x in W.flatten())) ** 0.5


def error_by_singular_values(W, B, A):
    rest, all_of_it = torch.linalg.svdvals(W - B @ A), torch.linalg.svdvals(W)
    return rest.norm() / all_of_it.norm()


def error_by_numpy(W, B, A):
    W, B, A = (x.numpy() for x in (W, B, A))
    return np.linalg.norm(W - B @ A) / np.linalg.norm(W)


def error_by_mean_squares(W, B, A):
    return nn.functional.mse_loss(B @ A, W).sqrt() / W.pow(2).mean().sqrt()


def rank_by_loop(W, fraction):
    s = torch.linalg.svd(W).S.tolist()
    wanted, held = fraction * sum(x * x for x in s), 0.0
    for r, x in enumerate(s, start=1):
        held += x * x
        if held >= wanted:
            return r
    return len(s)


def rank_by_search(W, fraction):
    energy = np.cumsum(np.linalg.svd(W.numpy(), compute_uv=False) ** 2)
    return np.searchsorted(energy / energy[-1], fraction) + 1


def rank_by_eigenvalues(W, fraction):
    energy = torch.linalg.eigvalsh(W.T @ W).flip(0).clamp(min=0)
    return torch.argmax((energy.cumsum(0) / energy.sum() >= fraction).int()) + 1


def rank_by_what_is_missed(W, fraction):
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    for r in range(1, len(S) + 1):
        missed = (W - (U[:, :r] * S[:r]) @ Vh[:r]).norm() / W.norm()
        if missed**2 <= 1 - fraction:
            return r
    return len(S)


RIGHT = {
    "low_rank": (
        factors_with_roots_in_both,
        factors_with_values_in_a,
        factors_by_numpy,
        factors_by_projection,
        factors_by_more_than_enough,
        factors_turned,
    ),
    "relative_error": (
        error_by_elements,
        error_by_singular_values,
        error_by_numpy,
        error_by_mean_squares,
        lambda W, B, A: torch.dist(W, B @ A) / torch.linalg.norm(W, ord="fro"),
    ),
    "rank_for_energy": (
        rank_by_loop,
        rank_by_search,
        rank_by_eigenvalues,
        rank_by_what_is_missed,
    ),
    "lora_param_count": (
        lambda out_features, in_features, r: r * out_features + r * in_features,
        lambda m, n, r: sum(np.zeros((a, b), bool).size for a, b in ((m, r), (r, n))),
        lambda m, n, r: torch.tensor(float(r)) * (m + n),
        lambda m, n, r: np.int64(m + n) * r,
    ),
}


# --- wrong in ways that nobody listed -------------------------------------------------------------


def solution_svd(W, r):
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    return U[:, :r], S[:r], Vh[:r]


def factors_rounded(W, r):
    U, S, Vh = solution_svd(W, r)
    return (U * S).bfloat16(), Vh.bfloat16()


def factors_not_quite(W, r):
    U, S, Vh = solution_svd(W, r)
    return U * S * 0.99, Vh


def factors_last_term_spoilt(W, r):
    U, S, Vh = solution_svd(W, r)
    return U * torch.cat([S[:-1], -S[-1:]]), Vh


def factors_of_averages(W, r):
    """The rank is spent on blocks of rows that are averaged."""
    block = torch.arange(W.shape[0]) * r // W.shape[0]
    B = nn.functional.one_hot(block, r).float()
    return B, torch.linalg.lstsq(B, W).solution * 0.9


def factors_after_one_alternation(W, r):
    B = torch.linalg.qr(W[:, :r]).Q
    A = torch.linalg.lstsq(B, W).solution
    return torch.linalg.lstsq(A.T, W.T).solution.T * 0.98, A


def factors_of_last_columns_of_vh(W, r):
    U, S, Vh = torch.linalg.svd(W)
    return U[:, :r] * S[:r], Vh[:, -r:].T


def factors_of_first_left_eigenvectors(W, r):
    vectors = torch.linalg.eigh(W @ W.T).eigenvectors[:, :r]
    return vectors, vectors.T @ W


def factors_in_whole_numbers(W, r):
    U, S, Vh = solution_svd(W, r)
    return (U * S).round(), Vh.round()


WRONG = {
    "low_rank": (
        factors_rounded,
        factors_not_quite,
        factors_last_term_spoilt,
        factors_of_averages,
        factors_after_one_alternation,
        factors_in_whole_numbers,
        factors_of_last_columns_of_vh,
        factors_of_first_left_eigenvectors,
        lambda W, r: None,
        lambda W, r: (None, None),
        lambda W, r: (W,),
        lambda W, r: (W @ W.T, W[0]),
        lambda W, r: 1 / 0,
        lambda W, r: (torch.full((W.shape[0], r), float("nan")), torch.zeros(r, W.shape[1])),
    ),
    "relative_error": (
        lambda W, B, A: error_by_elements(W, B, A) + 1e-3,
        lambda W, B, A: round(error_by_elements(W, B, A), 1) + 0.05,
        lambda W, B, A: min(error_by_elements(W, B, A), 0.9),
        lambda W, B, A: error_by_elements(W[:-1], B[:-1], A),
        lambda W, B, A: str(error_by_elements(W, B, A)),
        lambda W, B, A: (W - B @ A).norm(dim=1) / W.norm(dim=1),
        lambda W, B, A: ((W - B @ A).norm(dim=0) / W.norm(dim=0)).mean(),
        lambda W, B, A: -error_by_elements(W, B, A),
        lambda W, B, A: None,
        lambda W, B, A: True,
    ),
    "rank_for_energy": (
        lambda W, fraction: 4,
        lambda W, fraction: rank_by_loop(W, fraction**0.6),
        lambda W, fraction: rank_by_loop(W, 0.9),
        lambda W, fraction: rank_by_loop(W, 1 - fraction),
        lambda W, fraction: str(rank_by_loop(W, fraction)),
        lambda W, fraction: [rank_by_loop(W, fraction)],
        lambda W, fraction: rank_by_loop(W, fraction) + 0.5,
        lambda W, fraction: max(rank_by_loop(W, fraction), 2),
        lambda W, fraction: None,
    ),
    "lora_param_count": (
        lambda m, n, r: r * (m + n) + 1,
        lambda m, n, r: r * (m + n) + m,
        lambda m, n, r: 16 * (m + n),
        lambda m, n, r: f"{r * (m + n)}",
        lambda m, n, r: (m * r, r * n),
        lambda m, n, r: r * (m + n) / 1e6,
        lambda m, n, r: r * min(m, n),
        lambda m, n, r: None,
    ),
}
