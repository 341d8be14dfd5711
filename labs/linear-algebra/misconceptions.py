"""The known mistakes of the linear algebra lab; each docstring is the hint a learner reads."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from verify.authoring import misconception

Factors = tuple[Tensor, Tensor]

# A check that waits for another one is played only when that one passed: these fail in one place.
SHAPES = ("factors_are_shaped_like_loras",)
NEAREST = ("nothing_of_that_rank_is_nearer",)


def _svd(W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    return U, S, Vh


def _best(W: Tensor, r: int) -> Factors:
    U, S, Vh = _svd(W)
    return U[:, :r] * S[:r], Vh[:r]


# --- low_rank: shapes -----------------------------------------------------------------------------


@misconception("low_rank")
def low_rank_not_written(W: Tensor, r: int) -> Factors:
    """Start with `torch.linalg.svd(W, full_matrices=False)`: it gives three factors. Keep the part
    of each that belongs to the r largest singular values, and make two factors of the three.
    """
    raise NotImplementedError


@misconception("low_rank", checks=SHAPES)
def factors_transposed(W: Tensor, r: int) -> Factors:
    """Both factors lie on their side: B is (r, out) and A is (in, r). In W ≈ B A the rank is on
    the inside: B has r columns, A has r rows.
    """
    B, A = _best(W, r)
    return B.T, A.T


@misconception("low_rank", checks=SHAPES)
def factors_swapped(W: Tensor, r: int) -> Factors:
    """The factors are returned as (A, B). B comes first, as in W ≈ B A: it is the one that ends in
    the output, (out, r).
    """
    B, A = _best(W, r)
    return A, B


@misconception("low_rank", checks=SHAPES)
def of_the_transpose(W: Tensor, r: int) -> Factors:
    """It is the transpose of W that was decomposed: B came out as (in, r) and A as (r, out). A
    weight in torch is (out, in), and B A must have its shape.
    """
    return _best(W.T, r)


@misconception("low_rank", checks=SHAPES)
def product_returned(W: Tensor, r: int) -> Tensor:
    """That is the product, as large as W itself: nothing is saved. Return the two thin factors; who
    needs the product can multiply them.
    """
    B, A = _best(W, r)
    return B @ A


@misconception("low_rank", checks=SHAPES)
def three_factors(W: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Those are the three factors of the singular value decomposition. LoRA has two: multiply the
    singular values into one of them, or a square root of them into each.
    """
    U, S, Vh = _svd(W)
    return U[:, :r], S[:r], Vh[:r]


@misconception("low_rank", checks=SHAPES)
def nothing_cut(W: Tensor, r: int) -> Factors:
    """The factors are as large as the decomposition gives them: nothing was cut, or what comes
    after the r-th term was only set to zero. Keep r columns of B and r rows of A, and no more.
    """
    return _best(W, min(W.shape))


@misconception("low_rank", checks=SHAPES)
def rank_one_less(W: Tensor, r: int) -> Factors:
    """The rank is one too small: r - 1 terms were kept. A slice `[:r]` holds the elements 0 to
    r - 1, which are r of them.
    """
    return _best(W, r - 1)


@misconception("low_rank", checks=SHAPES)
def rank_one_more(W: Tensor, r: int) -> Factors:
    """The rank is one too large: r + 1 terms were kept. A slice `[:r]` is all that is needed: it
    holds r elements.
    """
    return _best(W, r + 1)


# --- low_rank: values -----------------------------------------------------------------------------


@misconception("low_rank")
def v_not_transposed(W: Tensor, r: int) -> Factors:
    """The rows of V were taken where its columns were meant: `torch.svd` returns V, and W is
    U S Vᵀ. `torch.linalg.svd` returns Vᵀ at once (`Vh`); then its first r rows are right.
    """
    U, S, Vh = _svd(W)
    return U[:, :r] * S[:r], Vh.T[:r]


@misconception("low_rank", checks=NEAREST)
def columns_of_vh(W: Tensor, r: int) -> Factors:
    """The first r columns of Vh were taken (or, what is the same, the first rows of V). The v's are
    the *rows* of Vh: A is `Vh[:r]`, which needs no transposing.
    """
    U, S, Vh = torch.linalg.svd(W)
    return U[:, :r] * S[:r], Vh[:, :r].T


@misconception("low_rank", checks=NEAREST)
def singular_values_omitted(W: Tensor, r: int) -> Factors:
    """The singular values were left out. The columns of U and the rows of Vh all have length 1:
    only the singular values say how much each pair counts. Multiply them into one factor.
    """
    U, _, Vh = _svd(W)
    return U[:, :r], Vh[:r]


@misconception("low_rank", checks=NEAREST)
def singular_values_twice(W: Tensor, r: int) -> Factors:
    """The singular values count twice in B A. Either they were multiplied into both factors (they
    belong into one, or their square roots into both), or they are squares: the eigenvalues of
    Wᵀ W are the singular values squared.
    """
    U, S, Vh = _svd(W)
    return U[:, :r] * S[:r], S[:r, None] * Vh[:r]


@misconception("low_rank", checks=NEAREST)
def singular_values_half(W: Tensor, r: int) -> Factors:
    """Only the square roots of the singular values are in B A. A root in one factor needs its other
    half in the other factor; or take the whole values in one of them.
    """
    U, S, Vh = _svd(W)
    return U[:, :r] * S[:r].sqrt(), Vh[:r]


@misconception("low_rank", checks=NEAREST)
def divided_by_the_largest(W: Tensor, r: int) -> Factors:
    """The singular values were normalised by the largest, so B A is too small by that factor. Use
    them as they are.
    """
    U, S, Vh = _svd(W)
    return U[:, :r] * (S[:r] / S[0]), Vh[:r]


@misconception("low_rank", checks=NEAREST)
def smallest_kept(W: Tensor, r: int) -> Factors:
    """The r smallest singular values were kept, which is what should be thrown away. Torch sorts
    them with the largest first (`eigh` has the largest last).
    """
    U, S, Vh = _svd(W)
    return U[:, -r:] * S[-r:], Vh[-r:]


@misconception("low_rank", checks=NEAREST)
def first_eigenvectors_kept(W: Tensor, r: int) -> Factors:
    """The first r eigenvectors of Wᵀ W were kept. `eigh` sorts upwards, so those belong to the
    smallest eigenvalues, or to those that are 0 where W has more columns than rows. The largest
    are the last: `vectors[:, -r:]`.
    """
    first = torch.linalg.eigh(W.T @ W).eigenvectors[:, :r]
    return W @ first, first.T


@misconception("low_rank", checks=NEAREST)
def largest_dropped(W: Tensor, r: int) -> Factors:
    """The largest singular value is missing: the r after it were kept. Counting starts at 0, so the
    slice is `[:r]`.
    """
    U, S, Vh = _svd(torch.nn.functional.pad(W, (0, 1, 0, 1)))  # one singular value more, of 0
    out, width = W.shape
    return (U[:, 1 : r + 1] * S[1 : r + 1])[:out], Vh[1 : r + 1, :width]


@misconception("low_rank", checks=NEAREST)
def first_columns_kept(W: Tensor, r: int) -> Factors:
    """That is W with all but its first r columns set to zero. It has rank r, but nothing says that
    those columns are the ones that matter: decompose W and keep its largest terms.
    """
    return W[:, :r], torch.eye(r, W.shape[1])


@misconception("low_rank", checks=NEAREST)
def first_rows_kept(W: Tensor, r: int) -> Factors:
    """That is W with all but its first r rows set to zero. It has rank r, but nothing says that
    those rows are the ones that matter: decompose W and keep its largest terms.
    """
    return torch.eye(W.shape[0], r), W[:r]


@misconception("low_rank", checks=NEAREST)
def qr_cut(W: Tensor, r: int) -> Factors:
    """A QR decomposition was cut. It takes W's columns in the order in which they come; only the
    singular value decomposition sorts by how much each term counts.
    """
    Q, R = torch.linalg.qr(W)
    return Q[:, :r], R[:r]


@misconception("low_rank", checks=NEAREST)
def randomised(W: Tensor, r: int) -> Factors:
    """That is nearly the best, not the best: `svd_lowrank` looks for it with random vectors. For
    matrices of this size use `torch.linalg.svd`; or ask for more terms than r, and cut.
    """
    U, S, V = torch.svd_lowrank(W, q=r)
    return U * S, V.T


@misconception("low_rank", checks=NEAREST)
def centred(W: Tensor, r: int) -> Factors:
    """The mean of each column was taken off first, as in a principal component analysis, and never
    put back. A weight matrix is not a table of measurements: decompose W itself.
    """
    return _best(W - W.mean(0), r)


@misconception("low_rank", checks=NEAREST)
def as_lora_starts(W: Tensor, r: int) -> Factors:
    """B is zero, so B A is zero. That is how LoRA *starts to learn an update*; here W itself is to
    be approximated, and W says what the factors are.
    """
    return torch.zeros(W.shape[0], r), torch.randn(r, W.shape[1])


# --- relative_error -------------------------------------------------------------------------------


@misconception("relative_error")
def relative_error_not_written(W: Tensor, B: Tensor, A: Tensor) -> float:
    """Start with the difference between W and B @ A. Its Frobenius norm is the root of the sum of
    its squared elements; divide that by the same of W.
    """
    raise NotImplementedError


@misconception("relative_error")
def error_absolute(W: Tensor, B: Tensor, A: Tensor) -> float:
    """That is the error itself, not relative to anything: for a matrix a thousand times as large it
    is a thousand times as large. Divide by the norm of W.
    """
    return float((W - B @ A).norm())


@misconception("relative_error")
def error_relative_to_product(W: Tensor, B: Tensor, A: Tensor) -> float:
    """The error was divided by the norm of B @ A. What is relative is relative to the truth, which
    is W: an approximation that is much too large would otherwise look good.
    """
    return float((W - B @ A).norm() / (B @ A).norm())


@misconception("relative_error")
def error_squared(W: Tensor, B: Tensor, A: Tensor) -> float:
    """The square root is missing: those are squared norms (or means of squares) in relation. That
    is the share of the *energy* that is missed, which is much smaller than the error.
    """
    return float((W - B @ A).square().sum() / W.square().sum())


@misconception("relative_error")
def error_root_of_one(W: Tensor, B: Tensor, A: Tensor) -> float:
    """A root was taken of one of the two sums of squares only. Take it of both, or of their
    quotient.
    """
    return float((W - B @ A).norm() / W.square().sum())


@misconception("relative_error")
def error_mean_square_root(W: Tensor, B: Tensor, A: Tensor) -> float:
    """That is the root of the mean squared difference: the error of a typical element, in W's own
    units. Divide by the same of W to make it relative.
    """
    return float((W - B @ A).square().mean().sqrt())


@misconception("relative_error")
def error_spectral(W: Tensor, B: Tensor, A: Tensor) -> float:
    """That is the spectral norm, the largest singular value alone (`ord=2` of a matrix). The
    Frobenius norm counts them all: `torch.linalg.matrix_norm` without `ord`, or `.norm()`.
    """
    norm = torch.linalg.matrix_norm
    return float(norm(W - B @ A, 2) / norm(W, 2))


@misconception("relative_error")
def error_nuclear(W: Tensor, B: Tensor, A: Tensor) -> float:
    """That is the nuclear norm, the sum of the singular values. The Frobenius norm is the root of
    the sum of their squares, and needs no singular values: it is that of the elements too.
    """
    norm = torch.linalg.matrix_norm
    return float(norm(W - B @ A, "nuc") / norm(W, "nuc"))


@misconception("relative_error")
def error_largest(W: Tensor, B: Tensor, A: Tensor) -> float:
    """Only the largest elements were compared. One bad element among thousands does not make an
    approximation bad: the Frobenius norm adds up all of them, squared.
    """
    return float((W - B @ A).abs().max() / W.abs().max())


@misconception("relative_error")
def error_of_sizes(W: Tensor, B: Tensor, A: Tensor) -> float:
    """Absolute values were added up (or averaged), not squares. The Frobenius norm squares the
    elements, adds them up and takes the root.
    """
    return float((W - B @ A).abs().sum() / W.abs().sum())


@misconception("relative_error")
def error_per_element(W: Tensor, B: Tensor, A: Tensor) -> float:
    """Each element's error was divided by that element and the results averaged: elements near zero
    decide everything. Take one norm of the difference and one of W.
    """
    return float(((W - B @ A) / W).abs().mean())


@misconception("relative_error")
def norms_compared(W: Tensor, B: Tensor, A: Tensor) -> float:
    """The difference of the norms was taken, not the norm of the difference: two matrices of the
    same size need not be alike at all. Subtract first.
    """
    return float((W.norm() - (B @ A).norm()).abs() / W.norm())


@misconception("relative_error")
def size_of_the_product(W: Tensor, B: Tensor, A: Tensor) -> float:
    """That is how large B @ A is beside W, and not how far it is from it. Subtract B @ A from W
    before taking the norm.
    """
    return float((B @ A).norm() / W.norm())


@misconception("relative_error")
def accuracy(W: Tensor, B: Tensor, A: Tensor) -> float:
    """That is one minus the error. The error itself is asked for: 0 if nothing is missed."""
    return float(1 - (W - B @ A).norm() / W.norm())


@misconception("relative_error")
def error_percentage(W: Tensor, B: Tensor, A: Tensor) -> float:
    """That is a percentage. A share is asked for: 0 if nothing is missed, 1 if B @ A is zero."""
    return float(100 * (W - B @ A).norm() / W.norm())


@misconception("relative_error")
def factors_in_other_order(W: Tensor, B: Tensor, A: Tensor) -> float:
    """The factors were multiplied as A @ B. B is (out, r) and A is (r, in), so it is B @ A that has
    the shape of W: A acts first on an input, and stands next to it.
    """
    return float((W - A @ B).norm() / W.norm())


# --- rank_for_energy ------------------------------------------------------------------------------


def _count(held: Tensor, wanted: float) -> int:
    """Return how many terms it takes until ``held`` reaches ``wanted``."""
    return min(int((held < wanted).sum()) + 1, len(held))


def _shares(W: Tensor) -> Tensor:
    energy = torch.linalg.svdvals(W).square()
    return energy.cumsum(0) / energy.sum()


@misconception("rank_for_energy")
def rank_for_energy_not_written(W: Tensor, fraction: float) -> int:
    """Start with `torch.linalg.svdvals(W)`, the singular values from the largest on. Square them,
    add them up one after the other (`cumsum`), and see where the share is reached.
    """
    raise NotImplementedError


@misconception("rank_for_energy")
def energy_not_squared(W: Tensor, fraction: float) -> int:
    """The singular values were added up as they are. Energy is their squares: those add up to the
    sum of W's squared elements, and large ones count for more.
    """
    s = torch.linalg.svdvals(W)
    return _count(s.cumsum(0) / s.sum(), fraction)


@misconception("rank_for_energy")
def energy_squared_twice(W: Tensor, fraction: float) -> int:
    """The squares were squared. The eigenvalues of Wᵀ W are the squared singular values already;
    take either these as they are or the singular values squared once.
    """
    s = torch.linalg.svdvals(W) ** 4
    return _count(s.cumsum(0) / s.sum(), fraction)


@misconception("rank_for_energy")
def counted_from_the_smallest(W: Tensor, fraction: float) -> int:
    """The adding up started with the smallest singular value (`eigvalsh` sorts that way). The
    smallest rank is reached with the largest first.
    """
    energy = torch.linalg.svdvals(W).square().flip(0)
    return _count(energy.cumsum(0) / energy.sum(), fraction)


@misconception("rank_for_energy")
def one_too_few(W: Tensor, fraction: float) -> int:
    """One too few: with so many terms the share is not yet reached. Either an index, which counts
    from 0, was returned as a number of terms, or the last rank below the share.
    """
    return _count(_shares(W), fraction) - 1


@misconception("rank_for_energy")
def one_too_many(W: Tensor, fraction: float) -> int:
    """One too many: the share is reached with one term less already, and the smallest such rank is
    asked for.
    """
    return _count(_shares(W), fraction) + 1


@misconception("rank_for_energy")
def energy_of_the_rest(W: Tensor, fraction: float) -> int:
    """That many terms may be *left out* so that the share is kept. Asked for is how many have to
    stay.
    """
    return len(_shares(W)) - _count(_shares(W), fraction)


@misconception("rank_for_energy")
def share_of_the_norm(W: Tensor, fraction: float) -> int:
    """The share was taken of the norm, which is the root of the energy: a root was taken that does
    not belong here. Compare sums of squares.
    """
    return _count(_shares(W).sqrt(), fraction)


@misconception("rank_for_energy")
def error_for_energy(W: Tensor, fraction: float) -> int:
    """The error was brought below one minus the share. It is the *squared* error that is one minus
    the share of the energy kept: 90 % of the energy is an error of 32 %.
    """
    return _count(1 - (1 - _shares(W)).clamp(min=0).sqrt(), fraction)


@misconception("rank_for_energy")
def beside_the_largest(W: Tensor, fraction: float) -> int:
    """The singular values that are at least so large a part of the largest were counted. The share
    is one of the sum of all their squares: add up before comparing.
    """
    s = torch.linalg.svdvals(W)
    return int((s >= fraction * s[0]).sum())


@misconception("rank_for_energy")
def beside_the_largest_rest(W: Tensor, fraction: float) -> int:
    """The singular values above (1 - fraction) of the largest were counted. The share is one of the
    sum of all their squares: add up before comparing.
    """
    s = torch.linalg.svdvals(W)
    return int((s >= (1 - fraction) * s[0]).sum())


@misconception("rank_for_energy")
def share_of_the_rank(W: Tensor, fraction: float) -> int:
    """That is a share of the number of singular values, whatever they are. They are not alike: a
    few large ones may hold nearly all of the energy.
    """
    return math.ceil(fraction * min(W.shape))


@misconception("rank_for_energy")
def total_forgotten(W: Tensor, fraction: float) -> int:
    """The sums of squares were compared with the share itself, without dividing by the sum of all
    of them. A share is one of a whole.
    """
    return _count(torch.linalg.svdvals(W).square().cumsum(0), fraction)


@misconception("rank_for_energy")
def rank_of_the_matrix(W: Tensor, fraction: float) -> int:
    """That is the rank of W: how many singular values are not zero. Asked for is how many hold the
    given share of the energy, which is usually fewer.
    """
    return int(torch.linalg.matrix_rank(W))


@misconception("rank_for_energy")
def share_returned(W: Tensor, fraction: float) -> float:
    """That is the share of the energy that is reached. Return the rank at which it is: how many
    singular values it takes.
    """
    shares = _shares(W)
    return float(shares[_count(shares, fraction) - 1])


@misconception("rank_for_energy")
def ranks_of_all(W: Tensor, fraction: float) -> Tensor:
    """Something was returned for every singular value. One number is asked for: the first rank at
    which the share is reached.
    """
    return _shares(W) >= fraction


# --- lora_param_count -----------------------------------------------------------------------------


@misconception("lora_param_count")
def lora_param_count_not_written(out_features: int, in_features: int, r: int) -> int:
    """Start with the shapes: B is (out, r) and A is (r, in). Count the elements of each."""
    raise NotImplementedError


@misconception("lora_param_count")
def full_matrix_counted(out_features: int, in_features: int, r: int) -> int:
    """That is the number of weights in the layer itself, and in the product B A. What is stored and
    trained are the two factors.
    """
    return out_features * in_features


@misconception("lora_param_count")
def matrix_times_rank(out_features: int, in_features: int, r: int) -> int:
    """The rank was multiplied with in times out, which is more than the layer has. The factors are
    two rectangles side by side: their sizes are added.
    """
    return r * in_features * out_features


@misconception("lora_param_count")
def sizes_multiplied(out_features: int, in_features: int, r: int) -> int:
    """The sizes of the two factors were multiplied with each other. They are two tensors: add up
    what is in them.
    """
    return (out_features * r) * (r * in_features)


@misconception("lora_param_count")
def rank_forgotten(out_features: int, in_features: int, r: int) -> int:
    """That is right for rank 1, one column and one row. B has r columns and A has r rows."""
    return out_features + in_features


@misconception("lora_param_count")
def only_b_counted(out_features: int, in_features: int, r: int) -> int:
    """That is B alone. A, with r rows of `in_features` elements, is trained as well."""
    return out_features * r


@misconception("lora_param_count")
def only_a_counted(out_features: int, in_features: int, r: int) -> int:
    """That is A alone. B, with r columns of `out_features` elements, is trained as well."""
    return in_features * r


@misconception("lora_param_count")
def square_of_the_inputs(out_features: int, in_features: int, r: int) -> int:
    """The layer was taken for a square one, with as many outputs as inputs. Few are: the MLP's and
    the grouped keys and values are not. B is as long as there are outputs.
    """
    return 2 * r * in_features


@misconception("lora_param_count")
def square_of_the_outputs(out_features: int, in_features: int, r: int) -> int:
    """The layer was taken for a square one, with as many inputs as outputs. Few are: the MLP's and
    the grouped keys and values are not. A is as long as there are inputs.
    """
    return 2 * r * out_features


@misconception("lora_param_count")
def diagonal_counted(out_features: int, in_features: int, r: int) -> int:
    """There are r times r weights too many: the singular values were counted as a factor of their
    own. LoRA has two factors, B and A, and nothing between them.
    """
    return r * (in_features + out_features) + r * r


@misconception("lora_param_count")
def layer_counted_too(out_features: int, in_features: int, r: int) -> int:
    """The layer's own weights were added. They are there anyway, and frozen: count only what LoRA
    adds.
    """
    return out_features * in_features + r * (in_features + out_features)


@misconception("lora_param_count")
def weights_saved(out_features: int, in_features: int, r: int) -> int:
    """That is how many weights LoRA does not train. Asked for is how many it trains: those of its
    two factors.
    """
    return out_features * in_features - r * (in_features + out_features)


@misconception("lora_param_count")
def share_of_the_layer(out_features: int, in_features: int, r: int) -> float:
    """That is a share of the layer's weights. A number of weights is asked for."""
    return r * (in_features + out_features) / (in_features * out_features)


@misconception("lora_param_count")
def bytes_counted(out_features: int, in_features: int, r: int) -> int:
    """Those are bytes, at two for each weight. Asked for are the weights themselves."""
    return 2 * r * (in_features + out_features)
