"""The training lab in other words: right ways, and mistakes that no misconception names."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from transformers.loss.loss_utils import ForCausalLMLoss

# --- cross_entropy --------------------------------------------------------------------------------


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


def entropy_on_a_copy(logits, targets, ignore_index=-100):
    """In place, but on copies: the caller's tensors are not touched."""
    x, t = logits.clone(), targets.clone()
    ignored = t == ignore_index
    t[ignored] = 0
    x -= x.amax(1, keepdim=True).detach()
    rows = x.exp().sum(1).log() - x.gather(1, t.unsqueeze(1)).squeeze(1)
    rows[ignored] = 0
    return rows.sum() / ignored.logical_not().sum()


def smoothed(logits, targets, ignore_index=-100):
    own = entropy_by_logsumexp(logits, targets, ignore_index)
    kept = targets != ignore_index
    return 0.9 * own - 0.1 * logits[kept].log_softmax(-1).mean()


def entropy_without_token(token):
    """Return a loss that leaves out one token of the vocabulary, counted from the front or back."""

    def cross_entropy(logits, targets, ignore_index=-100):
        left_out = targets == token % logits.shape[-1]
        return entropy_by_logsumexp(
            logits, targets.masked_fill(left_out, ignore_index), ignore_index
        )

    return cross_entropy


def entropy_in(dtype):
    def cross_entropy(logits, targets, ignore_index=-100):
        return entropy_by_logsumexp(logits.to(dtype), targets, ignore_index).float()

    return cross_entropy


def entropy_with_wrong_default(logits, targets, ignore_index=0):
    return entropy_by_logsumexp(logits, targets, ignore_index)


def entropy_of_hard_maximum(logits, targets, ignore_index=-100):
    kept = targets != ignore_index
    return (logits[kept].amax(1) - logits[kept].gather(1, targets[kept][:, None])[:, 0]).mean()


def entropy_clipped(logits, targets, ignore_index=-100):
    kept = targets != ignore_index
    rows = logits[kept].log_softmax(-1).clamp(min=-20)
    return -rows.gather(1, targets[kept][:, None]).mean()


def entropy_with_part_of_the_graph(logits, targets, ignore_index=-100):
    kept = targets != ignore_index
    x, t = logits[kept], targets[kept]
    return (x.logsumexp(1).detach() - x[torch.arange(len(t)), t]).mean()


def entropy_and_z_loss(logits, targets, ignore_index=-100):
    kept = targets != ignore_index
    z = 1e-4 * logits[kept].logsumexp(-1).square().mean()
    return entropy_by_logsumexp(logits, targets, ignore_index) + z


def entropy_scribbling(logits, targets, ignore_index=-100):
    loss = entropy_by_one_hot(logits, targets, ignore_index)
    targets.clamp_(max=1)
    return loss


def entropy_centring_in_place(logits, targets, ignore_index=-100):
    with torch.no_grad():
        logits.sub_(logits.mean(-1, keepdim=True))
    return entropy_by_logsumexp(logits, targets, ignore_index)


def entropy_marking_used_rows(logits, targets, ignore_index=-100):
    loss = entropy_by_where(logits, targets, ignore_index)
    logits.detach()[targets == ignore_index] = 0
    return loss


# --- causal_lm_loss -------------------------------------------------------------------------------


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


def causal_by_rows(logits, labels):
    total, count = 0.0, 0
    for x, y in zip(logits, labels, strict=True):
        total = total + F.cross_entropy(x[:-1], y[1:], reduction="sum")
        count += int((y[1:] != -100).sum())
    return total / count


def causal_cut(front, back):
    """Return a loss that leaves out the first ``front`` and last ``back`` predictions of a row."""

    def causal_lm_loss(logits, labels):
        stop = logits.shape[1] - 1 - back
        x, y = logits[:, front:stop], labels[:, 1 + front : 1 + stop]
        return F.cross_entropy(x.flatten(0, 1), y.flatten())

    return causal_lm_loss


def causal_mean_of_column_means(logits, labels):
    each = F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    kept = labels[:, 1:] != -100
    columns = kept.any(0)
    return (each.sum(0)[columns] / kept.sum(0)[columns]).mean()


def causal_squeezed(logits, labels):
    """Right but where a batch holds one text: then `squeeze` takes the wrong dimension away."""
    x, y = logits.squeeze(), labels.squeeze()
    return F.cross_entropy(x[:, :-1].reshape(-1, x.shape[-1]), y[..., 1:].reshape(-1))


def causal_masking_by_input(logits, labels):
    kept = (labels[:, :-1] != -100) & (labels[:, 1:] != -100)
    return F.cross_entropy(logits[:, :-1][kept], labels[:, 1:][kept])


def causal_scribbling(logits, labels):
    loss = causal_by_module(logits, labels)
    labels[:, 0] = -100
    return loss


def causal_zeroing_the_last(logits, labels):
    loss = causal_by_module(logits, labels)
    logits.detach()[:, -1] = 0
    return loss


def causal_through_softmax_in_place(logits, labels):
    with torch.no_grad():
        logits.copy_(logits.log_softmax(-1))
    return causal_by_module(logits, labels)


# --- train ----------------------------------------------------------------------------------------


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


def train_with_lr_set_by_group(model, batches, lr):
    model.train()
    groups = [{"params": [parameter], "lr": lr} for parameter in model.parameters()]
    optimizer = torch.optim.AdamW(groups)
    losses = []
    for batch in list(batches):
        own = dict(batch)
        labels = own.pop("labels")
        loss = model(labels=labels, **own).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.float().item())
    return losses


def trains(change=None, optimizer=torch.optim.AdamW, order=list, divide=None, **options):
    """Return a loop that is right but for the options.

    Args:
        change: Of the model's gradients before each step.
        optimizer: Another class.
        order: What makes other batches of the given ones.
        divide: What a loss is divided by before its backward pass, given the number of batches.
        options: Of the optimizer.
    """

    def train(model, batches, lr):
        model.train()
        chosen = optimizer(model.parameters(), **{"lr": lr, **options})
        losses = []
        for batch in order(batches):
            loss = model(**batch).loss
            chosen.zero_grad()
            (loss / divide(len(batches)) if divide else loss).backward()
            if change:
                change(model)
            chosen.step()
            losses.append(loss.item())
        return losses

    return train


def train_and(answer):
    """Return a loop that is right but for what it answers."""

    def train(model, batches, lr):
        return answer(trains()(model, batches, lr))

    return train


def first_bias_spared(model):
    model.head.bias.grad[0] = 0


def norm_clipped(most):
    return lambda model: clip_grad_norm_(model.parameters(), most)


def values_clipped(most):
    return lambda model: clip_grad_value_(model.parameters(), most)


def train_with_schedule(rate):
    """Return a loop whose rate is ``lr * rate(i, n)`` at step i of n."""

    def train(model, batches, lr):
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        losses = []
        for i, batch in enumerate(batches):
            optimizer.param_groups[0]["lr"] = lr * rate(i, len(batches))
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return train


def train_accumulating(model, batches, lr):
    """A step after every second batch, as if the batches were micro-batches."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    losses = []
    for i, batch in enumerate(batches, 1):
        loss = model(**batch).loss
        (loss / 2).backward()
        if i % 2 == 0 or i == len(batches):
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def train_a_copy(model, batches, lr):
    return trains()(copy.deepcopy(model), batches, lr)


def train_the_head_alone(model, batches, lr):
    model.train()
    optimizer = torch.optim.AdamW(model.head.parameters(), lr=lr)
    losses = []
    for batch in batches:
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_evaluating_from_the_middle(model, batches, lr):
    """The mode is set once, and an evaluation half-way changes it for good."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    losses = []
    for i, batch in enumerate(batches):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        model.train(i < 1)
    return losses


def train_scribbling(model, batches, lr):
    losses = trains()(model, batches, lr)
    for batch in batches:
        batch["labels"][:, 0] = -100
    return losses


def train_emptying(model, batches, lr):
    losses = trains()(model, batches, lr)
    for batch in batches:
        batch["attention_mask"].zero_()
    return losses


def train_twice_per_batch(model, batches, lr):
    return trains(order=lambda given: [b for batch in given for b in (batch, batch)])(
        model, batches, lr
    )[::2]


def shuffled(batches):
    return random.sample(list(batches), len(batches))


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
        entropy_on_a_copy,
    ),
    "causal_lm_loss": (
        causal_by_module,
        causal_by_transposing,
        causal_by_padding,
        causal_by_transformers,
        causal_by_rows,
    ),
    "perplexity": (
        np.exp,
        lambda loss: math.e**loss,
        lambda loss: torch.tensor(loss).exp(),
        lambda loss: 2 ** (loss / math.log(2)),
    ),
    "train": (
        train_zeroing_after,
        train_by_model_zero_grad,
        train_by_formula,
        train_with_lr_set_by_group,
        trains(fused=True),
    ),
}

WRONG = {
    "loss_from_probability": (
        lambda p: -math.log(p) + 1e-3,
        lambda p: str(-math.log(p)),
        lambda p: [-math.log(p)],
        lambda p: float("nan"),
        lambda p: True,
        lambda p: min(-math.log(p), 5.0),
        lambda p: None,
        lambda p: -math.log(max(p, 1e-8)),
        lambda p: -math.log(p + 1e-10),
        lambda p: -math.log(p + 1e-7),
        lambda p: round(-math.log(p), 2),
        lambda p: round(-math.log(p), 3),
        lambda p: round(-math.log(p), 4),
        lambda p: -math.log1p(p),
        lambda p: -math.log(p) - math.log1p(-p),
        lambda p: -(p * math.log(p) + (1 - p) * math.log1p(-p)),
        lambda p: 1 / p,
        lambda p: (1 - p) ** 2,
        lambda p: -math.log(p / (1 - p)),
        lambda p: -float(torch.tensor(p).half().log()),
    ),
    "cross_entropy": (
        smoothed,
        lambda x, t, i=-100: entropy_by_logsumexp(x.clamp(-50, 50), t, i),
        lambda x, t, i=-100: entropy_by_logsumexp(x, t, i)[None],
        lambda x, t, i=-100: entropy_by_logsumexp(x[:-1], t[:-1], i),
        lambda x, t, i=-100: entropy_by_logsumexp(x[1:], t[1:], i),
        lambda x, t, i=-100: entropy_by_logsumexp(x, t, i).nan_to_num() * 1.001,
        entropy_without_token(1),
        entropy_without_token(2),
        entropy_without_token(-1),
        entropy_in(torch.bfloat16),
        entropy_in(torch.float16),
        entropy_with_wrong_default,
        lambda x, t, i=-100: entropy_by_logsumexp(x, t, i or -100),
        entropy_of_hard_maximum,
        entropy_clipped,
        entropy_with_part_of_the_graph,
        entropy_and_z_loss,
        entropy_scribbling,
        entropy_centring_in_place,
        entropy_marking_used_rows,
        lambda x, t, i=-100: entropy_by_logsumexp(x / 1.01, t, i),
        lambda x, t, i=-100: entropy_by_logsumexp(x, t, i).round(decimals=3),
        lambda x, t, i=-100: entropy_by_logsumexp(x.nan_to_num(), t, i).exp(),
    ),
    "causal_lm_loss": (
        lambda x, y: causal_by_module(x[:1], y[:1]),
        lambda x, y: causal_by_module(x[-1:], y[-1:]),
        lambda x, y: causal_by_module(x, y.masked_fill(y == y.max(), -100)),
        lambda x, y: causal_by_module(x, y.masked_fill(y == 1, -100)),
        lambda x, y: causal_by_module(x, y) + x.mean() - x.mean().detach(),
        lambda x, y: causal_by_module(x, y).expand(2),
        causal_cut(1, 0),
        causal_cut(0, 1),
        causal_mean_of_column_means,
        causal_squeezed,
        causal_masking_by_input,
        causal_scribbling,
        causal_zeroing_the_last,
        causal_through_softmax_in_place,
        lambda x, y: causal_by_module(x.log_softmax(1), y),
        lambda x, y: causal_by_module(x.softmax(-1), y),
        lambda x, y: causal_by_module(x.half(), y).float(),
        lambda x, y: causal_by_module(x.bfloat16(), y).float(),
        lambda x, y: causal_by_module(x, y).exp(),
        lambda x, y: -causal_by_module(x, y),
        lambda x, y: causal_by_module(x, y) / math.log(2),
    ),
    "perplexity": (
        lambda loss: round(math.exp(loss)),
        lambda loss: math.exp(loss) - 1,
        lambda loss: str(math.exp(loss)),
        lambda loss: round(math.exp(loss), 2),
        lambda loss: round(math.exp(loss), 3),
        lambda loss: round(math.exp(loss), 4),
        lambda loss: min(math.exp(loss), 1e9),
        lambda loss: math.exp(min(loss, 20)),
        lambda loss: math.exp(loss) + 1e-3,
        lambda loss: math.log(loss) if loss else 0.0,
        lambda loss: math.exp(loss) ** 0.5,
        lambda loss: 2.718**loss,
        lambda loss: 1 + loss + loss**2 / 2 + loss**3 / 6,
        lambda loss: [math.exp(loss)],
        lambda loss: loss**2,
        lambda loss: float("inf"),
    ),
    "train": (
        trains(betas=(0.9, 0.99)),
        trains(betas=(0.9, 0.95)),
        trains(weight_decay=0.02),
        trains(weight_decay=0.1),
        trains(amsgrad=True),
        trains(amsgrad=True, maximize=True),
        trains(eps=1e-3),
        trains(eps=1e-6),
        trains(eps=1e-10),
        trains(lr=1e-4),
        trains(change=first_bias_spared),
        trains(change=values_clipped(1.0)),
        trains(change=values_clipped(10.0)),
        trains(optimizer=torch.optim.NAdam),
        trains(optimizer=torch.optim.RAdam),
        trains(optimizer=torch.optim.Adamax),
        trains(optimizer=torch.optim.RMSprop),
        trains(optimizer=torch.optim.Adagrad),
        trains(optimizer=torch.optim.SGD, momentum=0.9),
        trains(order=reversed),
        trains(order=shuffled),
        trains(order=lambda given: sorted(given, key=lambda b: b["input_ids"].shape[1])),
        trains(order=lambda given: sorted(given, key=lambda b: -b["input_ids"].numel())),
        trains(order=lambda given: given[1:]),
        trains(divide=lambda count: count),
        trains(divide=lambda count: 2),
        train_with_schedule(lambda i, n: min(1, (i + 1) / 2)),
        train_with_schedule(lambda i, n: (1 + math.cos(math.pi * i / n)) / 2),
        train_accumulating,
        train_a_copy,
        train_the_head_alone,
        train_evaluating_from_the_middle,
        train_scribbling,
        train_emptying,
        train_twice_per_batch,
        train_and(lambda losses: losses[::-1]),
        train_and(lambda losses: [*losses, losses[-1]]),
        train_and(lambda losses: [loss + 0.01 for loss in losses]),
        train_and(lambda losses: [str(loss) for loss in losses]),
        train_and(lambda losses: [round(loss, 2) for loss in losses]),
        train_and(lambda losses: [round(loss, 4) for loss in losses]),
        train_and(lambda losses: [math.exp(loss) for loss in losses]),
        train_and(lambda losses: [sum(losses[: i + 1]) for i in range(len(losses))]),
        train_and(lambda losses: [sum(losses[: i + 1]) / (i + 1) for i in range(len(losses))]),
        train_and(lambda losses: [float("nan")] * len(losses)),
        train_and(lambda losses: dict.fromkeys("ab", 0.0)),
        lambda model, batches, lr: [1 / 0],
    ),
}
