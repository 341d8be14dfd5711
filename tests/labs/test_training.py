"""The training lab: listed mistakes are there, right ways pass, strange wrong ones fail."""

from __future__ import annotations

import contextlib
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn
from transformers.loss.loss_utils import ForCausalLMLoss

from verify.judging import Bench
from verify.labs import find_labs

LABS = Path(__file__).parents[2] / "labs"
LAB = next(lab for lab in find_labs(LABS) if lab.skill == "training")
BENCH = Bench(LAB)
LESSON = (LAB.folder / "README.md").read_text("utf-8")
SEEDS = range(5)

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
    "eval mode": ("eval_mode", "mode_left_as_it_came"),
    "another optimizer": ("sgd", "adam_without_decay", "adam_with_l2"),
    "a new optimizer per step": ("new_optimizer_per_step",),
    "last batch dropped": ("last_batch_dropped",),
    "invented losses": ("invented_losses",),
    "torch's own cross-entropy": ("torchs_own_cross_entropy", "torchs_own_nll_loss"),
}
NAMED = {m.name: m for m in BENCH.misconceptions}


def failed(seed, **functions):
    """Return the checks that fail with ``functions`` in the solution's place.

    As in a job, a check that waits for another one is played only when that one passed.
    """
    learner, found, passed = BENCH.rehearse(**functions), {}, set()
    for check in BENCH.checks:
        if set(check.functions) & set(functions) and passed >= set(check.after):
            verdict = BENCH.judge(check, learner, seed)
            if verdict.status == "passed":
                passed.add(check.name)
            else:
                found[check.name] = verdict
    return found


@pytest.mark.parametrize("phrase", LISTED)
def test_every_listed_mistake_is_a_misconception(phrase):
    for name in LISTED[phrase]:
        assert name in NAMED, f"{phrase}: {name}"
        wrong = NAMED[name]
        found = failed(3, **{wrong.function: wrong.run})
        assert found, name
        assert {v.misconception for v in found.values()} == {name}


def test_a_hint_that_serves_two_mistakes_names_both():
    assert "`step`" in NAMED["weights_never_move"].hint
    assert "`zero_grad` comes between `backward` and `step`" in NAMED["weights_never_move"].hint


# --- right, in other words ------------------------------------------------------------------------


def entropy_by_logsumexp(logits, targets, ignore_index=-100):
    kept = targets != ignore_index
    x, t = logits[kept], targets[kept]
    return (x.logsumexp(1) - x[torch.arange(len(t)), t]).mean()


def entropy_by_hand(logits, targets, ignore_index=-100):
    total, count = logits.new_zeros(()), 0
    for row, target in zip(logits, targets, strict=True):
        if int(target) == ignore_index:
            continue
        top = row.max()
        total = total + top + (row - top).exp().sum().log() - row[target]
        count += 1
    return total / count


def entropy_by_one_hot(logits, targets, ignore_index=-100):
    mask = (targets != ignore_index).double()
    hot = F.one_hot(targets.masked_fill(targets == ignore_index, 0), logits.shape[-1])
    each = -(hot * logits.double().log_softmax(-1)).sum(-1)
    return (each * mask).sum() / mask.sum()


def entropy_by_where(logits, targets, ignore_index=-100):
    each = -F.log_softmax(logits, dim=-1).gather(1, targets.clamp(min=0)[:, None])[:, 0]
    ignored = targets == ignore_index
    return torch.where(ignored, 0.0, each).sum() / (~ignored).sum()


def causal_by_module(logits, labels):
    loss = nn.CrossEntropyLoss()
    return loss(logits[..., :-1, :].reshape(-1, logits.size(-1)), labels[..., 1:].reshape(-1))


def causal_by_transposing(logits, labels):
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:])


def causal_by_padding(logits, labels):
    moved = F.pad(labels[:, 1:], (0, 1), value=-100)
    return entropy_by_logsumexp(logits.flatten(0, 1), moved.flatten())


def causal_by_transformers(logits, labels):
    return ForCausalLMLoss(logits, labels, vocab_size=logits.shape[-1])


def train_zeroing_after(model, batches, lr):
    model.train()
    optimizer = torch.optim.AdamW(params=list(model.parameters()), lr=lr, foreach=False)
    losses = []
    for batch in batches:
        outputs = model(**{key: value.to(model.device) for key, value in batch.items()})
        outputs["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        losses += [outputs[0].detach()]
    model.eval()
    return losses


def train_by_model_zero_grad(model, batches, lr):
    optimizer = torch.optim.Adam(
        filter(lambda p: p.requires_grad, model.parameters()),
        lr=lr,
        weight_decay=0.01,
        decoupled_weight_decay=True,
    )
    losses = ()
    for i in range(len(batches)):
        model.train(True)
        loss = model(**batches[i]).loss
        model.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses += (np.float64(loss.item()),)
    return losses


def train_by_formula(model, batches, lr):
    model.train()
    weights = list(model.parameters())
    moments = [(torch.zeros_like(w), torch.zeros_like(w)) for w in weights]
    losses = []
    for step, batch in enumerate(batches, 1):
        loss = model(**batch).loss
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for w, g, (m, v) in zip(weights, gradients, moments, strict=True):
                m.lerp_(g, 0.1)
                v.mul_(0.999).addcmul_(g, g, value=0.001)
                w.mul_(1 - lr * 0.01)
                root = (v / (1 - 0.999**step)).sqrt() + 1e-8
                w.sub_(lr * (m / (1 - 0.9**step)) / root)
        losses.append(float(loss.detach()))
    return losses


RIGHT = {
    "loss_from_probability": (
        lambda p: -np.log(p),
        lambda p: math.log(1 / p),
        lambda p: -torch.log(torch.tensor(p)),
        lambda p: -math.log2(p) * math.log(2),
    ),
    "cross_entropy": (
        entropy_by_logsumexp,
        entropy_by_hand,
        entropy_by_one_hot,
        entropy_by_where,
    ),
    "causal_lm_loss": (
        causal_by_module,
        causal_by_transposing,
        causal_by_padding,
        causal_by_transformers,
    ),
    "perplexity": (
        np.exp,
        lambda loss: math.e**loss,
        lambda loss: torch.tensor(loss).exp(),
    ),
    "train": (train_zeroing_after, train_by_model_zero_grad, train_by_formula),
}


@pytest.mark.parametrize(
    ("function", "way"), [(name, way) for name, ways in RIGHT.items() for way in ways]
)
def test_right_in_other_words_passes(function, way):
    for seed in SEEDS:
        assert failed(seed, **{function: way}) == {}


# --- wrong in ways nobody listed ------------------------------------------------------------------


def trains(change=None, **options):
    """Return a loop that is right but for AdamW's ``options`` or a ``change`` before each step."""

    def train(model, batches, lr):
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), **{"lr": lr, **options})
        losses = []
        for batch in batches:
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            if change:
                change(model)
            optimizer.step()
            losses.append(loss.item())
        return losses

    return train


def train_and(answer):
    def train(model, batches, lr):
        return answer(BENCH.solution["train"](model, batches, lr))

    return train


def smoothed(logits, targets, ignore_index=-100):
    own = entropy_by_logsumexp(logits, targets, ignore_index)
    kept = targets != ignore_index
    return 0.9 * own - 0.1 * logits[kept].log_softmax(-1).mean()


def first_bias_spared(model):
    model.head.bias.grad[0] = 0


WRONG = (
    ("loss_from_probability", lambda p: -math.log(p) + 1e-3),
    ("loss_from_probability", lambda p: str(-math.log(p))),
    ("loss_from_probability", lambda p: [-math.log(p)]),
    ("loss_from_probability", lambda p: float("nan")),
    ("loss_from_probability", lambda p: True),
    ("loss_from_probability", lambda p: min(-math.log(p), 5.0)),
    ("loss_from_probability", lambda p: None),
    ("cross_entropy", smoothed),
    ("cross_entropy", lambda x, t, i=-100: entropy_by_logsumexp(x.clamp(-50, 50), t, i)),
    ("cross_entropy", lambda x, t, i=-100: entropy_by_logsumexp(x, t, i)[None]),
    ("cross_entropy", lambda x, t, i=-100: entropy_by_logsumexp(x[:-1], t[:-1], i)),
    ("cross_entropy", lambda x, t, i=-100: entropy_by_logsumexp(x, t, i).nan_to_num() * 1.001),
    ("causal_lm_loss", lambda x, y: causal_by_module(x[:1], y[:1])),
    ("causal_lm_loss", lambda x, y: causal_by_module(x, y.masked_fill(y == y.max(), -100))),
    ("causal_lm_loss", lambda x, y: causal_by_module(x, y) + x.mean() - x.mean().detach()),
    ("causal_lm_loss", lambda x, y: causal_by_module(x, y).expand(2)),
    ("perplexity", lambda loss: round(math.exp(loss))),
    ("perplexity", lambda loss: math.exp(loss) - 1),
    ("perplexity", lambda loss: str(math.exp(loss))),
    ("train", trains(betas=(0.9, 0.99))),
    ("train", trains(weight_decay=0.02)),
    ("train", trains(amsgrad=True, maximize=True)),
    ("train", trains(eps=1e-3)),
    ("train", trains(change=first_bias_spared)),
    ("train", train_and(lambda losses: losses[::-1])),
    ("train", train_and(lambda losses: [*losses, losses[-1]])),
    ("train", train_and(lambda losses: [loss + 0.01 for loss in losses])),
    ("train", train_and(lambda losses: [str(loss) for loss in losses])),
    ("train", train_and(lambda losses: [float("nan")] * len(losses))),
    ("train", train_and(lambda losses: dict.fromkeys("ab", 0.0))),
    ("train", lambda model, batches, lr: [1 / 0]),
)


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_in_an_unlisted_way_fails_without_a_hint(number):
    function, way = WRONG[number]
    for seed in SEEDS:
        found = failed(seed, **{function: way})
        assert found, f"{function} passes on seed {seed}"
        for verdict in found.values():
            assert verdict.status == "failed"
            assert verdict.misconception is None
            assert verdict.message.startswith(f"{function}(")
            assert any(word in verdict.message for word in ("came back", "raised", "no gradient"))


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
    found = failed(1, cross_entropy=with_forbidden_torch(call))
    assert list(found) == ["written_without_torchs_own"]
    verdict = found["written_without_torchs_own"]
    assert f"torch's own {named} loss" in verdict.message
    assert verdict.misconception in ("torchs_own_cross_entropy", "torchs_own_nll_loss")


def test_a_model_left_in_its_mode_fails_only_where_it_arrives_in_evaluation_mode():
    found = failed(2, train=NAMED["mode_left_as_it_came"].run)
    assert list(found) == ["trains_in_training_mode"]
    assert "arrives in evaluation mode" in found["trains_in_training_mode"].message


def test_losses_with_a_graph_get_an_advice_and_nothing_worse():
    found = failed(2, train=NAMED["losses_with_their_graph"].run)
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
    verdict = failed(4, train=train)["one_adamw_step_per_batch"]
    assert verdict.misconception == "weights_never_move"
    assert "not one weight has changed" in verdict.message


def test_what_is_a_probe_and_what_is_a_value():
    probes = {check.name for check in BENCH.checks if check.evidence == "probe"}
    assert probes == {"written_without_torchs_own", "losses_hold_no_graph"}


def test_messages_never_hold_the_true_answer():
    p = 0.25
    found = failed(0, loss_from_probability=lambda _: p)
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
