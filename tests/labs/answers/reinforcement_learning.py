"""The preferences lab in other words: ways that are right, and wrong ones that nobody listed."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn

# --- right ----------------------------------------------------------------------------------------


def logprob_by_cross_entropy(logits, labels, ignore_index=-100):
    rows = logits[:, :-1].transpose(1, 2)
    loss = F.cross_entropy(rows, labels[:, 1:], ignore_index=ignore_index, reduction="none")
    return -loss.sum(dim=-1)


def logprob_by_loop(logits, labels, ignore_index=-100):
    answers = []
    for row, tokens in zip(logits, labels.tolist(), strict=True):
        total = logits.new_zeros(())
        for t, token in enumerate(tokens[1:]):
            if token != ignore_index:
                total = total + row[t][token] - torch.logsumexp(row[t], 0)
        answers.append(total)
    return torch.stack(answers)


def logprob_by_where(logits, labels, ignore_index=-100):
    tokens = torch.where(labels == ignore_index, 0, labels)[:, 1:, None]
    kept = (labels != ignore_index)[:, 1:]
    x = logits[:, :-1].double()
    each = x.gather(2, tokens)[..., 0] - x.logsumexp(2)
    return torch.einsum("bt,bt->b", each, kept.double())


def logprob_by_one_hot(logits, labels, ignore_index=-100):
    top = logits.amax(-1, keepdim=True).detach()
    powers = (logits - top).exp()
    logs = logits - top - powers.sum(-1, keepdim=True).log()
    kept = labels != ignore_index
    hot = F.one_hot(labels.masked_fill(~kept, 0), logits.shape[-1]) * kept[..., None]
    return (logs[:, :-1] * hot[:, 1:]).sum((1, 2))


def logprob_by_nll(logits, labels, ignore_index=-100):
    lost = nn.NLLLoss(ignore_index=ignore_index, reduction="sum")
    logs = F.log_softmax(logits[:, :-1], dim=-1)
    return torch.stack([-lost(x, y) for x, y in zip(logs, labels[:, 1:], strict=True)])


def logprob_in_place_on_a_copy(logits, labels, ignore_index=-100):
    answers = labels[:, 1:].clone()
    ignored = answers == ignore_index
    answers[ignored] = 0
    each = logits[:, :-1].log_softmax(-1).gather(2, answers[..., None])[..., 0]
    return each.masked_fill_(ignored, 0).sum(1)


def dpo_by_softplus(pc, pr, rc, rr, beta):
    return F.softplus(-beta * (pc - pr - rc + rr)).mean()


def dpo_by_binary_cross_entropy(
    policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta
):
    ratios = (policy_chosen - policy_rejected) - (reference_chosen - reference_rejected)
    return F.binary_cross_entropy_with_logits(beta * ratios, torch.ones_like(ratios))


def dpo_as_classification(pc, pr, rc, rr, beta):
    """The rewards are the logits of two classes, and class 0 is right."""
    rewards = torch.stack([beta * (pc - rc), beta * (pr - rr)], dim=1)
    return F.cross_entropy(rewards, torch.zeros(len(rewards), dtype=torch.long))


def dpo_by_logaddexp(pc, pr, rc, rr, beta):
    margins = beta * ((pc.double() - rc) - (pr.double() - rr))
    return torch.logaddexp(torch.zeros_like(margins), -margins).sum() / len(margins)


def reinforce_with_product(logprobs, rewards):
    with torch.no_grad():
        advantages = rewards - sum(rewards) / len(rewards)
    return torch.dot(advantages, -logprobs) / logprobs.numel()


def reinforce_as_covariance(logprobs, rewards):
    return -(rewards.detach() * (logprobs - logprobs.mean())).mean()


def reinforce_by_numbers(logprobs, rewards):
    given = rewards.tolist()
    baseline = sum(given) / len(given)
    parts = [(baseline - r) * p for r, p in zip(given, logprobs, strict=True)]
    return torch.stack(parts).mean()


RIGHT = {
    "sequence_logprob": (
        logprob_by_cross_entropy,
        logprob_by_loop,
        logprob_by_where,
        logprob_by_one_hot,
        logprob_by_nll,
        logprob_in_place_on_a_copy,
    ),
    "implicit_reward": (
        lambda policy_logprob, reference_logprob, beta: (
            beta * policy_logprob - beta * reference_logprob
        ),
        lambda p, r, beta: torch.sub(p, r).mul(beta).detach(),
        lambda p, r, beta: ((p.double() - r.double()).exp() ** beta).log(),
        lambda p, r, beta: torch.stack([beta * (x - y) for x, y in zip(p, r, strict=True)]),
    ),
    "dpo_loss": (
        dpo_by_softplus,
        dpo_by_binary_cross_entropy,
        dpo_as_classification,
        dpo_by_logaddexp,
    ),
    "policy_gradient_loss": (
        reinforce_with_product,
        reinforce_as_covariance,
        reinforce_by_numbers,
    ),
}


# --- wrong in ways that nobody listed -------------------------------------------------------------


def logprob_without_the_first(logits, labels, ignore_index=-100):
    return logprob_by_cross_entropy(logits[:, 1:], labels[:, 1:], ignore_index)


def logprob_without_the_last(logits, labels, ignore_index=-100):
    return logprob_by_cross_entropy(logits[:, :-1], labels[:, :-1], ignore_index)


def logprob_of_rows_joined(logits, labels, ignore_index=-100):
    rows, tokens = logits.flatten(0, 1)[:-1], labels.flatten()[1:]
    each = -F.cross_entropy(rows, tokens, ignore_index=ignore_index, reduction="none")
    return F.pad(each, (0, 1)).view(labels.shape).sum(1)


def smoothed(logits, labels, ignore_index=-100):
    rows, answers = logits[:, :-1].transpose(1, 2), labels[:, 1:]
    return -F.cross_entropy(
        rows, answers, ignore_index=ignore_index, reduction="none", label_smoothing=0.1
    ).sum(1)


def margins(pc, pr, rc, rr, beta):
    return beta * ((pc - rc) - (pr - rr))


def conservative(pc, pr, rc, rr, beta):
    m = margins(pc, pr, rc, rr, beta)
    return -(0.9 * F.logsigmoid(m) + 0.1 * F.logsigmoid(-m)).mean()


def dpo_with_hidden_gradient(pc, pr, rc, rr, beta):
    value = dpo_by_softplus(pc, pr, rc, rr, beta)
    return value.detach() + (pc - pc.detach()).mean()


def labels_filled_with_ones(logits, labels, ignore_index=-100):
    value = logprob_by_cross_entropy(logits, labels, ignore_index)
    labels[labels == ignore_index] = 1 + (ignore_index == 1)
    return value


def logits_replaced(logits, labels, ignore_index=-100):
    value = logprob_by_cross_entropy(logits, labels, ignore_index)
    logits.detach().copy_(logits.log_softmax(-1).detach())
    return value


def with_reference_scaled(pc, pr, rc, rr, beta):
    value = dpo_by_softplus(pc, pr, rc, rr, beta)
    rr.mul_(beta)
    return value


def with_rewards_standardised(logprobs, rewards):
    value = reinforce_as_covariance(logprobs, rewards)
    rewards.detach().div_(rewards.std().detach())
    return value


WRONG = {
    "sequence_logprob": (
        logprob_without_the_first,
        logprob_without_the_last,
        logprob_of_rows_joined,
        smoothed,
        labels_filled_with_ones,
        logits_replaced,
        lambda x, y, i=-100: logprob_by_cross_entropy(x.clamp(-3, 3), y, i),
        lambda x, y, i=-100: logprob_by_cross_entropy(x, y, i)[:, None],
        lambda x, y, i=-100: logprob_by_cross_entropy(x, y, i).flip(0),
        lambda x, y, i=-100: logprob_by_cross_entropy(x / 0.7, y, i),
        lambda x, y, i=-100: logprob_by_cross_entropy(x, y, i).tolist()[:-1],
        lambda x, y, i=-100: None,
        lambda x, y, i=-100: 1 / 0,
    ),
    "implicit_reward": (
        lambda p, r, beta: 0.1 * (p - r),
        lambda p, r, beta: beta * (p - r) + 0.01,
        lambda p, r, beta: (beta * (p - r)).clamp(min=0),
        lambda p, r, beta: beta * (p + r),
        lambda p, r, beta: p - beta * r,
        lambda p, r, beta: p.sub_(r).mul_(beta),
        lambda p, r, beta: beta * (p.exp() - r.exp()).log(),
        lambda p, r, beta: beta * (p - r) / p.abs(),
        lambda p, r, beta: str(beta * (p - r)),
        lambda p, r, beta: None,
    ),
    "dpo_loss": (
        conservative,
        dpo_with_hidden_gradient,
        with_reference_scaled,
        lambda pc, pr, rc, rr, beta: dpo_by_softplus(pc, pr, rc, rr, 0.1),
        lambda pc, pr, rc, rr, beta: dpo_by_softplus(pc[:-1], pr[:-1], rc[:-1], rr[:-1], beta),
        lambda pc, pr, rc, rr, beta: dpo_by_softplus(pc, pr, rc, rr, beta) + 0.01 * pc.mean(),
        lambda pc, pr, rc, rr, beta: F.softplus(-margins(pc, pr, rc, rr, beta)).max(),
        lambda pc, pr, rc, rr, beta: F.softplus(-margins(pc, pr, rc, rr, beta)).median(),
        lambda pc, pr, rc, rr, beta: dpo_by_softplus(pc, rr, rc, pr, beta),
        lambda pc, pr, rc, rr, beta: (-margins(pc, pr, rc, rr, beta)).exp().mean(),
        lambda pc, pr, rc, rr, beta: str(float(dpo_by_softplus(pc, pr, rc, rr, beta))),
        lambda pc, pr, rc, rr, beta: None,
    ),
    "policy_gradient_loss": (
        with_rewards_standardised,
        lambda p, r: reinforce_as_covariance(p, r) + 0.01,
        lambda p, r: reinforce_as_covariance(p, r.clamp(min=0)),
        lambda p, r: reinforce_as_covariance(p, 0.9 * r),
        lambda p, r: -((r.detach() - r.detach().min()) * p).mean(),
        lambda p, r: -((r.detach() - 0.8 * r.detach().mean()) * p).mean(),
        lambda p, r: reinforce_as_covariance(p, r) - 0.01 * p.mean(),
        lambda p, r: reinforce_as_covariance(p[:-1], r[:-1]),
        lambda p, r: (r.detach() - p).square().mean(),
        lambda p, r: reinforce_as_covariance(p, r).expand(2),
        lambda p, r: None,
    ),
}
