"""The reference solution of the training lab."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn


def loss_from_probability(p: float) -> float:
    """Return the loss, in nats, of a prediction that gave the right answer the probability ``p``.

    Args:
        p: A probability, 0 < p <= 1.

    Returns:
        -ln(p): 0 for certainty, without bound as p goes to 0.

    Raises:
        ValueError: p is 0 or below.
    """
    return -math.log(p)


def cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Return the mean of -log softmax(logits)[target] over the targets that are kept.

    Args:
        logits: (N, V), floating; any finite size, since log_softmax subtracts the row's maximum
            before it exponentiates (the log-sum-exp trick).
        targets: (N,), int64; each in [0, V) or equal to ``ignore_index``.
        ignore_index: The target of rows that do not count, in the sum or in the number of rows.

    Returns:
        A 0-d tensor in the logits' dtype, in nats, with a graph. NaN if no target is kept.
    """
    kept = targets != ignore_index
    log_probabilities = logits[kept].log_softmax(-1)
    return -log_probabilities.gather(-1, targets[kept].unsqueeze(-1)).mean()


def causal_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean next-token loss: position t's logits against the label at t + 1.

    Args:
        logits: (B, T, V), floating; the last position predicts a token nobody has.
        labels: (B, T), int64; the input tokens themselves, -100 where nothing is to be learned.

    Returns:
        A 0-d tensor in nats, with a graph: the mean over all kept tokens of the batch, not over
        the rows' means.
    """
    predictions, answers = logits[:, :-1], labels[:, 1:]
    return F.cross_entropy(predictions.flatten(0, 1), answers.flatten(), ignore_index=-100)


def perplexity(loss: float) -> float:
    """Return exp(loss) for a mean loss in nats: how many equally likely tokens it amounts to.

    Raises:
        OverflowError: the loss is above about 709.
    """
    return math.exp(loss)


def train(model: nn.Module, batches: Sequence[Mapping[str, Tensor]], lr: float) -> list[float]:
    """Train ``model`` on each batch once, in order, with AdamW and torch's defaults at ``lr``.

    Decoupled weight decay (0.01) as in Loshchilov and Hutter, https://arxiv.org/abs/1711.05101.

    Args:
        model: Called as ``model(**batch)``; its output's ``loss`` is a 0-d tensor.
        batches: Mappings of tensors on the model's device.
        lr: The learning rate.

    Returns:
        One loss per batch, each from the forward pass that its step followed.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    losses = []
    for batch in batches:
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
