"""The reference solution of the preferences lab."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor


def sequence_logprob(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """Return ln P(answer | prompt) of each row: the sum of its kept tokens' log-probabilities.

    Args:
        logits: (B, T, V), floating, of any finite size; position t is a guess about token t + 1.
        labels: (B, T), int64; the input tokens themselves, ``ignore_index`` where they do not
            belong to the answer (the prompt, padding).
        ignore_index: The label of tokens that do not count.

    Returns:
        (B,), in nats, with a graph; 0 for a row of which nothing counts.
    """
    predictions, answers = logits[:, :-1], labels[:, 1:]
    kept = answers != ignore_index
    tokens = answers.masked_fill(~kept, 0).unsqueeze(-1)
    each = predictions.log_softmax(-1).gather(-1, tokens).squeeze(-1)
    return each.masked_fill(~kept, 0).sum(-1)


def implicit_reward(policy_logprob: Tensor, reference_logprob: Tensor, beta: float) -> Tensor:
    """Return the reward for which the policy would be optimal: beta ln(policy / reference).

    Up to a number that depends on the prompt alone (DPO, https://arxiv.org/abs/2305.18290,
    section 4, equation 5).

    Args:
        policy_logprob: (B,), what `sequence_logprob` gives for the model that is trained.
        reference_logprob: (B,), the same for the model it started from.
        beta: How dear it is to leave the reference; > 0.
    """
    return beta * (policy_logprob - reference_logprob)


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> Tensor:
    """Return the mean of -ln sigmoid(margin) over the pairs (DPO, equation 7).

    The margin is the implicit reward of the chosen answer minus that of the rejected one. The loss
    is ln 2 while the policy is the reference. ``logsigmoid`` stays finite where the sigmoid is 0.

    Args:
        policy_chosen: (B,), log-probabilities of the chosen answers under the trained model.
        policy_rejected: (B,), of the rejected ones.
        reference_chosen: (B,), the same under the model it started from.
        reference_rejected: (B,).
        beta: > 0, often 0.1.

    Returns:
        A 0-d tensor with a graph.
    """
    chosen = implicit_reward(policy_chosen, reference_chosen, beta)
    rejected = implicit_reward(policy_rejected, reference_rejected, beta)
    return -F.logsigmoid(chosen - rejected).mean()


def policy_gradient_loss(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """Return a loss whose gradient is that of REINFORCE, with the mean reward as baseline.

    Williams (1992), https://doi.org/10.1007/BF00992696. The value itself means nothing; its
    gradient makes answers better than the batch's average more likely, and the others less.

    Args:
        logprobs: (B,), of sampled answers under the model that is trained.
        rewards: (B,), how good each answer was; a number from outside, even if it has a graph.

    Returns:
        A 0-d tensor: its gradient reaches ``logprobs`` and nothing else.
    """
    advantages = (rewards - rewards.mean()).detach()
    return -(advantages * logprobs).mean()
