"""The linear algebra lab: its mistakes, what decides, and the numbers of its lesson."""

# ruff: noqa: N803, N806 - W, B, A, U, S, V are the field's names

from __future__ import annotations

import contextlib
import io
import math
import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tests.labs.answers import failed
from tests.labs.answers.linear_algebra import RIGHT
from verify.judging import Bench
from verify.labs import find_labs
from verify.trial import Trial

LABS = Path(__file__).parents[2] / "labs"
LAB = next(lab for lab in find_labs(LABS) if lab.skill == "linear-algebra")
BENCH = Bench(LAB)
CHECKS = {check.name: check for check in BENCH.checks}
NAMED = {wrong.name: wrong for wrong in BENCH.misconceptions}
LESSON = (LAB.folder / "README.md").read_text("utf-8")
SHAPES, NEAREST = "factors_are_shaped_like_loras", "nothing_of_that_rank_is_nearer"

LISTED = {
    "transposed factors": (
        "factors_transposed",
        "factors_swapped",
        "of_the_transpose",
        "v_not_transposed",
        "columns_of_vh",
    ),
    "singular values squared or applied twice": ("singular_values_twice",),
    "singular values omitted": ("singular_values_omitted", "singular_values_half"),
    "the smallest instead of the largest": (
        "smallest_kept",
        "first_eigenvectors_kept",
        "counted_from_the_smallest",
    ),
    "energy of unsquared values": ("energy_not_squared",),
    "off by one": ("rank_one_less", "rank_one_more", "one_too_few", "one_too_many"),
    "relative to the norm of B A": ("error_relative_to_product",),
    "max norm": ("error_largest",),
    "spectral norm": ("error_spectral",),
    "no square root": ("error_squared",),
    "in times out": ("full_matrix_counted", "matrix_times_rank"),
    "LoRA approximates W": ("as_lora_starts",),
}


@pytest.mark.parametrize("phrase", LISTED)
def test_every_listed_mistake_is_a_misconception(phrase):
    for name in LISTED[phrase]:
        wrong = NAMED[name]
        found = failed(BENCH, 3, **{wrong.function: wrong.run})
        assert found, name
        assert {verdict.misconception for verdict in found.values()} == {name}


def test_each_function_invites_at_least_four_mistakes():
    for function in LAB.functions:
        assert sum(wrong.function == function for wrong in BENCH.misconceptions) > 4


def test_a_hint_that_serves_two_mistakes_names_both():
    twice = NAMED["singular_values_twice"].hint
    assert "both factors" in twice
    assert "squares" in twice
    assert "nothing was cut" in NAMED["nothing_cut"].hint
    assert "set to zero" in NAMED["nothing_cut"].hint


def eigenvalues_for_singular_values(W, r):
    values, vectors = torch.linalg.eigh(W @ W.T)
    B = vectors[:, -r:]
    return B * values[-r:], B.T @ W / values[-r:, None].sqrt()


def zeroed(W, r):
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    S[r:] = 0
    return U * S, Vh


@pytest.mark.parametrize(
    ("way", "name"),
    [(eigenvalues_for_singular_values, "singular_values_twice"), (zeroed, "nothing_cut")],
)
def test_mistakes_that_look_alike_get_the_hint_they_share(way, name):
    found = failed(BENCH, 2, low_rank=way)
    assert {verdict.misconception for verdict in found.values()} == {name}


# --- what decides ---------------------------------------------------------------------------------


def asked(seed, check=NEAREST):
    """Return what the learner's `low_rank` was asked for by a check, as W and r."""
    given = []

    def low_rank(W, r):
        given.append((W.clone(), r))
        return BENCH.solution["low_rank"](W, r)

    CHECKS[check].run(Trial(BENCH.rehearse(low_rank=low_rank), seed, CHECKS[check]))
    return given


def test_matrices_are_tall_wide_and_square_and_of_full_rank():
    for seed in range(20):
        given = asked(seed)
        signs = {(W.shape[0] > W.shape[1]) - (W.shape[0] < W.shape[1]) for W, _ in given}
        assert signs == {-1, 0, 1}
        for W, r in given:
            assert int(torch.linalg.matrix_rank(W)) == min(W.shape)
            assert 2 <= r <= min(W.shape)


def test_the_best_error_is_that_of_the_singular_values_left_out():
    """What the check rests on, seen from outside: Eckart and Young."""
    for way in (BENCH.solution["low_rank"], *RIGHT["low_rank"]):
        for W, r in asked(1):
            B, A = (torch.as_tensor(x).detach().double() for x in way(W, r))
            left = torch.linalg.svdvals(W.double())[r:].norm()
            assert float((W - B @ A).norm()) == pytest.approx(float(left), abs=1e-5)


def slightly_worse(W, r):
    """The right span of columns, and not quite the right of rows."""
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    if r < len(S):
        Vh[r - 1 : r + 1] = torch.tensor([[0.995, 0.1], [-0.1, 0.995]]) @ Vh[r - 1 : r + 1]
    return U[:, :r] * S[:r], Vh[:r]


def test_what_is_a_little_worse_than_the_best_is_not_the_best():
    for seed in range(20):
        assert set(failed(BENCH, seed, low_rank=slightly_worse)) == {NEAREST}


def test_fractions_are_away_from_boundaries_and_below_one():
    def rank_for_energy(W, fraction):
        energy = torch.linalg.svdvals(W.double()).square()
        held = energy.cumsum(0) / energy.sum()
        assert 0 < fraction < 1
        assert float((held[:-1] - fraction).abs().min()) > 1e-3
        return int((held < fraction).sum()) + 1

    for seed in range(20):
        assert not failed(BENCH, seed, rank_for_energy=rank_for_energy)


def test_everything_is_a_value():
    assert {check.evidence for check in BENCH.checks} == {"value"}
    assert {check.level for check in BENCH.checks} == {"check"}


def test_messages_never_hold_the_true_answer():
    found = failed(BENCH, 4, rank_for_energy=lambda W, fraction: 1000)
    assert "came back: 1000" in found["rank_keeps_that_share"].message
    found = failed(BENCH, 4, lora_param_count=lambda m, n, r: 7)
    message = found["parameters_counted"].message
    m, n, r = map(int, re.search(r"\((\d+), (\d+), (\d+)\)", message).groups())
    assert str(r * (m + n)) not in message
    found = failed(BENCH, 4, low_rank=NAMED["smallest_kept"].run)
    W, r = asked(4)[0]
    least = float(torch.linalg.svdvals(W)[r:].norm() / W.norm())
    assert f"{least:.3f}" not in found[NEAREST].message
    assert re.search(r"B @ A misses W by 0\.\d+ of W's norm", found[NEAREST].message)


# --- the lesson -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    """The names that the lesson's code leaves, and what it printed."""
    blocks = re.findall(r"^```python\n(.*?)^```", LESSON, re.MULTILINE | re.DOTALL)
    names = {"__name__": "lesson"}
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec("\n".join(blocks), names)
    assert torch.get_default_dtype() == torch.float32
    return names, told.getvalue()


def test_the_lessons_table_of_losses_is_computed(lesson):
    names, _ = lesson
    results = names["results"]
    rows = ("LoRA of rank r", "its *update* cut to rank r", "its *weight* cut to rank r")
    for which, row in enumerate(rows):
        told = " | ".join(f"{results[r][which]:.2f}" for r in (1, 2, 4, 8, 16))
        assert f"{row} | {told} |" in LESSON
    assert f"Before training the loss is {names['untrained']:.2f}" in LESSON
    assert f"after full fine-tuning {names['trained']:.2f}" in LESSON


def test_what_the_lesson_says_of_the_update_is_so(lesson):
    names, told = lesson
    results, untrained, trained = names["results"], names["untrained"], names["trained"]
    of_update, of_weight = names["of_update"], names["of_weight"]
    assert of_update[3] > 10 * of_update[4], "four large singular values"
    assert of_weight[3] < 1.2 * of_weight[4], "and none such in the weight"
    assert results[4][0] < trained, "better than full fine-tuning"
    assert results[4][2] > untrained, "worse than before training"
    assert results[2][0] > trained + 0.1, "a ceiling"
    assert results[16][0] == pytest.approx(results[4][0], abs=0.01), "buys nothing"
    assert 4 * (names["OUT"] + names["IN"]) == 448
    assert names["OUT"] * names["IN"] == 3072
    assert "100 examples: a gradient of rank 48" in told
    assert "10 examples: a gradient of rank 10" in told
    largest = [f"{s:.1f}" for s in (of_weight[0], of_weight[-1], of_update[0], of_update[3])]
    assert largest == ["1.9", "0.2", "5.0", "2.5"]
    assert "from 1.9 to 0.2" in LESSON
    assert "5.0 to 2.5, and drop to 0.2" in LESSON.replace("\n", " ")
    assert f"{of_update[4]:.1f}" == "0.2"


def test_the_lessons_planted_matrix_is_as_it_says(lesson):
    names, told = lesson
    planted = names["planted"]
    assert f"= {planted[2:].norm():.3f}" in LESSON
    missed = re.search(r"missed by the first two columns: ([\d.]+)", told)[1]
    assert f"# {float(missed):.3f}" in LESSON
    shares = planted.square().cumsum(0) / planted.square().sum()
    assert f"one term holds {shares[0]:.0%} and two hold {shares[1]:.0%}" in LESSON.replace(
        " %", "%"
    )
    assert f"# {planted.square().sum():.2f} both" in LESSON
    assert "term 1: [[2.0, 2.0], [2.0, 2.0]]" in told
    assert "term 2: [[1.0, -1.0], [-1.0, 1.0]]" in told


def test_the_lessons_energy_and_cost_tables_are_computed():
    count = BENCH.solution["lora_param_count"]
    for share, text in ((0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9")):
        assert f"| {text} % | {math.sqrt(1 - share):.2f} |" in LESSON
    for out, width in ((4096, 4096), (1024, 4096), (14336, 4096)):
        counts = " | ".join(f"{count(out, width, r):,}" for r in (8, 16, 64))
        share = count(out, width, 16) / (out * width)
        times = "\N{MULTIPLICATION SIGN}"
        row = f"| {out} {times} {width} | {out * width:,} | {counts} | {100 * share:.2f} % |"
        assert row in LESSON


def test_the_count_is_what_peft_trains():
    for out, width, r in ((32, 48, 4), (20, 10, 3)):
        layer = nn.Sequential(nn.Linear(width, out, bias=False))
        adapted = get_peft_model(layer, LoraConfig(r=r, target_modules=["0"]))
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        assert trained == BENCH.solution["lora_param_count"](out, width, r)


def test_the_lesson_says_that_lora_learns_an_update():
    assert "**LoRA does not approximate W.**" in LESSON
    assert "W' = W + (alpha / r) B A" in LESSON
