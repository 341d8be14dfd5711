"""The preferences lab: its mistakes, what decides, and the numbers of its lesson."""

from __future__ import annotations

import contextlib
import io
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from tests.labs.answers import failed
from tests.labs.answers.reinforcement_learning import RIGHT
from verify.judging import Bench
from verify.labs import find_labs
from verify.trial import Trial

LABS = Path(__file__).parents[2] / "labs"
LAB = next(lab for lab in find_labs(LABS) if lab.skill == "reinforcement-learning")
BENCH = Bench(LAB)
CHECKS = {check.name: check for check in BENCH.checks}
NAMED = {wrong.name: wrong for wrong in BENCH.misconceptions}
LESSON = (LAB.folder / "README.md").read_text("utf-8")
SOLUTION = BENCH.solution

LISTED = {
    "no shift": ("no_shift", "shift_backwards", "shifted_twice", "mask_not_shifted"),
    "mean instead of sum": (
        "mean_per_token",
        "mean_of_a_row_without_tokens",
        "mean_over_all_positions",
    ),
    "-100 counted": (
        "ignored_gathered",
        "ignored_indexed",
        "ignored_made_a_token",
        "only_minus_100_ignored",
    ),
    "not normalised": ("logits_not_normalised", "normalised_over_positions"),
    "sign": ("loss_instead", "reward_reversed", "dpo_minus_missing", "reward_lowered"),
    "beta outside the sigmoid": ("beta_outside",),
    "beta divided": ("beta_divided", "reward_divided_by_beta"),
    "beta forgotten": ("beta_forgotten", "reward_without_beta"),
    "reference forgotten": ("reference_forgotten", "reward_without_reference"),
    "chosen and rejected swapped": ("chosen_and_rejected_swapped",),
    "unstable log of sigmoid": (
        "unstable_log_sigmoid",
        "unstable_quotient",
        "epsilon_in_the_log",
        "margin_clamped",
    ),
    "sum, not mean": ("dpo_summed", "reinforce_summed", "summed_over_the_batch"),
    "baseline missing": ("baseline_missing", "baseline_added"),
    "baseline detached wrongly": (
        "rewards_learned_from",
        "baseline_learned_from",
        "only_baseline_detached",
        "reinforce_detached",
    ),
    "written into what was given": (
        "labels_overwritten",
        "logits_overwritten",
        "logprobs_overwritten",
        "pairs_overwritten",
        "rewards_overwritten",
    ),
    "probabilities for log-probabilities": ("probabilities_subtracted", "log_of_a_quotient"),
    "gradient lost": ("logprob_detached", "dpo_detached", "rejected_detached"),
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


def log_of_one_plus_exp(pc, pr, rc, rr, beta):
    return (1 + (-beta * ((pc - rc) - (pr - rr))).exp()).log().mean()


def test_two_ways_to_infinity_share_a_hint_that_names_both():
    found = failed(BENCH, 2, dpo_loss=log_of_one_plus_exp)
    assert {verdict.misconception for verdict in found.values()} == {"unstable_log_sigmoid"}
    hint = NAMED["unstable_log_sigmoid"].hint
    assert "sigmoid is rounded to 0" in hint
    assert "log(1 + exp(-x))" in hint


# --- what decides ---------------------------------------------------------------------------------


def asked(check, function, seed):
    """Return the arguments with which a check calls the learner's ``function``."""
    given = []

    def listening(*arguments):
        given.append([x.detach().clone() if torch.is_tensor(x) else x for x in arguments])
        return SOLUTION[function](*arguments)

    CHECKS[check].run(Trial(BENCH.rehearse(**{function: listening}), seed, CHECKS[check]))
    return given


def test_the_truth_is_trls_published_formula():
    """https://huggingface.co/docs/trl/dpo_trainer, loss type "sigmoid", in float64."""
    for seed in range(10):
        for *four, beta in asked("dpo_is_the_published_formula", "dpo_loss", seed):
            pc, pr, rc, rr = (x.double() for x in four)
            logratios, ref_logratios = pc - pr, rc - rr
            losses = -F.logsigmoid(beta * (logratios - ref_logratios))
            for way in (SOLUTION["dpo_loss"], *RIGHT["dpo_loss"]):
                assert float(way(*four, beta)) == pytest.approx(float(losses.mean()), rel=1e-4)


def test_the_loss_is_log_2_where_the_policy_is_the_reference():
    for pc, pr, rc, rr, beta in asked("dpo_starts_at_log_2", "dpo_loss", 4):
        assert torch.equal(pc, rc)
        assert torch.equal(pr, rr)
        assert float(SOLUTION["dpo_loss"](pc, pr, rc, rr, beta)) == pytest.approx(math.log(2))


def test_margins_are_far_beyond_what_a_sigmoid_can_show():
    for seed in range(10):
        given = asked("dpo_is_finite_for_large_margins", "dpo_loss", seed)
        margins = [beta * ((pc - rc) - (pr - rr)) for pc, pr, rc, rr, beta in given]
        assert margins[0].min() > 100
        assert margins[1].max() < -100
        assert margins[2].min() < -100
        assert margins[2].max() > 100
        for pc, pr, rc, rr, beta in given:
            assert ((pc - rc) - (pr - rr)).abs().max() > 1000, "log-ratios of thousands"
            assert torch.isfinite(SOLUTION["dpo_loss"](pc, pr, rc, rr, beta))


def test_answers_come_with_prompts_and_one_row_with_nothing_that_counts():
    for seed in range(10):
        given = asked("adds_up_the_answers_tokens", "sequence_logprob", seed)
        plain = [labels for _, labels, *ignored in given if not ignored]
        empty = [bool((labels[:, 1:] == -100).all(dim=1).any()) for labels in plain]
        assert empty == [False, True, True]
        tokens = [case[2] for case in given if len(case) == 3]
        assert len(tokens) == 2
        assert all(token >= 0 for token in tokens)


def test_the_gradient_of_a_hopeless_pair_is_the_largest_there_is():
    pc, pr, rc, rr, beta = asked("dpo_gradient_reaches_the_policy", "dpo_loss", 1)[-1]
    pc.requires_grad_()
    SOLUTION["dpo_loss"](pc, pr, rc, rr, beta).backward()
    assert torch.allclose(pc.grad, torch.full_like(pc, -beta / len(pc)))


def test_rewards_may_have_a_graph_and_get_no_gradient():
    found = failed(BENCH, 5, policy_gradient_loss=NAMED["rewards_learned_from"].run)
    assert set(found) == {"reward_is_not_learned_from"}
    assert "rewards.grad" in found["reward_is_not_learned_from"].message


def test_what_is_written_into_an_argument_is_named():
    found = failed(BENCH, 5, sequence_logprob=NAMED["labels_overwritten"].run)
    assert set(found) == {"logits_and_labels_left_alone"}
    message = found["logits_and_labels_left_alone"].message
    assert "afterwards labels is a int64 tensor" in message
    assert "changed in place" in message


def test_a_detached_reward_passes_as_trl_has_it():
    assert not failed(BENCH, 5, implicit_reward=lambda p, r, beta: beta * (p - r).detach())


def test_everything_is_a_value():
    assert {check.evidence for check in BENCH.checks} == {"value"}
    assert {check.level for check in BENCH.checks} == {"check"}


def test_messages_never_hold_the_true_answer():
    found = failed(BENCH, 6, dpo_loss=lambda *_: torch.tensor(12.5))
    message = found["dpo_is_the_published_formula"].message
    assert "came back: 12.5" in message
    case = asked("dpo_is_the_published_formula", "dpo_loss", 6)[0]
    assert f"{float(SOLUTION['dpo_loss'](*case)):.3f}" not in message
    assert "0.693" not in found["dpo_starts_at_log_2"].message


# --- the lesson -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    """The names that the lesson's code leaves, and what it printed."""
    blocks = re.findall(r"^```python\n(.*?)^```", LESSON, re.MULTILINE | re.DOTALL)
    names = {"__name__": "lesson"}
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec("\n".join(blocks), names)
    return names, told.getvalue()


def test_the_lessons_run_is_as_its_table_says(lesson):
    names, _ = lesson
    rows = re.findall(r"^\| (\d+) \|((?: \d\.\d{3} \|){5})$", LESSON, re.MULTILINE)
    assert [int(step) for step, _ in rows] == [0, 10, 20, 40, 60]
    for step, row in rows:
        told = [float(value) for value in row.strip(" |").split(" | ")]
        assert told == pytest.approx(names["history"][int(step)], abs=2e-3)


def test_what_the_lesson_says_of_its_run_is_so(lesson):
    names, _ = lesson
    loss, margin, unseen, chosen, rejected = zip(*names["history"], strict=True)
    assert list(loss) == sorted(loss, reverse=True), "the loss falls all the time"
    assert list(margin) == sorted(margin), "the margin grows"
    assert unseen[60] == pytest.approx(margin[60], rel=0.05), "on unseen topics as well"
    best = chosen.index(max(chosen))
    assert 8 <= best <= 12, "soon after step 10 both lose"
    assert rejected[20] < 5e-4
    assert chosen[60] < chosen[0], "less likely than before"
    said = names["said"]
    assert said[0] == "go away </s>"
    assert said[10] == "it is fine thanks </s>"
    assert said[60] == "is is fine thanks </s>"
    for text in ("go away", "it is fine thanks", "is is fine thanks"):
        assert f'"{text}"' in LESSON
    picture = re.search(r"!\[(.*?)\]\(dpo.svg\)", LESSON, re.DOTALL)[1].replace("\n", " ")
    assert f"grows from 0 to {margin[60]:.1f}" in picture
    assert f"falls from {rejected[0]:.2f} to 0 within 20 steps" in picture
    told = f"rises from {chosen[0]:.2f} to {max(chosen):.2f} and then falls to {chosen[60]:.2f}"
    assert told in picture


def test_the_lessons_numbers_are_computed(lesson):
    names, told = lesson
    preferred = [torch.tensor(float(d)).sigmoid() for d in (0, 1, 2, 4)]
    assert " | ".join(f"{p:.2f}" for p in preferred) in LESSON
    best, weights = names["best"], torch.sigmoid(-names["margins"]).tolist()
    assert f"# {', '.join(f'{p:.3f}' for p in best.tolist())}" in LESSON
    assert f"# {', '.join(f'{w:.3g}' for w in weights)}" in LESSON
    logs = F.logsigmoid(names["margins"]).tolist()
    assert f"# -200, {', '.join(f'{x:.3f}' for x in logs[1:])}" in LESSON
    differences = names["implicit"].diff()
    assert differences.tolist() == pytest.approx(names["reward"].diff().tolist(), abs=1e-5)
    assert f"has {0.5**200:.0e}," in LESSON
    assert "product of 200: 0.0" in told
    assert "-inf" in told


def test_the_baseline_makes_the_difference_that_the_lesson_says(lesson):
    won = lesson[0]["won"]
    assert won[True] == 20
    assert f"without it {won[False]} do" in LESSON


def test_the_best_policy_of_the_lesson_is_the_best(lesson):
    """No other policy has a higher reward minus beta times its distance from the reference."""
    names, _ = lesson

    def goal(policy):
        distance = (policy * (policy / names["before"]).log()).sum()
        return float((policy * names["reward"]).sum() - 0.5 * distance)

    torch.manual_seed(0)
    others = torch.randn(1000, 3).softmax(1)
    assert goal(names["best"]) > max(goal(policy) for policy in others)


def test_the_lesson_says_which_methods_need_pairs():
    assert re.search(r"\| KTO \| \*\*single\*\* answers.*no pairs needed", LESSON)
    assert "| DPO | pairs |" in LESSON
