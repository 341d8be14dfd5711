"""The checks of the preferences lab: the truth is a published formula, computed in float64."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from verify.authoring import check
from verify.compare import same
from verify.plain import Plain, Raised
from verify.shorten import shorten
from verify.tensors import plain
from verify.trial import Trial

IGNORED = -100  # torch's default, and what collators write
DPO = "dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected"
REINFORCE = "policy_gradient_loss(logprobs, rewards)"
Pairs = list[Any]  # four tensors (B,) and beta, the arguments of dpo_loss


# --- sequence_logprob -----------------------------------------------------------------------------


@check("sequence_logprob", review="The probability of an answer")
def adds_up_the_answers_tokens(trial: Trial) -> None:
    """`sequence_logprob` adds up the log-probabilities of each row's tokens that count."""
    kinds = (None, IGNORED, "a token", IGNORED, "a token")
    cases = [_texts(trial, ignore=kind) for kind in kinds]
    came = trial.observe("calls", function="sequence_logprob", cases=cases)
    why = (
        "For every row one number: the sum, over its labels that count, of the log-probability "
        "that the position before gives to that token."
    )
    trial.expect_each(_asked_texts(cases), came, [_logprob(*case) for case in cases], why=why)


@check(
    "sequence_logprob",
    review="The probability of an answer",
    after=("adds_up_the_answers_tokens",),
)
def finite_for_large_logits(trial: Trial) -> None:
    """`sequence_logprob` stays finite and right for logits of thousands."""
    cases = [_texts(trial, ignore=IGNORED) for _ in range(3)]
    for (logits, *_), scale, shift in zip(cases, (500, 1, 1), (0, 2000, -2000), strict=True):
        logits.mul_(scale).add_(shift * trial.random.uniform(0.5, 1.5))
    came = trial.observe("calls", function="sequence_logprob", cases=cases)
    if isinstance(came, Raised):
        trial.fail(_asked_texts(cases)[0], came)
    assert isinstance(came, list)
    why = "exp of thousands overflows and exp of minus thousands is 0: work with logarithms."
    for asked, case, answer in zip(_asked_texts(cases), cases, came, strict=True):
        low, high = case[0].aminmax()
        # A float32 near 3000 is known to 1e-4, and a row adds up to ten differences of two.
        most = 4e-6 * max(abs(float(low)), abs(float(high)))
        about = f"{asked}, from {low:.0f} to {high:.0f}"
        trial.expect(about, answer, _logprob(*case), why=why, atol=most)


@check(
    "sequence_logprob",
    review="The probability of an answer",
    after=("adds_up_the_answers_tokens",),
)
def logits_and_labels_left_alone(trial: Trial) -> None:
    """`sequence_logprob` changes neither the logits nor the labels it is given."""
    cases = [_texts(trial, ignore=kind) for kind in (IGNORED, "a token")]
    names = ["logits", "labels"]
    _expect_unchanged(trial, "sequence_logprob", cases, _asked_texts(cases), names)


@check(
    "sequence_logprob",
    review="The probability of an answer",
    after=(
        "adds_up_the_answers_tokens",
        "finite_for_large_logits",
        "logits_and_labels_left_alone",
    ),
)
def logprob_gradient_reaches_the_logits(trial: Trial) -> None:
    """The gradient of `sequence_logprob` reaches the logits."""
    cases = [_texts(trial, ignore=None), _texts(trial, ignore=IGNORED)]
    came = trial.observe("gradients", function="sequence_logprob", cases=cases, trained=[0])
    truths = [_gradients(_logprob, case, [0]) for case in cases]
    where = ["the logits"]
    _expect_gradients(trial, _asked_texts(cases), came, truths, where)


# --- implicit_reward ------------------------------------------------------------------------------


@check("implicit_reward", review="The implicit reward")
def reward_is_beta_times_the_log_ratio(trial: Trial) -> None:
    """`implicit_reward` is beta times how much likelier the policy finds the answer, in nats."""
    cases = _answers(trial)
    came = trial.observe("calls", function="implicit_reward", cases=cases)
    truths = [beta * (policy.double() - reference) for policy, reference, beta in cases]
    why = "One number for each answer: 0 where both models agree, more where the policy likes it."
    trial.expect_each(_asked_answers(cases), came, truths, why=why)


@check(
    "implicit_reward",
    review="The implicit reward",
    after=("reward_is_beta_times_the_log_ratio",),
)
def reward_leaves_logprobs_alone(trial: Trial) -> None:
    """`implicit_reward` changes none of the log-probabilities it is given."""
    cases, names = _answers(trial), ["policy_logprob", "reference_logprob"]
    _expect_unchanged(trial, "implicit_reward", cases, _asked_answers(cases), names)


# --- dpo_loss -------------------------------------------------------------------------------------


@check("dpo_loss", review="The DPO loss")
def dpo_starts_at_log_2(trial: Trial) -> None:
    """`dpo_loss` is ln 2 while the policy is still the reference."""
    cases = [_pairs(trial, trial.random.uniform(0.05, 0.5)) for _ in range(3)]
    cases = [[*case[2:4], *case[2:4], case[4]] for case in cases]
    came = trial.observe("calls", function="dpo_loss", cases=cases)
    asked = [f"{call}, the policy being the reference" for call in _asked_pairs(cases)]
    why = "Nothing has been learned yet: the margin of every pair is 0, a coin toss."
    trial.expect_each(asked, came, [math.log(2)] * len(cases), why=why)


@check("dpo_loss", review="The DPO loss")
def dpo_is_the_published_formula(trial: Trial) -> None:
    """`dpo_loss` is the mean of -ln sigmoid of the margins of the pairs."""
    cases = [_pairs(trial, trial.random.uniform(0.05, 0.5)) for _ in range(4)]
    came = trial.observe("calls", function="dpo_loss", cases=cases)
    why = (
        "It is one number: how badly, on average over the pairs, the difference of the two "
        "implicit rewards says which answer was chosen."
    )
    trial.expect_each(_asked_pairs(cases), came, [_dpo(*case) for case in cases], why=why)


@check("dpo_loss", review="The DPO loss", after=("dpo_is_the_published_formula",))
def dpo_is_finite_for_large_margins(trial: Trial) -> None:
    """`dpo_loss` stays finite and right for log-ratios of thousands, of either sign."""
    cases = []
    for sign in (1, -1, None):
        case = _pairs(trial, trial.random.uniform(0.2, 0.5))
        size = case[0].shape
        signs = torch.tensor([1.0, -1.0]).repeat(size)[: size[0]] if sign is None else sign
        case[0] += signs * trial.random.uniform(1500, 3000) * (1 + trial.normal(*size).abs())
        cases.append(case)
    came = trial.observe("calls", function="dpo_loss", cases=cases)
    margins = [float((case[0] - case[2]).abs().max()) for case in cases]
    asked = [
        f"{call}, log-ratios of up to {most:.0f}"
        for call, most in zip(_asked_pairs(cases), margins, strict=True)
    ]
    why = (
        "The sigmoid of a large negative number is 0, and its logarithm has to be found otherwise."
    )
    trial.expect_each(asked, came, [_dpo(*case) for case in cases], why=why)


@check("dpo_loss", review="The DPO loss", after=("dpo_is_the_published_formula",))
def dpo_leaves_logprobs_alone(trial: Trial) -> None:
    """`dpo_loss` changes none of the log-probabilities it is given."""
    cases = [_pairs(trial, trial.random.uniform(0.05, 0.5)) for _ in range(2)]
    names = ["policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected"]
    _expect_unchanged(trial, "dpo_loss", cases, _asked_pairs(cases), names)


@check(
    "dpo_loss",
    review="The DPO loss",
    after=(
        "dpo_is_the_published_formula",
        "dpo_is_finite_for_large_margins",
        "dpo_leaves_logprobs_alone",
    ),
)
def dpo_gradient_reaches_the_policy(trial: Trial) -> None:
    """The gradient of `dpo_loss` reaches the policy's log-probabilities, weighted pair by pair."""
    cases = [_pairs(trial, trial.random.uniform(0.05, 0.5)) for _ in range(3)]
    cases[-1][0] -= 4000  # hopelessly wrong: just there it has to learn
    came = trial.observe("gradients", function="dpo_loss", cases=cases, trained=[0, 1])
    truths = [_gradients(_dpo, case, [0, 1]) for case in cases]
    where = ["policy_chosen", "policy_rejected"]
    _expect_gradients(trial, _asked_pairs(cases), came, truths, where)


# --- policy_gradient_loss -------------------------------------------------------------------------


@check("policy_gradient_loss", review="Where reinforcement learning comes in")
def reinforce_has_a_baseline(trial: Trial) -> None:
    """`policy_gradient_loss` weighs log-probabilities by how far the reward is above the mean."""
    cases = [_rollout(trial, centre) for centre in (5.0, -2.0, 1.0)]
    came = trial.observe("calls", function="policy_gradient_loss", cases=cases)
    why = "Minimising it has to make answers with more than the batch's mean reward more likely."
    truths = [_reinforce(*case) for case in cases]
    # 1e-5: parts of size 10 add up to something of size 1, in float32.
    trial.expect_each(_asked_rollouts(cases), came, truths, why=why, atol=1e-5)


@check(
    "policy_gradient_loss",
    review="Where reinforcement learning comes in",
    after=("reinforce_has_a_baseline",),
)
def reinforce_leaves_arguments_alone(trial: Trial) -> None:
    """`policy_gradient_loss` changes neither the log-probabilities nor the rewards."""
    cases, names = [_rollout(trial, centre) for centre in (5.0, -2.0)], ["logprobs", "rewards"]
    _expect_unchanged(trial, "policy_gradient_loss", cases, _asked_rollouts(cases), names)


@check(
    "policy_gradient_loss",
    review="Where reinforcement learning comes in",
    after=("reinforce_has_a_baseline", "reinforce_leaves_arguments_alone"),
)
def reinforce_gradient_reaches_the_logprobs(trial: Trial) -> None:
    """The gradient of `policy_gradient_loss` reaches the log-probabilities."""
    cases = [_rollout(trial, centre) for centre in (4.0, -1.0)]
    came = trial.observe("gradients", function="policy_gradient_loss", cases=cases, trained=[0])
    truths = [_gradients(_reinforce, case, [0]) for case in cases]
    _expect_gradients(trial, _asked_rollouts(cases), came, truths, ["logprobs"])


@check(
    "policy_gradient_loss",
    review="Where reinforcement learning comes in",
    after=("reinforce_gradient_reaches_the_logprobs",),
)
def reward_is_not_learned_from(trial: Trial) -> None:
    """No gradient reaches the rewards, or the baseline, even when a reward model gave them."""
    cases = [_rollout(trial, centre) for centre in (3.0, -2.0)]
    came = trial.observe("gradients", function="policy_gradient_loss", cases=cases, trained=[0, 1])
    why = "A reward is a judgement from outside: training must not change the judge."
    for asked, answer, case in zip(_asked_rollouts(cases), _list(trial, came), cases, strict=True):
        about = f"{asked} that come from a model, then backward(): rewards.grad"
        if isinstance(answer, Raised):
            trial.fail(about, answer)
        assert isinstance(answer, list)
        of_logprobs, of_rewards = answer
        trial.expect(f"{asked}: logprobs.grad", of_logprobs, _gradients(_reinforce, case, [0])[0])
        if of_rewards is not None:
            trial.expect(about, of_rewards, torch.zeros_like(case[1]), why=why)


# --- what is drawn --------------------------------------------------------------------------------


def _texts(trial: Trial, ignore: int | str | None) -> list[Any]:
    """Draw logits (B, T, V), labels (B, T) and, with "a token", the token to be ignored.

    Each row ignores a prompt of another length and one token more; with ``ignore`` -100 the last
    row ignores everything.
    """
    draw = trial.random
    batch, length, vocabulary = draw.randint(3, 5), draw.randint(8, 10), draw.randint(6, 15)
    logits = trial.normal(batch, length, vocabulary, scale=2.0)
    if ignore is None:
        return [logits, trial.integers(0, vocabulary, batch, length)]
    token = draw.randrange(vocabulary) if ignore == "a token" else int(ignore)
    labels = trial.integers(0, vocabulary, batch, length)
    if ignore == "a token":
        labels = (token + trial.integers(1, vocabulary, batch, length)) % vocabulary
    for row, prompt in enumerate(draw.sample(range(1, length - 2), batch)):
        labels[row, :prompt] = token
        labels[row, draw.randint(prompt + 1, length - 1)] = token
    if ignore == "a token":
        return [logits, labels, token]
    labels[-1] = token
    return [logits, labels]


def _pairs(trial: Trial, beta: float) -> Pairs:
    """Draw the four log-probabilities of 3 to 6 pairs, as answers of some tokens have them.

    Policy and reference differ by a few times 1 / beta, so that no sigmoid is near 0 or 1. Chosen
    answers gain by ``gain``, so that no sum of the four vanishes.
    """
    n = trial.random.randint(3, 6)
    reference = [-trial.random.uniform(15, 40) + trial.normal(n, scale=5.0) for _ in range(2)]
    gain = trial.random.uniform(0.4, 0.8) / beta
    chosen, rejected = (r + trial.normal(n, scale=0.8 / beta) for r in reference)
    return [chosen + gain, rejected, *reference, beta]


def _answers(trial: Trial) -> list[list[Any]]:
    """Draw the arguments of `implicit_reward`: policy, reference and beta, three times."""
    cases = []
    for beta in (0.1, trial.random.uniform(0.2, 0.6), trial.random.uniform(1.5, 3)):
        policy, _, reference, *_ = _pairs(trial, beta)
        policy[0] = reference[0] - trial.random.uniform(0.5, 2) / beta  # not all gain
        cases.append([policy, reference, beta])
    return cases


def _rollout(trial: Trial, centre: float) -> list[Tensor]:
    """Draw log-probabilities and rewards of 4 to 8 sampled answers, the likely ones better."""
    n = trial.random.randint(4, 8)
    liked = trial.normal(n)
    logprobs = -trial.random.uniform(4, 9) + liked + 0.3 * trial.normal(n)
    return [logprobs, centre + 1.5 * liked + 0.3 * trial.normal(n)]


# --- the truth ------------------------------------------------------------------------------------


def _logprob(logits: Tensor, labels: Tensor, ignore_index: int = IGNORED) -> Tensor:
    """Return the true log-probability of each row, (B,) in float64: minus torch's summed loss."""
    rows, answers = logits.double()[:, :-1].transpose(1, 2), labels[:, 1:]
    return -F.cross_entropy(rows, answers, ignore_index=ignore_index, reduction="none").sum(1)


def _dpo(pc: Tensor, pr: Tensor, rc: Tensor, rr: Tensor, beta: float) -> Tensor:
    """Return the true loss as TRL has it: -logsigmoid(beta * ((pc - pr) - (rc - rr)))."""
    pc, pr, rc, rr = (x.double() for x in (pc, pr, rc, rr))
    return -F.logsigmoid(beta * ((pc - pr) - (rc - rr))).mean()


def _reinforce(logprobs: Tensor, rewards: Tensor) -> Tensor:
    advantages = rewards.double().detach() - rewards.double().detach().mean()
    return -(advantages * logprobs.double()).mean()


def _gradients(function: Any, arguments: list[Any], trained: list[int]) -> list[Tensor]:
    """Return the true gradients, with the same weights as the scene `gradients`."""
    leaves = [arguments[place].detach().double().requires_grad_() for place in trained]
    given = list(arguments)
    for place, leaf in zip(trained, leaves, strict=True):
        given[place] = leaf
    result = function(*given).flatten()
    total = (result * torch.arange(1, len(result) + 1)).sum()
    return list(torch.autograd.grad(total, leaves))


# --- what was asked -------------------------------------------------------------------------------


def _expect_unchanged(
    trial: Trial, function: str, cases: list[list[Any]], asked: list[str], names: list[str]
) -> None:
    """Raise `Failure` unless ``function`` leaves each case's tensors, by name, as they were."""
    came = trial.observe("arguments_afterwards", function=function, cases=cases)
    why = "It was changed in place; the arguments are the caller's. Work with new tensors."
    for question, answer, case in zip(asked, _list(trial, came, asked[0]), cases, strict=True):
        if isinstance(answer, Raised):
            trial.fail(question, answer)
        assert isinstance(answer, list)
        given = [each for each in case if isinstance(each, Tensor)]
        for name, left, before in zip(names, answer, given, strict=True):
            told = f"afterwards {name} is {shorten(left)}"
            trial.require(same(left, plain(before), rtol=0.0, atol=0.0), question, told, why=why)


def _expect_gradients(
    trial: Trial, asked: list[str], came: Plain, truths: list[list[Tensor]], where: list[str]
) -> None:
    """Raise `Failure` unless each observation holds the true gradients, in the order ``where``."""
    for question, answer, true in zip(asked, _list(trial, came, asked[0]), truths, strict=True):
        if isinstance(answer, Raised):
            trial.fail(f"{question}, then backward()", answer)
        assert isinstance(answer, list)
        for place, told, gradient in zip(where, answer, true, strict=True):
            trial.require(
                told is not None,
                f"{question}, then backward()",
                f"no gradient arrived at {place}",
                why="The value is right, but it has lost its graph: no model can learn from it.",
            )
            why = "The value is right but its derivative is not: some step on the way hides a part."
            # 1e-3: a log-probability of a large float32 is known to 1e-4 only.
            trial.expect(f"{question}: the gradient at {place}", told, gradient, why=why, rtol=1e-3)


def _list(trial: Trial, came: Plain, asked: str = REINFORCE) -> list[Plain]:
    if isinstance(came, Raised):
        trial.fail(asked, came)
    assert isinstance(came, list)
    return came


def _asked_texts(cases: list[list[Any]]) -> list[str]:
    asked = []
    for logits, labels, *ignored in cases:
        told = f", ignore_index={ignored[0]}" if ignored else ""
        count = int((labels == (ignored[0] if ignored else IGNORED)).sum())
        call = f"sequence_logprob(logits, labels{told}) for logits of shape {tuple(logits.shape)}"
        asked.append(f"{call}, {count} labels ignored")
    return asked


def _asked_answers(cases: list[list[Any]]) -> list[str]:
    return [
        f"implicit_reward(policy_logprob, reference_logprob, beta={beta:.4g}), {len(policy)} each"
        for policy, _, beta in cases
    ]


def _asked_pairs(cases: list[Pairs]) -> list[str]:
    return [f"{DPO}, beta={case[4]:.4g}) with {len(case[0])} pairs" for case in cases]


def _asked_rollouts(cases: list[list[Tensor]]) -> list[str]:
    return [f"{REINFORCE} for {len(rewards)} answers" for _, rewards in cases]
