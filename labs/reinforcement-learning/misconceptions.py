"""The known mistakes of the preferences lab; each docstring is the hint a learner reads."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from verify.authoring import misconception

# A check that waits for another one is played only when that one passed: these fail in one place.
ADDED = ("adds_up_the_answers_tokens",)
FORMULA = ("dpo_is_the_published_formula",)
MARGINS = ("dpo_starts_at_log_2", *FORMULA)
BASELINE = ("reinforce_has_a_baseline",)
LARGE, GRADIENT = ("finite_for_large_logits",), ("logprob_gradient_reaches_the_logits",)
DPO_LARGE, DPO_GRADIENT = ("dpo_is_finite_for_large_margins",), ("dpo_gradient_reaches_the_policy",)
REINFORCE = ("reinforce_gradient_reaches_the_logprobs",)
JUDGE = ("reward_is_not_learned_from",)
TEXTS, ANSWERS = ("logits_and_labels_left_alone",), ("reward_leaves_logprobs_alone",)
PAIRS, SAMPLES = ("dpo_leaves_logprobs_alone",), ("reinforce_leaves_arguments_alone",)


# --- sequence_logprob -----------------------------------------------------------------------------


def _looked_up(each: Tensor, answers: Tensor) -> Tensor:
    """Return the entry of ``each`` (B, T, V) at ``answers`` (B, T), whatever is ignored."""
    return each.gather(-1, answers.unsqueeze(-1)).squeeze(-1)


def _kept(each: Tensor, answers: Tensor, ignore_index: int) -> Tensor:
    """Return the entry of ``each`` at ``answers``, and 0 where they are ignored, (B, T)."""
    ignored = answers == ignore_index
    return _looked_up(each, answers.masked_fill(ignored, 0)).masked_fill(ignored, 0)


def _each(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Return the log-probability of each kept token, (B, T - 1)."""
    return _kept(logits[:, :-1].log_softmax(-1), labels[:, 1:], ignore_index)


@misconception("sequence_logprob")
def sequence_logprob_not_written(
    logits: Tensor, labels: Tensor, ignore_index: int = -100
) -> Tensor:
    """Start with the shift: all logits but the last against all labels but the first. Then
    `log_softmax`, look up each label's entry, set those that do not count to 0, and add up per row.
    """
    raise NotImplementedError


@misconception("sequence_logprob", checks=ADDED)
def no_shift(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The shift is missing: each position was asked about the token it has just read. The logits at
    t are a guess about the token at t + 1: all logits but the last, all labels but the first.
    """
    return _kept(logits.log_softmax(-1), labels, ignore_index).sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def shift_backwards(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The shift goes the wrong way: the logits at t were compared with the token before. Drop the
    *last* logits and the *first* labels.
    """
    return _kept(logits[:, 1:].log_softmax(-1), labels[:, :-1], ignore_index).sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def shifted_twice(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The shift was made twice: each position was asked about the token after next. Shift once,
    here, and leave the labels as the copy of the inputs that they are.
    """
    return _kept(logits[:, :-2].log_softmax(-1), labels[:, 2:], ignore_index).sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def mask_not_shifted(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """Logits and labels were shifted, the mask of what counts was not: it leaves out the answer's
    first token or counts the prompt's last. Make the mask from the *shifted* labels.
    """
    answers, kept = labels[:, 1:], labels[:, :-1] != ignore_index
    each = _looked_up(logits[:, :-1].log_softmax(-1), answers.clamp(min=0))
    return (each * kept).sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def mean_per_token(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """That is the mean over the tokens. The probability of an answer is the product of those of its
    tokens, so its logarithm is their sum. A mean is what SimPO uses; DPO's formula wants the sum.
    """
    counts = (labels[:, 1:] != ignore_index).sum(-1)
    return _each(logits, labels, ignore_index).sum(-1) / counts.clamp(min=1)


@misconception("sequence_logprob", checks=ADDED)
def mean_of_a_row_without_tokens(
    logits: Tensor, labels: Tensor, ignore_index: int = -100
) -> Tensor:
    """That is the mean over the tokens, and a row in which none counts divides by zero. Add up: the
    logarithm of a product is a sum, and that of nothing is 0.
    """
    counts = (labels[:, 1:] != ignore_index).sum(-1)
    return _each(logits, labels, ignore_index).sum(-1) / counts


@misconception("sequence_logprob", checks=ADDED)
def mean_over_all_positions(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The row's sum was divided by all its positions. Nothing is divided here: the logarithm of a
    product of probabilities is the sum of their logarithms.
    """
    return _each(logits, labels, ignore_index).mean(-1)


@misconception("sequence_logprob", checks=ADDED)
def ignored_gathered(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The labels to be ignored were looked up like the others (`gather`). -100 is no token, and
    where `ignore_index` is one, it was counted. Replace them before the lookup and set what they
    give to 0 after it.
    """
    return _looked_up(logits[:, :-1].log_softmax(-1), labels[:, 1:]).sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def ignored_indexed(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The labels to be ignored were used as an index like the others. -100 is outside a small
    vocabulary, and in a large one it silently counts from the end. Replace them before the lookup
    and set what they give to 0 after it.
    """
    each, answers = logits[:, :-1].log_softmax(-1), labels[:, 1:]
    batch, length = answers.shape
    return each[torch.arange(batch)[:, None], torch.arange(length), answers].sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def ignored_made_a_token(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """Labels of -100 were turned into token 0 so that the lookup works, and then counted: prompt or
    padding is in the sum. Set those entries to 0 before adding up.
    """
    return _looked_up(logits[:, :-1].log_softmax(-1), labels[:, 1:].clamp(min=0)).sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def only_minus_100_ignored(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """Only -100 (or any negative label) is left out, whatever `ignore_index` says. Compare the
    labels with the argument.
    """
    return _each(logits, labels, -100).sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def logits_not_normalised(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The logits themselves were added up. They become log-probabilities only when each position
    is normalised over the vocabulary: `log_softmax(-1)`, or minus the position's `logsumexp`.
    """
    return _kept(logits[:, :-1], labels[:, 1:], ignore_index).sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def normalised_over_positions(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The softmax runs over the positions. Each position has a distribution of its own, over the
    vocabulary: the last dimension.
    """
    return _kept(logits[:, :-1].log_softmax(1), labels[:, 1:], ignore_index).sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def probabilities_added(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """Probabilities were added up. They multiply along an answer; it is their logarithms that add:
    `log_softmax`, not `softmax`.
    """
    return _kept(logits[:, :-1].softmax(-1), labels[:, 1:], ignore_index).sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def probability_of_the_answer(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """That is the answer's probability, and its logarithm is asked for. For an answer of a hundred
    tokens a probability is too small for a float32; a logarithm is not.
    """
    return _each(logits, labels, ignore_index).sum(-1).exp()


@misconception("sequence_logprob", checks=ADDED)
def loss_instead(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """That is the loss: the sign is the wrong way round. A log-probability is never positive, and
    grows when the answer becomes likelier.
    """
    return -_each(logits, labels, ignore_index).sum(-1)


@misconception("sequence_logprob", checks=ADDED)
def logprob_in_bits(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """That is a logarithm to base 2. Log-probabilities are in nats: the natural logarithm."""
    return _each(logits, labels, ignore_index).sum(-1) / math.log(2)


@misconception("sequence_logprob", checks=ADDED)
def summed_over_the_batch(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The rows were added up too, into one number. Each answer needs its own: they are compared
    with each other.
    """
    return _each(logits, labels, ignore_index).sum()


@misconception("sequence_logprob", checks=ADDED)
def mean_over_the_batch(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """That is one number, the mean over all tokens that count, as in a loss. Here every row has its
    own sum, since answers are compared with each other.
    """
    kept = labels[:, 1:] != ignore_index
    return _each(logits, labels, ignore_index).sum() / kept.sum()


@misconception("sequence_logprob", checks=ADDED)
def one_for_each_token(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """Those are the tokens' log-probabilities, one for each. Add them up along each row: one number
    for an answer.
    """
    return _each(logits, labels, ignore_index)


@misconception("sequence_logprob", checks=LARGE)
def unstable_softmax(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """`exp` of the raw logits overflows to infinity, or, far below zero, underflows to 0. Subtract
    each position's largest first, or use `log_softmax` or `logsumexp`, which do.
    """
    powers = logits[:, :-1].exp()
    each = (powers / powers.sum(-1, keepdim=True)).log()
    return _kept(each, labels[:, 1:], ignore_index).sum(-1)


@misconception("sequence_logprob", checks=LARGE)
def log_of_softmax(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """`softmax` first and `log` second: a very unlikely token's probability is rounded to 0, and
    the whole answer becomes impossible. Compute both in one go: `log_softmax`.
    """
    return _kept(logits[:, :-1].softmax(-1).log(), labels[:, 1:], ignore_index).sum(-1)


@misconception("sequence_logprob", checks=GRADIENT)
def logprob_detached(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The number is right but its graph is gone (`detach`, `item`, `no_grad`). Only the reference
    model's log-probabilities are computed without gradients; the policy learns through them.
    """
    return _each(logits, labels, ignore_index).sum(-1).detach()


@misconception("sequence_logprob", checks=TEXTS)
def labels_overwritten(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """The answer is right, and the ignored labels are now 0 in the caller's tensor (a slice such as
    `labels[:, 1:]` is no copy): the next pass would count prompt and padding. Fill a copy:
    `masked_fill`, `torch.where` or `clone()`.
    """
    answers = labels[:, 1:]
    kept = answers != ignore_index
    answers[~kept] = 0
    return (_looked_up(logits[:, :-1].log_softmax(-1), answers) * kept).sum(-1)


@misconception("sequence_logprob", checks=TEXTS)
def logits_overwritten(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """Each position's largest logit was subtracted in place (`-=` or `sub_`): the caller's logits
    are changed, and autograd may need them as they were. Make new ones: `logits = logits - ...`.
    """
    logits -= logits.amax(-1, keepdim=True)
    return _each(logits, labels, ignore_index).sum(-1)


# --- implicit_reward ------------------------------------------------------------------------------


@misconception("implicit_reward")
def implicit_reward_not_written(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """Start with the log-ratio: how much larger the policy's log-probability is than the
    reference's. Then scale it by beta.
    """
    raise NotImplementedError


@misconception("implicit_reward")
def reward_without_beta(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """That is the log-ratio alone. The reward is beta times it: beta says how dear each nat away
    from the reference is.
    """
    return policy - reference


@misconception("implicit_reward")
def reward_divided_by_beta(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The log-ratio was divided by beta. That is how a policy follows *from* a reward (exp(r /
    beta)); the reward follows from the policy by multiplying.
    """
    return (policy - reference) / beta


@misconception("implicit_reward")
def reward_without_reference(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The reference was left out. Every model finds short and common answers likely: what counts is
    how much likelier than for the model it started from.
    """
    return beta * policy


@misconception("implicit_reward")
def reward_reversed(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The sign is the wrong way round: policy minus reference, so that what the policy has come to
    like has a high reward.
    """
    return beta * (reference - policy)


@misconception("implicit_reward")
def logprobs_divided(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """One log-probability was divided by the other. The ratio is one of *probabilities*, and the
    logarithm of a ratio is a difference.
    """
    return beta * policy / reference


@misconception("implicit_reward")
def ratio_without_log(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """That is the ratio of the probabilities, beta times it. The reward is beta times its
    *logarithm*, which is the difference as it is given.
    """
    return beta * (policy - reference).exp()


@misconception("implicit_reward")
def ratio_to_the_beta(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """`exp` was taken of the reward. The reward is the exponent itself: it may be negative, and is
    0 where both models agree.
    """
    return (beta * (policy - reference)).exp()


@misconception("implicit_reward")
def log_of_a_quotient(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """One log-probability was divided by the other, and the logarithm taken of that. They are
    logarithms already: the logarithm of the ratio of the *probabilities* is their difference.
    """
    return beta * (policy / reference).log()


@misconception("implicit_reward")
def probabilities_subtracted(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The probabilities were subtracted: `exp` was taken of both. Those of whole answers are all
    but 0, and so is their difference. Subtract the logarithms as they are given.
    """
    return beta * (policy.exp() - reference.exp())


@misconception("implicit_reward", checks=ANSWERS)
def logprobs_overwritten(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The reward is right, and the reference was subtracted in place (`-=` or `sub_`): the caller's
    log-probabilities are now log-ratios. Make a new tensor: `policy_logprob - reference_logprob`.
    """
    policy -= reference
    return beta * policy


@misconception("implicit_reward")
def beta_on_the_policy_alone(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """Beta scales the policy's log-probability only: parentheses are missing. It scales the
    difference.
    """
    return beta * policy - reference


@misconception("implicit_reward")
def rewards_averaged(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """That is the mean over the batch. Each answer has its own reward: they are compared with each
    other.
    """
    return beta * (policy - reference).mean()


@misconception("implicit_reward")
def rewards_added(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The rewards of the batch were added up. Each answer has its own: they are compared with each
    other.
    """
    return beta * (policy - reference).sum()


@misconception("implicit_reward")
def reward_as_probability(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The sigmoid was taken already. It belongs to the *difference* of two rewards, where it gives
    the probability that one answer is preferred; a single reward is any number.
    """
    return (beta * (policy - reference)).sigmoid()


@misconception("implicit_reward")
def reward_as_distance(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The absolute value was taken: an answer that became less likely has got a positive reward.
    Its sign is what matters.
    """
    return beta * (policy - reference).abs()


# --- dpo_loss -------------------------------------------------------------------------------------


def _margin(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    return beta * ((pc - rc) - (pr - rr))


@misconception("dpo_loss")
def dpo_loss_not_written(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """Start with the two implicit rewards, of the chosen and of the rejected answer. Their
    difference is the margin; the loss is minus the log of its sigmoid, averaged over the pairs.
    """
    raise NotImplementedError


@misconception("dpo_loss", checks=MARGINS)
def reference_forgotten(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """The reference was left out: the policy is to find the chosen answer likelier than the
    rejected one, whatever it started from. Compare each with the reference first.
    """
    return -F.logsigmoid(beta * (pc - pr)).mean()


@misconception("dpo_loss", checks=MARGINS)
def reference_added(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """The reference's margin was added instead of taken off: what it preferred already counts as
    learned. It is (policy's margin) minus (reference's margin).
    """
    return -F.logsigmoid(beta * ((pc - pr) + (rc - rr))).mean()


@misconception("dpo_loss", checks=MARGINS)
def chosen_and_rejected_swapped(
    pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float
) -> Tensor:
    """Chosen and rejected are swapped (or the minus inside the sigmoid is): this loss teaches the
    model to give the rejected answers.
    """
    return -F.logsigmoid(-_margin(pc, pr, rc, rr, beta)).mean()


@misconception("dpo_loss", checks=MARGINS)
def dpo_minus_missing(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """The minus sign is missing: that is the log-likelihood, which is never positive. A loss is to
    be made small, so it is minus that.
    """
    return F.logsigmoid(_margin(pc, pr, rc, rr, beta)).mean()


@misconception("dpo_loss", checks=MARGINS)
def beta_outside(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """Beta multiplies the loss. It belongs inside the sigmoid, to the margin: outside it is only
    another learning rate, and the loss does not start at ln 2.
    """
    return -beta * F.logsigmoid(_margin(pc, pr, rc, rr, 1)).mean()


@misconception("dpo_loss", checks=MARGINS)
def beta_divided(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """The margin was divided by beta. It is multiplied: a small beta means that the policy may go
    far from the reference before the loss is content.
    """
    return -F.logsigmoid(_margin(pc, pr, rc, rr, 1 / beta)).mean()


@misconception("dpo_loss", checks=MARGINS)
def beta_forgotten(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """Beta was left out (it is as if it were 1). Multiply the margin by it before the sigmoid."""
    return -F.logsigmoid(_margin(pc, pr, rc, rr, 1)).mean()


@misconception("dpo_loss", checks=MARGINS)
def beta_on_the_policy(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """Beta scales the policy's part only: parentheses are missing. It scales the whole margin."""
    return -F.logsigmoid(beta * (pc - pr) - (rc - rr)).mean()


@misconception("dpo_loss", checks=MARGINS)
def chosen_alone(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """Only the chosen answer was looked at. DPO learns from the difference between the two: their
    rewards are subtracted before the sigmoid.
    """
    return -F.logsigmoid(beta * (pc - rc)).mean()


@misconception("dpo_loss", checks=MARGINS)
def each_answer_by_itself(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """Each answer was classified by itself, and the two losses were added. A pair is one question,
    which of the two is better, so there is one sigmoid, of the difference.
    """
    good, bad = F.logsigmoid(beta * (pc - rc)), F.logsigmoid(-beta * (pr - rr))
    return -(good + bad).mean()


@misconception("dpo_loss", checks=MARGINS)
def dpo_summed(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """That is the sum over the pairs, which grows with the batch. Take the mean."""
    return -F.logsigmoid(_margin(pc, pr, rc, rr, beta)).sum()


@misconception("dpo_loss", checks=MARGINS)
def one_loss_for_each_pair(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """Those are the losses of the pairs, one for each. Return their mean: one number to call
    `backward` on.
    """
    return -F.logsigmoid(_margin(pc, pr, rc, rr, beta))


@misconception("dpo_loss", checks=MARGINS)
def margins_averaged_first(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """The margins were averaged before the sigmoid, so that one easy pair makes up for a hard one.
    Take the loss of each pair, then the mean.
    """
    return -F.logsigmoid(_margin(pc, pr, rc, rr, beta).mean())


@misconception("dpo_loss", checks=MARGINS)
def log_forgotten(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """The logarithm is missing: that is minus the sigmoid (or one minus it). Its gradient vanishes
    where a pair is judged most wrongly; the logarithm's does not.
    """
    return -_margin(pc, pr, rc, rr, beta).sigmoid().mean()


@misconception("dpo_loss", checks=MARGINS)
def log_forgotten_one_minus(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """That is the probability of judging a pair wrongly. The loss is the surprise at the judgement:
    minus the *logarithm* of the probability of judging it rightly.
    """
    return 1 - _margin(pc, pr, rc, rr, beta).sigmoid().mean()


@misconception("dpo_loss", checks=MARGINS)
def sigmoid_forgotten(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """That is minus the margin itself, without sigmoid and logarithm: it has no end, and the model
    is pushed on in pairs it has long learned.
    """
    return -_margin(pc, pr, rc, rr, beta).mean()


@misconception("dpo_loss", checks=FORMULA)
def dpo_in_bits(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """That is a logarithm to base 2, so that it starts at 1. The loss is in nats and starts at
    ln 2.
    """
    return -F.logsigmoid(_margin(pc, pr, rc, rr, beta)).mean() / math.log(2)


@misconception("dpo_loss", checks=MARGINS)
def logprobs_in_ratio(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """Log-probabilities were divided by each other. The ratio in the formula is one of
    *probabilities*, and its logarithm is a difference.
    """
    return -F.logsigmoid(beta * (pc / rc - pr / rr)).mean()


@misconception("dpo_loss", checks=MARGINS)
def ratios_without_log(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """The ratios of the probabilities were compared, not their logarithms: `exp` was taken of the
    differences. Leave them as they are.
    """
    return -F.logsigmoid(beta * ((pc - rc).exp() - (pr - rr).exp())).mean()


@misconception("dpo_loss", checks=FORMULA)
def hinge(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """That is a hinge loss (as in SLiC), which stops at a margin of 1. DPO's is the logistic one:
    minus the log of the sigmoid.
    """
    return F.relu(1 - _margin(pc, pr, rc, rr, beta)).mean()


@misconception("dpo_loss", checks=MARGINS)
def squared(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """That is IPO's loss: the log-ratios' difference is to be 1 / (2 beta), squared error. DPO's is
    minus the log of the sigmoid of beta times that difference.
    """
    return ((_margin(pc, pr, rc, rr, 1)) - 1 / (2 * beta)).square().mean()


@misconception("dpo_loss", checks=DPO_LARGE)
def unstable_log_sigmoid(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """For a pair judged very wrongly this is infinite: the sigmoid is rounded to 0 before its
    logarithm is taken (or `exp` overflows in log(1 + exp(-x))). Use `logsigmoid`, or `softplus` of
    minus the margin, which compute both in one go.
    """
    return -_margin(pc, pr, rc, rr, beta).sigmoid().log().mean()


@misconception("dpo_loss", checks=DPO_LARGE)
def unstable_quotient(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """exp(chosen) / (exp(chosen) + exp(rejected)) overflows for large rewards, and infinity divided
    by infinity is no number. Subtract first: it is the sigmoid of the difference, and `logsigmoid`
    is its logarithm in one go.
    """
    chosen, rejected = (beta * (pc - rc)).exp(), (beta * (pr - rr)).exp()
    return -(chosen / (chosen + rejected)).log().mean()


@misconception("dpo_loss", checks=DPO_LARGE)
def epsilon_in_the_log(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """A small number was added inside the logarithm to keep it finite. It caps the loss (near 18.4
    for 1e-8), and its gradient, just where the model is most wrong: use `logsigmoid`.
    """
    return -(_margin(pc, pr, rc, rr, beta).sigmoid() + 1e-8).log().mean()


@misconception("dpo_loss", checks=DPO_LARGE)
def margin_clamped(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """The margin was clamped to keep the sigmoid away from 0. That caps the loss, and takes the
    gradient away, just where the model is most wrong: use `logsigmoid`.
    """
    return -F.logsigmoid(_margin(pc, pr, rc, rr, beta).clamp(-20, 20)).mean()


@misconception("dpo_loss", checks=PAIRS)
def pairs_overwritten(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """The loss is right, and the reference was subtracted in place (`-=` or `sub_`): the caller's
    log-probabilities are changed, and autograd refuses that for what it follows. Make new tensors.
    """
    pc -= rc
    pr -= rr
    return -F.logsigmoid(beta * (pc - pr)).mean()


@misconception("dpo_loss", checks=DPO_GRADIENT)
def dpo_detached(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """The number is right but its graph is gone (`detach`, `item`, `no_grad`). Only the reference
    is computed without gradients; the policy learns through this loss.
    """
    return -F.logsigmoid(_margin(pc, pr, rc, rr, beta)).mean().detach()


@misconception("dpo_loss", checks=DPO_GRADIENT)
def rejected_detached(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """No gradient reaches the rejected answers' log-probabilities. They belong to the policy as
    well: it learns to make the chosen likelier *and* the rejected less likely.
    """
    return -F.logsigmoid(_margin(pc, pr.detach(), rc, rr, beta)).mean()


# --- policy_gradient_loss -------------------------------------------------------------------------


def _advantage(rewards: Tensor) -> Tensor:
    return rewards.detach() - rewards.detach().mean()


@misconception("policy_gradient_loss")
def policy_gradient_loss_not_written(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """Start with how much better each answer is than the batch's average. Multiply that with its
    log-probability and take minus the mean, since an optimizer makes things small.
    """
    raise NotImplementedError


@misconception("policy_gradient_loss", checks=BASELINE)
def baseline_missing(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The baseline is missing. Where all rewards are positive every answer is pushed up, the bad
    ones too. Subtract the batch's mean reward first.
    """
    return -(rewards.detach() * logprobs).mean()


@misconception("policy_gradient_loss", checks=BASELINE)
def baseline_added(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The mean reward was added. Subtract it: what counts is how much better than the average an
    answer is.
    """
    return -((rewards.detach() + rewards.detach().mean()) * logprobs).mean()


@misconception("policy_gradient_loss", checks=BASELINE)
def reward_lowered(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The sign is the wrong way round: an optimizer minimises, and this makes good answers less
    likely. Put a minus before the mean.
    """
    return (_advantage(rewards) * logprobs).mean()


@misconception("policy_gradient_loss", checks=BASELINE)
def reinforce_summed(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """That is the sum over the batch; the mean is asked for, so that the size of a step does not
    depend on the size of the batch.
    """
    return -(_advantage(rewards) * logprobs).sum()


@misconception("policy_gradient_loss", checks=BASELINE)
def one_for_each_answer(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """Those are the answers' parts, one for each. Return their mean: one number to call `backward`
    on.
    """
    return -_advantage(rewards) * logprobs


@misconception("policy_gradient_loss", checks=BASELINE)
def means_multiplied(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The means were multiplied. Each log-probability belongs to its own reward: multiply first,
    then average.
    """
    return -rewards.detach().mean() * logprobs.mean()


@misconception("policy_gradient_loss", checks=BASELINE)
def advantages_averaged(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The advantages were averaged before they were multiplied, and their mean is always 0. Each
    log-probability belongs to its own advantage: multiply first, then average.
    """
    return -_advantage(rewards).mean() * logprobs.mean()


@misconception("policy_gradient_loss", checks=BASELINE)
def advantages_standardised(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The advantages were divided by their standard deviation, as in GRPO. That is another
    algorithm: here only the mean is subtracted.
    """
    return -(_advantage(rewards) / (rewards.detach().std() + 1e-8) * logprobs).mean()


@misconception("policy_gradient_loss", checks=BASELINE)
def baseline_of_the_others(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The baseline is the mean of the *other* answers' rewards (leave-one-out, as in RLOO). A good
    choice, but here it is the mean of the whole batch.
    """
    n = len(rewards)
    return -(_advantage(rewards) * n / (n - 1) * logprobs).mean()


@misconception("policy_gradient_loss", checks=BASELINE)
def baseline_is_the_median(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The baseline is the median. Take the mean of the batch's rewards."""
    return -((rewards.detach() - rewards.detach().median()) * logprobs).mean()


@misconception("policy_gradient_loss", checks=BASELINE)
def baseline_is_the_best(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The baseline is the largest reward, so that no answer is ever pushed up. Take the mean of the
    batch's rewards.
    """
    return -((rewards.detach() - rewards.detach().max()) * logprobs).mean()


@misconception("policy_gradient_loss", checks=BASELINE)
def probabilities_weighted(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The probabilities were weighted: `exp` was taken. The answers were *sampled* already, so that
    each counts as often as it is probable; the gradient is that of the log-probability.
    """
    return -(_advantage(rewards) * logprobs.exp()).mean()


@misconception("policy_gradient_loss", checks=BASELINE)
def rewards_alone(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """That is minus the mean reward, which does not depend on the weights in a way one can
    differentiate: the answers were sampled. Weigh their log-probabilities by the rewards.
    """
    return -rewards.detach().mean() + 0 * logprobs.sum()


@misconception("policy_gradient_loss", checks=SAMPLES)
def rewards_overwritten(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The loss is right, and the mean was subtracted in place (`-=` or `sub_`): the caller's
    rewards are now advantages, and what is logged or used again is wrong. Make a new tensor.
    """
    with torch.no_grad():
        rewards -= rewards.mean()
    return -(rewards.detach() * logprobs).mean()


@misconception("policy_gradient_loss", checks=REINFORCE)
def reinforce_detached(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The number is right but its graph is gone, or it was cut at the log-probabilities. They are
    what the policy learns through; it is the advantages that are detached.
    """
    return -(_advantage(rewards) * logprobs.detach()).mean()


@misconception("policy_gradient_loss", checks=JUDGE)
def rewards_learned_from(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """A gradient flows into the rewards and, through them, into the model that gave them: it would
    learn to praise what is likely. Detach the advantages (rewards and baseline) first.
    """
    return -((rewards - rewards.mean()) * logprobs).mean()


@misconception("policy_gradient_loss", checks=JUDGE)
def baseline_learned_from(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The rewards are detached, but the baseline is not: a gradient flows into the rewards through
    their mean. Detach the whole advantage.
    """
    return -((rewards.detach() - rewards.mean()) * logprobs).mean()


@misconception("policy_gradient_loss", checks=JUDGE)
def only_baseline_detached(logprobs: Tensor, rewards: Tensor) -> Tensor:
    """The baseline is detached, but the rewards are not: a gradient flows into them. Detach the
    whole advantage.
    """
    return -((rewards - rewards.mean().detach()) * logprobs).mean()
