"""The known mistakes of the training lab; each docstring is the hint a learner reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn
from torch.optim import Optimizer

from verify.authoring import misconception

Batches = Sequence[Mapping[str, Tensor]]

# A check that waits for another one is played only when that one passed: these fail in one place.
STEPS, MODE = ("one_adamw_step_per_batch",), ("trains_in_training_mode",)
LOSSES, GRAPHS = ("one_loss_per_batch",), ("losses_hold_no_graph",)
MEAN = ("mean_over_the_kept_targets",)
LARGE, CHANGED = ("finite_for_large_logits",), ("arguments_left_alone",)
LABELS, BATCHES = ("causal_arguments_left_alone",), ("batches_left_alone",)


# --- loss_from_probability ------------------------------------------------------------------------


@misconception("loss_from_probability")
def loss_from_probability_not_written(p: float) -> float:
    """Start with one function of Python's `math` and a minus sign: the lesson's first section,
    "One prediction", says which function turns a probability into a surprise.
    """
    raise NotImplementedError


@misconception("loss_from_probability")
def probability_in_bits(p: float) -> float:
    """That is the loss in bits: a logarithm to base 2. Torch, and every published loss, counts in
    nats, so use the natural logarithm.
    """
    return -math.log2(p)


@misconception("loss_from_probability")
def probability_log_base_10(p: float) -> float:
    """That is a logarithm to base 10. In machine learning "log" without a base is the natural
    logarithm: `math.log`, not `math.log10`.
    """
    return -math.log10(p)


@misconception("loss_from_probability")
def probability_minus_missing(p: float) -> float:
    """The minus sign is missing: the logarithm of a number below 1 is negative, and a loss should
    grow when the prediction gets worse.
    """
    return math.log(p)


@misconception("loss_from_probability")
def probability_of_being_wrong(p: float) -> float:
    """That is 1 - p, the probability of being wrong. It can never exceed 1, so it hardly punishes a
    confident mistake; the loss is a logarithm, which has no such ceiling.
    """
    return 1 - p


@misconception("loss_from_probability")
def probability_complement(p: float) -> float:
    """The logarithm was taken of 1 - p. `p` is the probability of the right answer already: a good
    prediction (p near 1) must give a loss near 0.
    """
    return -math.log(1 - p)


@misconception("loss_from_probability")
def probability_times_its_log(p: float) -> float:
    """That is one term of an entropy, -p log(p), which is the *average* surprise. The loss is the
    surprise at what happened, not weighted by how likely it was.
    """
    return -p * math.log(p)


@misconception("loss_from_probability")
def probability_with_epsilon(p: float) -> float:
    """A small number (1e-12 or so) keeps the logarithm finite, and caps the loss: a prediction of
    1e-30 seems no worse than one of 1e-12. `p` is never 0 here; take its logarithm as it is.
    """
    return -math.log(p + 1e-12)


# --- cross_entropy --------------------------------------------------------------------------------


def _per_row(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    return -log_probabilities.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def _entropy(logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
    kept = targets != ignore_index
    return _per_row(logits[kept].log_softmax(-1), targets[kept]).mean()


@misconception("cross_entropy")
def cross_entropy_not_written(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Start with the rows that count (`targets != ignore_index`), then turn each row of logits into
    log-probabilities and look up the one at its target: the lesson's "From logits to a loss".
    """
    raise NotImplementedError


@misconception("cross_entropy")
def entropy_in_bits(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """That is the cross-entropy in bits: the logarithm was taken to base 2 (or the result divided
    by ln 2). Losses are in nats: use the natural logarithm throughout.
    """
    return _entropy(logits, targets, ignore_index) / math.log(2)


@misconception("cross_entropy")
def entropy_minus_missing(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The minus sign is missing: that is the mean log-probability, which is never positive.
    Minimising it would make the right tokens less likely.
    """
    return -_entropy(logits, targets, ignore_index)


@misconception("cross_entropy", checks=LARGE)
def unstable_softmax(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """`exp` of the raw logits overflows to infinity (or, far below zero, underflows to 0), and the
    quotient or its logarithm is no number. Subtract the row's maximum first, or use
    `log_softmax`, which does.
    """
    kept = targets != ignore_index
    powers = logits[kept].exp()
    return _per_row((powers / powers.sum(-1, keepdim=True)).log(), targets[kept]).mean()


@misconception("cross_entropy", checks=LARGE)
def unstable_logsumexp(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The logarithm of the sum of `exp` is taken of the raw logits: for thousands, `exp` overflows
    to infinity, far below zero it underflows to 0. Subtract the row's maximum first and add it
    back afterwards, or use `logsumexp`, which does.
    """
    kept = targets != ignore_index
    sums = logits[kept].exp().sum(-1).log()
    return (sums + _per_row(logits[kept], targets[kept])).mean()


@misconception("cross_entropy", checks=LARGE)
def log_of_softmax(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """`softmax` first and `log` second: a very unlikely target's probability is rounded to 0, and
    its logarithm is minus infinity. Compute the logarithm of the softmax in one go
    (`log_softmax`, or the logit minus `logsumexp`).
    """
    kept = targets != ignore_index
    return _per_row(logits[kept].softmax(-1).log(), targets[kept]).mean()


@misconception("cross_entropy", checks=LARGE)
def epsilon_in_the_log(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """A small number was added inside the logarithm to keep it finite. It also caps the loss (near
    20.7 for 1e-9) and its gradient, just where the model is most wrong; use `log_softmax`,
    which needs no such help.
    """
    kept = targets != ignore_index
    return _per_row((logits[kept].softmax(-1) + 1e-9).log(), targets[kept]).mean()


@misconception("cross_entropy", checks=LARGE)
def one_maximum_for_all(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The maximum of the whole tensor was subtracted, not each row's own. A row far below it has
    only powers of 0 left, and their logarithm is minus infinity: `max(-1, keepdim=True)`.
    """
    kept = targets != ignore_index
    rows = logits[kept] - logits[kept].max()
    return (rows.exp().sum(-1).log() + _per_row(rows, targets[kept])).mean()


@misconception("cross_entropy")
def softmax_twice(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Softmax was applied twice: the loss function takes logits and does it once, so it must not be
    given probabilities. Twice flattens every prediction, and the loss can no longer get near 0.
    """
    return _entropy(logits.softmax(-1), targets, ignore_index)


@misconception("cross_entropy")
def softmax_missing(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The logits themselves were taken for log-probabilities. They become that only after each row
    is normalised over the vocabulary (`log_softmax`, or minus the row's `logsumexp`).
    """
    kept = targets != ignore_index
    return _per_row(logits[kept], targets[kept]).mean()


@misconception("cross_entropy")
def softmax_over_rows(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The softmax runs over the rows (dim 0): each row is a prediction of its own, and its
    probabilities must add up to 1 over the vocabulary, the last dimension.
    """
    kept = targets != ignore_index
    return _per_row(logits[kept].log_softmax(0), targets[kept]).mean()


@misconception("cross_entropy")
def log_of_the_mean(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The probabilities were averaged and the logarithm taken last. Each row has a loss of its own:
    take the logarithm per row, then average.
    """
    kept = targets != ignore_index
    return -_per_row(logits[kept].log_softmax(-1), targets[kept]).neg().exp().mean().log()


@misconception("cross_entropy")
def ignored_rows_gathered(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The rows whose target is `ignore_index` are looked up like the others: -100 is no index into
    the vocabulary, and where it is one the row is counted. Drop those rows before the lookup.
    """
    return _per_row(logits.log_softmax(-1), targets).mean()


@misconception("cross_entropy")
def ignored_rows_indexed(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The rows to be ignored are indexed like the others. -100 is outside the vocabulary (in a
    large one it silently counts from the end), so drop the rows whose target is `ignore_index`.
    """
    return -logits.log_softmax(-1)[torch.arange(len(targets)), targets].mean()


@misconception("cross_entropy")
def ignored_rows_clamped(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The rows to be ignored were given target 0 so that the lookup works, and are then counted as
    if that were their answer. Take them out of the sum and out of the count.
    """
    return _per_row(logits.log_softmax(-1), targets.clamp(min=0)).mean()


@misconception("cross_entropy")
def only_minus_100_ignored(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Only -100 (or any negative target) is left out, whatever `ignore_index` says. Compare the
    targets with the argument: some data marks its padding with a token of the vocabulary.
    """
    return _entropy(logits, targets, -100)


@misconception("cross_entropy", checks=MEAN)
def token_zero_left_out(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Token 0 is left out as if it were padding. Only `ignore_index` marks a row that does not
    count; 0 is a token like any other.
    """
    return _entropy(logits, targets.masked_fill(targets == 0, ignore_index), ignore_index)


@misconception("cross_entropy", checks=MEAN)
def only_positive_targets_kept(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The rows that count were found by `targets > 0`: that leaves out token 0, and it does not use
    `ignore_index`, which may be a token. Compare with it: `targets != ignore_index`.
    """
    kept = targets > 0
    return _per_row(logits[kept].log_softmax(-1), targets[kept]).mean()


@misconception("cross_entropy")
def mean_over_all(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The sum is right and the divisor is not: it counts the ignored rows too, so a batch with much
    padding seems to have a small loss. Divide by the number of kept targets.
    """
    kept = targets != ignore_index
    return _entropy(logits, targets, ignore_index) * kept.float().mean()


@misconception("cross_entropy")
def sum_not_mean(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """That is the sum over the kept targets. It grows with the batch, and the size of a step with
    it; divide by their number.
    """
    return _entropy(logits, targets, ignore_index) * (targets != ignore_index).sum()


@misconception("cross_entropy")
def not_averaged(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """That is one loss per kept row. Training needs a single number to call `backward` on: return
    their mean.
    """
    kept = targets != ignore_index
    return _per_row(logits[kept].log_softmax(-1), targets[kept])


@misconception("cross_entropy")
def detached(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The number is right but its graph is gone (`detach`, `item`, `float`, `no_grad`, numpy, or
    `torch.tensor` around a result), so no gradient can reach the model. Return the tensor itself.
    """
    return _entropy(logits, targets, ignore_index).detach()


@misconception("cross_entropy", checks=CHANGED)
def targets_overwritten(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The loss is right, and the ignored targets are now 0 in the caller's tensor: the next pass
    over the data would learn them. Fill a copy: `targets.masked_fill(...)`, `torch.where` or
    `clone()`.
    """
    ignored = targets == ignore_index
    loss = _entropy(logits, targets, ignore_index)
    targets[ignored] = 0
    return loss


@misconception("cross_entropy", checks=CHANGED)
def logits_overwritten(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The maximum was subtracted in place (`-=` or `sub_`): the caller's logits are changed, and
    autograd may need them as they were. Make new ones: `logits = logits - ...`.
    """
    logits -= logits.max(-1, keepdim=True).values
    return _entropy(logits, targets, ignore_index)


@misconception("cross_entropy")
def torchs_own_cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """This is torch's own cross-entropy. Outside this exercise it is the right choice; here, write
    the three steps it takes: log-probabilities, the one at the target, the mean over the kept.
    """
    return F.cross_entropy(logits, targets, ignore_index=ignore_index)


@misconception("cross_entropy")
def torchs_own_nll_loss(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The log-probabilities are yours, and torch's NLL loss does the rest. Write that part too:
    look up the log-probability at each kept target, and average.
    """
    return F.nll_loss(logits.log_softmax(-1), targets, ignore_index=ignore_index)


# --- causal_lm_loss -------------------------------------------------------------------------------


def _flat(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


@misconception("causal_lm_loss")
def causal_lm_loss_not_written(logits: Tensor, labels: Tensor) -> Tensor:
    """Start by cutting off the position that has nothing to predict and the label that nothing
    predicts, so that the two line up: the lesson's "The next token" draws it.
    """
    raise NotImplementedError


@misconception("causal_lm_loss")
def no_shift(logits: Tensor, labels: Tensor) -> Tensor:
    """Each position is compared with its own token, which the model has just read: it would learn
    to copy. The logits at a position are a guess about the next token.
    """
    return _flat(logits, labels)


@misconception("causal_lm_loss")
def shift_backwards(logits: Tensor, labels: Tensor) -> Tensor:
    """The shift goes the wrong way: each position is compared with the token before it. It is the
    logits that lose their last position and the labels that lose their first.
    """
    return _flat(logits[:, 1:], labels[:, :-1])


@misconception("causal_lm_loss")
def shifted_twice(logits: Tensor, labels: Tensor) -> Tensor:
    """Each position is compared with the token two places on: the shift was made twice. Labels come
    unshifted, as copies of the inputs; shift once, here.
    """
    return _flat(logits[:, :-2], labels[:, 2:])


@misconception("causal_lm_loss")
def labels_rolled(logits: Tensor, labels: Tensor) -> Tensor:
    """`roll` brings the first token round to the end, so the last position is judged by the start
    of its own text. Cut that position off, or give it the label -100.
    """
    return _flat(logits, labels.roll(-1, dims=1))


@misconception("causal_lm_loss")
def flattened_then_shifted(logits: Tensor, labels: Tensor) -> Tensor:
    """The rows were joined into one before the shift, so the last position of each text is judged
    by the first token of the next one. Shift within each row, then flatten.
    """
    return _flat(logits.flatten(0, 1)[None, :-1], labels.flatten()[None, 1:])


@misconception("causal_lm_loss")
def minus_100_looked_up(logits: Tensor, labels: Tensor) -> Tensor:
    """Labels of -100 are looked up like tokens. They mark what is not to be learned (padding, the
    prompt): leave those positions out of the sum and out of the count.
    """
    rows = logits[:, :-1].flatten(0, 1).log_softmax(-1)
    return _per_row(rows, labels[:, 1:].flatten()).mean()


@misconception("causal_lm_loss")
def minus_100_made_a_token(logits: Tensor, labels: Tensor) -> Tensor:
    """Labels of -100 were turned into token 0 and learned. They mark what is not to be learned
    (padding, the prompt): leave those positions out.
    """
    return _flat(logits[:, :-1], labels[:, 1:].clamp(min=0))


@misconception("causal_lm_loss")
def zero_ignored_too(logits: Tensor, labels: Tensor) -> Tensor:
    """Token 0 is left out as if it were padding. In labels only -100 means "do not learn this";
    token 0 is a token like any other.
    """
    return _flat(logits[:, :-1], labels[:, 1:].masked_fill(labels[:, 1:] == 0, -100))


@misconception("causal_lm_loss")
def mask_not_shifted(logits: Tensor, labels: Tensor) -> Tensor:
    """Which labels count was decided before the shift: the mask is one place off, so some of -100
    are learned and some tokens are not. Shift the labels first, then compare them with -100.
    """
    kept, answers = labels[:, :-1] != -100, labels[:, 1:].clamp(min=0)
    return _per_row(logits[:, :-1][kept].log_softmax(-1), answers[kept]).mean()


@misconception("causal_lm_loss")
def slice_viewed(logits: Tensor, labels: Tensor) -> Tensor:
    """What is left after cutting off a position no longer lies in memory in one piece, and `view`
    needs that. Use `reshape` or `flatten`, or `contiguous()` before `view`.
    """
    predictions, answers = logits[:, :-1], labels[:, 1:]
    return F.cross_entropy(predictions.view(-1, logits.shape[-1]), answers.reshape(-1))


@misconception("causal_lm_loss")
def causal_mean_over_all(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum is right, but it is divided by the number of all positions. Divide by the number of
    labels that count, those that are not -100.
    """
    return _flat(logits[:, :-1], labels[:, 1:]) * (labels[:, 1:] != -100).float().mean()


@misconception("causal_lm_loss")
def mean_of_row_means(logits: Tensor, labels: Tensor) -> Tensor:
    """Each text was averaged by itself and then the texts: a token of a short answer weighs more
    than one of a long answer. Average once, over all the kept tokens of the batch.
    """
    rows = [_flat(x[None, :-1], y[None, 1:]) for x, y in zip(logits, labels, strict=True)]
    return torch.stack(rows).mean()


@misconception("causal_lm_loss")
def causal_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """That is the sum over the kept tokens, which grows with the batch. The loss of a language
    model is the mean per token; its perplexity makes sense only then.
    """
    return _flat(logits[:, :-1], labels[:, 1:]) * (labels[:, 1:] != -100).sum()


@misconception("causal_lm_loss", checks=LABELS)
def labels_overwritten(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss is right, and the labels of -100 are now 0 in the caller's tensor: the next pass
    over the data would learn them. Fill a copy: `masked_fill`, `torch.where` or `clone()`.
    """
    loss = _flat(logits[:, :-1], labels[:, 1:])
    labels[labels == -100] = 0
    return loss


@misconception("causal_lm_loss", checks=LABELS)
def labels_shifted_in_place(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss is right, and the caller's labels are shifted for good: the next pass over the data
    would shift them again. Shift a slice or a copy (`clone()`).
    """
    labels[:, :-1] = labels[:, 1:].clone()
    labels[:, -1] = -100
    return _flat(logits, labels)


@misconception("causal_lm_loss")
def causal_detached(logits: Tensor, labels: Tensor) -> Tensor:
    """The number is right but its graph is gone (`detach`, `item`, `float`, `no_grad`), so no
    gradient can reach the model. Return the loss as the tensor it is.
    """
    return _flat(logits[:, :-1], labels[:, 1:]).detach()


# --- perplexity -----------------------------------------------------------------------------------


@misconception("perplexity")
def perplexity_not_written(loss: float) -> float:
    """Start from what undoes a natural logarithm: the lesson's section "Perplexity"."""
    raise NotImplementedError


@misconception("perplexity")
def perplexity_base_2(loss: float) -> float:
    """That is 2 to the power of the loss, which is right for a loss in bits. This one is in nats, a
    natural logarithm, so the base is e.
    """
    return 2**loss


@misconception("perplexity")
def perplexity_base_10(loss: float) -> float:
    """That is 10 to the power of the loss. The loss is a natural logarithm, so the base is e."""
    return 10**loss


@misconception("perplexity")
def perplexity_capped(loss: float) -> float:
    """Above some loss the answer is infinity. Many scripts print that to avoid an overflow, which
    comes only beyond a loss of 700; until then the number is there and is asked for.
    """
    return math.exp(loss) if loss < 20 else math.inf


@misconception("perplexity")
def perplexity_is_the_loss(loss: float) -> float:
    """That is the loss itself. Perplexity undoes the logarithm: it is the number of equally likely
    tokens that would be just as hard to guess among.
    """
    return loss


@misconception("perplexity")
def perplexity_inverted(loss: float) -> float:
    """The sign is the wrong way round: that is a probability, and perplexity is one over it. It is
    never below 1.
    """
    return math.exp(-loss)


# --- train ----------------------------------------------------------------------------------------


def _step(model: nn.Module, batch: Mapping[str, Tensor], optimizer: Optimizer) -> float:
    optimizer.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    return loss.item()


def _losses(model: nn.Module, batches: Batches, optimizer: Optimizer) -> list[float]:
    return [_step(model, batch, optimizer) for batch in batches]


def _adamw(model: nn.Module, lr: float, **options: Any) -> Optimizer:
    model.train()
    return torch.optim.AdamW(model.parameters(), lr=lr, **options)


@misconception("train")
def train_not_written(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """Start with the mode and the optimizer, once each; then, for every batch, five short lines in
    the order the lesson's section "The loop" gives them.
    """
    raise NotImplementedError


@misconception("train", checks=STEPS)
def weights_never_move(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """No step had anything to do. Either `step` (or `backward`) is missing, or `zero_grad` comes
    between `backward` and `step` and throws away the gradients, or `step` comes before `backward`
    with the gradients just cleared. Clear them before `backward` or after `step`.
    """
    model.train()
    return [model(**batch).loss.item() for batch in batches]


@misconception("train", checks=STEPS)
def gradients_zeroed_before_step(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The gradients are set to zero between `backward` and `step`, so only weight decay moves the
    weights and nothing is learned. Zero them before `backward` or after `step`.
    """
    optimizer, losses = _adamw(model, lr), []
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()
        losses.append(loss.item())
    return losses


@misconception("train", checks=STEPS)
def no_zero_grad(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The gradients are never cleared, and `backward` adds to what is there: every step follows the
    sum of all batches so far. Clear them once per batch.
    """
    optimizer, losses = _adamw(model, lr), []
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@misconception("train", checks=STEPS)
def step_before_backward(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """`step` comes between the forward pass and `backward`: it changes the weights that `backward`
    still needs, and torch notices. The order is forward, backward, step.
    """
    optimizer, losses = _adamw(model, lr), []
    for batch in batches:
        loss = model(**batch).loss
        optimizer.step()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
    return losses


@misconception("train", checks=STEPS)
def step_one_batch_late(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """`step` comes before `backward`: each step follows the gradient of the batch before, the first
    does nothing and the last gradient is never used. The order is forward, backward, step.
    """
    optimizer, losses = _adamw(model, lr), []
    for batch in batches:
        optimizer.step()
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss.item())
    return losses


@misconception("train", checks=STEPS)
def eval_mode(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The model was trained in evaluation mode: dropout was off, and it is what training needs.
    `model.eval()` is for measuring and generating; call `model.train()` before the loop.
    """
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    return _losses(model, batches, optimizer)


@misconception("train", checks=STEPS)
def left_in_eval_mode(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """After the first step the model is in evaluation mode, and every later step is taken in it. If
    something is measured in between (`model.eval()`), call `model.train()` again after it.
    """
    optimizer, losses = _adamw(model, lr), []
    for batch in batches:
        losses.append(_step(model, batch, optimizer))
        model.eval()
    return losses


@misconception("train", checks=MODE)
def mode_left_as_it_came(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The mode was left as it came, and `from_pretrained` hands over models in evaluation mode,
    with dropout off. Call `model.train()` before the loop.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    return _losses(model, batches, optimizer)


@misconception("train", checks=STEPS)
def sgd(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """That is plain gradient descent (SGD). AdamW scales every weight's step by the recent size of
    its gradients, and language models hardly train without that: `torch.optim.AdamW`.
    """
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return _losses(model, batches, optimizer)


@misconception("train", checks=STEPS)
def adam_without_decay(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """That is Adam, or AdamW with `weight_decay=0`: the weights are not pulled towards zero.
    AdamW's default in torch is a decay of 0.01; leave it as it is.
    """
    optimizer = _adamw(model, lr, weight_decay=0)
    return _losses(model, batches, optimizer)


@misconception("train", checks=STEPS)
def adam_with_l2(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """That is Adam with `weight_decay`, which adds the decay to the gradient, where Adam's scaling
    distorts it. AdamW decays the weights directly: the W is that difference.
    """
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=0.01)
    return _losses(model, batches, optimizer)


@misconception("train", checks=STEPS)
def biases_not_decayed(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The biases are spared the weight decay: a common recipe of its own, not what
    `AdamW(model.parameters(), lr=lr)` does. Here all parameters are treated alike.
    """
    model.train()
    weights = [value for name, value in model.named_parameters() if "bias" not in name]
    biases = [value for name, value in model.named_parameters() if "bias" in name]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    return _losses(model, batches, torch.optim.AdamW(groups, lr=lr))


@misconception("train", checks=STEPS)
def lr_left_out(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The optimizer was made without `lr` and uses its own default, 0.001. Hand the argument on."""
    optimizer = _adamw(model, 1e-3)
    return _losses(model, batches, optimizer)


@misconception("train", checks=STEPS)
def new_optimizer_per_step(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """A new optimizer is made for every batch, so AdamW's running averages start from nothing each
    time and every step is a first step. Make it once, before the loop.
    """
    return [_step(model, batch, _adamw(model, lr)) for batch in batches]


@misconception("train", checks=STEPS)
def gradients_clipped(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The gradients were clipped to a norm (1 is usual) before each step. A good habit in long
    runs, but another algorithm than the one asked for: leave it out here.
    """
    optimizer, losses = _adamw(model, lr), []
    for batch in batches:
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@misconception("train", checks=STEPS)
def autocast_forward(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The forward pass ran in 16 bits, under an autocast. That is for the next lab, and for models
    that are too large without it; here train in the precision that the model has.
    """
    optimizer, device = _adamw(model, lr), next(model.parameters()).device.type
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@misconception("train", checks=STEPS)
def rate_decays(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The learning rate falls during the pass, as a scheduler makes it. Here it stays at `lr`."""
    optimizer, losses = _adamw(model, lr), []
    for i, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = lr * (1 - i / len(batches))
        losses.append(_step(model, batch, optimizer))
    return losses


@misconception("train", checks=STEPS)
def one_step_at_the_end(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The gradients of all batches are collected and only one step is taken. Take a step after
    every batch: `step` belongs inside the loop.
    """
    optimizer, losses = _adamw(model, lr), []
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss.item())
    optimizer.step()
    return losses


@misconception("train", checks=STEPS)
def last_batch_dropped(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The last batch was not trained on. Go over `batches` itself, without counting: every batch is
    data that someone paid for.
    """
    optimizer = _adamw(model, lr)
    return [_step(model, batch, optimizer) for batch in batches[:-1]]


@misconception("train", checks=STEPS)
def first_batch_only(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """Only the first batch was trained on: a `return` stands inside the loop. Move it out, to the
    level of the `for`.
    """
    return [_step(model, batches[0], _adamw(model, lr))]


@misconception("train", checks=STEPS)
def several_passes(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The data was gone over three times. One pass was asked for: one step, and one loss, for each
    batch.
    """
    optimizer = _adamw(model, lr)
    return [_step(model, batch, optimizer) for _ in range(3) for batch in batches]


@misconception("train", checks=STEPS)
def part_of_the_batch(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The model was given only `input_ids` and `labels`; without the attention mask it reads
    padding as if it were text. Hand over the whole batch: `model(**batch)`.
    """
    optimizer = _adamw(model, lr)
    parts = [{key: batch[key] for key in ("input_ids", "labels")} for batch in batches]
    return [_step(model, part, optimizer) for part in parts]


@misconception("train", checks=LOSSES)
def invented_losses(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The weights are right and the losses are all zero: they were never taken from the model. Note
    each batch's loss (`loss.item()`) in the loop, as it is computed.
    """
    optimizer = _adamw(model, lr)
    return [0 * _step(model, batch, optimizer) for batch in batches]


@misconception("train", checks=LOSSES)
def losses_after_the_step(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """The losses were measured again after each step: one forward pass too many, and rosier than
    what the model knew before it saw the batch. Return the loss that `backward` was called on.
    """
    optimizer, losses = _adamw(model, lr), []
    for batch in batches:
        _step(model, batch, optimizer)
        losses.append(model(**batch).loss.item())
    return losses


@misconception("train", checks=LOSSES)
def losses_averaged(model: nn.Module, batches: Batches, lr: float) -> float:
    """That is the mean of the losses, one number. Return the list, one loss per batch, in order:
    whether it falls is what one wants to see.
    """
    losses = _losses(model, batches, _adamw(model, lr))
    return sum(losses) / len(losses)


@misconception("train", checks=LOSSES)
def last_loss_only(model: nn.Module, batches: Batches, lr: float) -> float:
    """That is the loss of the last batch alone. Collect one per batch in a list and return that."""
    return _losses(model, batches, _adamw(model, lr))[-1]


@misconception("train", checks=LOSSES)
def nothing_returned(model: nn.Module, batches: Batches, lr: float) -> None:
    """The training is right, but nothing is returned: collect each batch's loss in a list and
    return it.
    """
    _losses(model, batches, _adamw(model, lr))


@misconception("train", checks=GRAPHS)
def losses_with_their_graph(model: nn.Module, batches: Batches, lr: float) -> list[Tensor]:
    """The losses are kept as tensors with their graph, so memory grows with every batch. Keep the
    number: `loss.item()`, or `loss.detach()`.
    """
    optimizer, losses = _adamw(model, lr), []
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)
    return losses


@misconception("train", checks=BATCHES)
def labels_taken_out(model: nn.Module, batches: Batches, lr: float) -> list[float]:
    """`pop` takes the labels out of the caller's batches, so a second pass would find none. Hand
    the batch on whole, `model(**batch)`, or pop from a copy.
    """
    optimizer, losses = _adamw(model, lr), []
    for batch in batches:
        labels = batch.pop("labels")  # type: ignore[attr-defined]
        losses.append(_step(model, {**batch, "labels": labels}, optimizer))
    return losses
