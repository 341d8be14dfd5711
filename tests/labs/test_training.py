"""The training lab: listed mistakes are there, right ways pass, strange wrong ones fail."""

from __future__ import annotations

import contextlib
import io
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn

from tests.labs.answers import failed
from tests.labs.answers.training import norm_clipped, trains
from verify.judging import Bench
from verify.labs import find_labs

LABS = Path(__file__).parents[2] / "labs"
LAB = next(lab for lab in find_labs(LABS) if lab.skill == "training")
BENCH = Bench(LAB)
LESSON = (LAB.folder / "README.md").read_text("utf-8")

LISTED = {
    "log base 2": ("probability_in_bits", "entropy_in_bits"),
    "missing minus": ("probability_minus_missing", "entropy_minus_missing"),
    "unstable softmax": ("unstable_softmax", "unstable_logsumexp", "log_of_softmax"),
    "softmax twice": ("softmax_twice",),
    "ignore_index ignored": (
        "ignored_rows_gathered",
        "ignored_rows_indexed",
        "ignored_rows_clamped",
        "only_minus_100_ignored",
        "minus_100_looked_up",
    ),
    "mean over all": ("mean_over_all", "causal_mean_over_all"),
    "sum": ("sum_not_mean", "causal_sum"),
    "detached": ("detached", "causal_detached"),
    "no shift": ("no_shift",),
    "shift backwards": ("shift_backwards",),
    "perplexity base 2": ("perplexity_base_2",),
    "no zero_grad": ("no_zero_grad",),
    "zero_grad before step": ("weights_never_move", "gradients_zeroed_before_step"),
    "never steps": ("weights_never_move",),
    "step before backward": ("step_before_backward", "step_one_batch_late"),
    "eval mode": ("eval_mode", "left_in_eval_mode", "mode_left_as_it_came"),
    "another optimizer": ("sgd", "adam_without_decay", "adam_with_l2", "biases_not_decayed"),
    "a new optimizer per step": ("new_optimizer_per_step",),
    "last batch dropped": ("last_batch_dropped",),
    "invented losses": ("invented_losses",),
    "torch's own cross-entropy": ("torchs_own_cross_entropy", "torchs_own_nll_loss"),
    # Not on the list, and made all the same:
    "a token left out": (
        "token_zero_left_out",
        "only_positive_targets_kept",
        "zero_ignored_too",
        "mask_not_shifted",
    ),
    "written into what was given": (
        "targets_overwritten",
        "logits_overwritten",
        "labels_overwritten",
        "labels_shifted_in_place",
        "labels_taken_out",
    ),
    "one maximum for all rows": ("one_maximum_for_all",),
    "a loss that is capped": ("probability_with_epsilon", "perplexity_capped"),
    "another algorithm": ("gradients_clipped", "rate_decays", "autocast_forward"),
}
NAMED = {m.name: m for m in BENCH.misconceptions}


@pytest.mark.parametrize("phrase", LISTED)
def test_every_listed_mistake_is_a_misconception(phrase):
    for name in LISTED[phrase]:
        assert name in NAMED, f"{phrase}: {name}"
        wrong = NAMED[name]
        found = failed(BENCH, 3, **{wrong.function: wrong.run})
        assert found, name
        assert {v.misconception for v in found.values()} == {name}


def test_a_hint_that_serves_two_mistakes_names_both():
    assert "`step`" in NAMED["weights_never_move"].hint
    assert "`zero_grad` comes between `backward` and `step`" in NAMED["weights_never_move"].hint


# --- how a mistake is met -------------------------------------------------------------------------


def with_forbidden_torch(call):
    return lambda logits, targets, ignore_index=-100: call(logits, targets, ignore_index)


def disguised(logits, targets, ignore_index):
    with torch._C.DisableTorchFunction():
        return F.cross_entropy(logits, targets, ignore_index=ignore_index)


def as_probabilities(logits, targets, ignore_index):
    kept = targets != ignore_index
    return F.cross_entropy(logits[kept], F.one_hot(targets[kept], logits.shape[-1]).float())


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda x, t, i: nn.CrossEntropyLoss(ignore_index=i)(x, t), "cross-entropy"),
        (lambda x, t, i: torch.ops.aten.cross_entropy_loss(x, t, None, 1, i), "cross-entropy"),
        (as_probabilities, "cross-entropy"),
        (lambda x, t, i: nn.NLLLoss(ignore_index=i)(x.log_softmax(1), t), "NLL"),
        (
            lambda x, t, i: torch.ops.aten.nll_loss_forward(x.log_softmax(1), t, None, 1, i)[0],
            "NLL",
        ),
        (disguised, "NLL"),
    ],
)
def test_torchs_own_losses_are_noticed_however_called(call, named):
    found = failed(BENCH, 1, cross_entropy=with_forbidden_torch(call))
    assert list(found) == ["written_without_torchs_own"]
    verdict = found["written_without_torchs_own"]
    assert f"torch's own {named} loss" in verdict.message
    assert verdict.misconception in ("torchs_own_cross_entropy", "torchs_own_nll_loss")


def test_a_model_left_in_its_mode_fails_only_where_it_arrives_in_evaluation_mode():
    found = failed(BENCH, 2, train=NAMED["mode_left_as_it_came"].run)
    assert list(found) == ["trains_in_training_mode"]
    assert "arrives in evaluation mode" in found["trains_in_training_mode"].message


@pytest.mark.parametrize("norm", [0.1, 10.0, 100.0])
def test_gradients_are_seen_to_be_clipped_at_other_norms_too(norm):
    """Only how far AdamW's epsilon reaches tells them from 1, the norm of the misconception."""
    for seed in range(5):
        found = failed(BENCH, seed, train=trains(change=norm_clipped(norm)))
        assert list(found) == ["one_adamw_step_per_batch"]
        verdict = found["one_adamw_step_per_batch"]
        assert "large gradients" in verdict.message
        assert verdict.misconception in ("gradients_clipped", None)


@pytest.mark.parametrize("function", ["cross_entropy", "causal_lm_loss"])
def test_what_is_written_into_an_argument_is_said_to_have_come_back_changed(function):
    def scribbling(logits, *others):
        loss = BENCH.solution[function](logits, *others)
        logits.detach()[0] = 1.0
        return loss

    (verdict,) = failed(BENCH, 6, **{function: scribbling}).values()
    assert ": afterwards logits is a float32 tensor" in verdict.message
    assert "changed in place" in verdict.message


def test_losses_with_a_graph_get_an_advice_and_nothing_worse():
    found = failed(BENCH, 2, train=NAMED["losses_with_their_graph"].run)
    assert list(found) == ["losses_hold_no_graph"]
    levels = {check.name: check.level for check in BENCH.checks}
    assert [name for name, level in levels.items() if level == "advice"] == list(found)


def zero_grad_between(model, batches, lr):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    losses = []
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        losses.append(loss.item())
    return losses


def step_without_gradients(model, batches, lr):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = model(**batch).loss
        optimizer.step()
        loss.backward()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("train", [zero_grad_between, step_without_gradients])
def test_steps_that_do_nothing_share_a_hint(train):
    verdict = failed(BENCH, 4, train=train)["one_adamw_step_per_batch"]
    assert verdict.misconception == "weights_never_move"
    assert "not one weight has changed" in verdict.message


def test_what_is_a_probe_and_what_is_a_value():
    probes = {check.name for check in BENCH.checks if check.evidence == "probe"}
    assert probes == {"written_without_torchs_own", "losses_hold_no_graph"}


def test_messages_never_hold_the_true_answer():
    p = 0.25
    found = failed(BENCH, 0, loss_from_probability=lambda _: p)
    message = found["loss_is_minus_the_natural_log"].message
    asked = float(re.search(r"probability\(([\d.]+)\)", message)[1])
    assert "came back: 0.25" in message
    assert f"{-math.log(asked):.2f}" not in message


# --- the lesson -----------------------------------------------------------------------------------


def test_the_lessons_numbers_are_computed():
    for p in (0.9, 0.5, 0.1, 0.01):
        assert f"| {p} | {-math.log(p):.3f} |" in LESSON
    for vocabulary in (50, 32_000, 128_256):
        assert f"| {vocabulary:,} | {math.log(vocabulary):.2f} |" in LESSON
    assert f"one of {math.exp(2):.2f}" in LESSON
    sure = torch.tensor([20.0, 0.0, 0.0])
    assert f"# {-sure.softmax(0).log_softmax(0)[0]:.3f}" in LESSON
    assert [round(x, 3) for x in torch.tensor([2.0, 1.0, 0.0]).softmax(0).tolist()] == [
        float(x) for x in re.search(r"# (0\.\d+), (0\.\d+), (0\.\d+)\n", LESSON).groups()
    ]
    assert torch.tensor(89.0).exp().isinf()
    assert float(torch.tensor(-104.0).exp()) == 0
    assert 1 + torch.finfo(torch.bfloat16).eps == pytest.approx(1.0078, abs=5e-5)


def test_the_lessons_examples_run_and_show_what_it_says():
    blocks = re.findall(r"^```python\n(.*?)^```", LESSON, re.MULTILINE | re.DOTALL)
    names: dict = {"__name__": "lesson"}
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec("\n".join(blocks), names)
    assert "y = 2.95 x + 0.50" in told.getvalue()
    unmoved = names["unmoved"]
    for lr, label in ((1e-5, "1e-5"), (1e-4, "1e-4"), (1e-3, "1e-3")):
        single, half = unmoved[lr, torch.float32], unmoved[lr, torch.bfloat16]
        assert f"| {label} | {single:.0%} | {half:.0%} |" in LESSON
    assert unmoved[1e-5, torch.bfloat16] > 0.8
