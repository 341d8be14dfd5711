"""The memory lab: listed mistakes are there, right ways pass, strange wrong ones fail."""

from __future__ import annotations

import copy
import gc
import re
import types
from pathlib import Path

import pytest
import torch

from tests.labs.answers import failed
from tests.labs.answers.memory import (
    checkpointing_every_layer_by_hand,
    checkpointing_reentrant,
    releases,
    step_and,
    step_on,
)
from verify.judging import Bench
from verify.labs import find_labs
from verify.plain import Raised
from verify.trial import Failure, Trial

LABS = Path(__file__).parents[2] / "labs"
LAB = next(lab for lab in find_labs(LABS) if lab.skill == "memory")
BENCH = Bench(LAB)
CHECKS = {check.name: check for check in BENCH.checks}
NAMED = {wrong.name: wrong for wrong in BENCH.misconceptions}
LESSON = (LAB.folder / "README.md").read_text("utf-8")

LISTED = {
    "bits as bytes": ("bits_as_bytes", "training_bits_not_bytes"),
    "integer division of 4.5 bits": ("whole_bytes_each", "whole_bits_each"),
    "no gradients": ("no_gradients",),
    "optimizer state for frozen parameters": (
        "optimizer_state_for_frozen",
        "everything_for_frozen",
    ),
    "one Adam moment": ("one_adam_moment",),
    "four times the model": ("four_times_the_model",),
    "adding CPU and GPU memory on a shared pool": ("cpu_and_gpu_added",),
    "one of two numbers on a shared pool": ("smaller_of_the_two", "larger_of_the_two"),
    "MemFree": ("mem_free",),
    "kB as bytes": ("kilobytes_as_bytes",),
    "checkpointing in eval mode": ("checkpointing_in_eval_mode",),
    "checkpointing by flag only": ("checkpointing_by_flag",),
    "checkpointing by freezing": (
        "checkpointing_by_freezing",
        "frozen_and_checkpointed",
        "all_but_the_head_frozen",
    ),
    "fp16 autocast": ("float16_autocast",),
    "cast parameters": ("parameters_cast",),
    "no autocast": ("no_autocast",),
    "no zero_grad": ("no_zero_grad",),
    "overflow only": ("overflow_only",),
    "always bf16": ("always_bfloat16",),
    "allocated share as fragmentation": ("allocated_share",),
    "a share of something else": ("share_of_allocated", "share_of_the_idle"),
    "the loss with its graph": ("loss_with_its_graph",),
    "division by zero": ("division_by_zero",),
    "split blocks counted as releasable": ("split_counted_as_releasable",),
    "cache emptied first": ("cache_emptied_first",),
    "no collection": ("no_collection",),
    # Not on the list, and made all the same:
    "optimizer bits doubled": ("moments_counted_twice",),
    "master copy in the weights' place": ("master_instead_of_weight",),
    "swap taken for memory": ("swap_added",),
    "a copy of the model": ("copy_checkpointed",),
    "not every layer": ("last_layer_left_out", "first_layer_left_out", "every_second_layer"),
    "one checkpoint for all layers": ("whole_model_at_once",),
    "another dropout when recomputed": ("chance_not_repeated",),
    "eval mode": ("step_in_eval_mode", "left_in_eval_mode"),
    "no attention mask": ("part_of_the_batch",),
    "another algorithm": ("gradients_clipped",),
    "autocast for the wrong device": ("autocast_for_the_cpu", "autocast_of_default_dtype"),
    "written into what was given": (
        "labels_taken_out",
        "sizes_taken_in_place",
        "zeros_filled_in_place",
    ),
    "the wrong end of float16": ("eps_as_smallest", "subnormals_vanish"),
    "nothing but zeros": ("nothing_left_of_zeros",),
    "no GPU": (
        "gpu_taken_for_granted",
        "accelerator_taken_for_granted",
        "only_beside_a_gpu",
        "cycles_only_beside_a_gpu",
    ),
}


@pytest.mark.parametrize("phrase", LISTED)
def test_every_listed_mistake_is_a_misconception(phrase):
    for name in LISTED[phrase]:
        wrong = NAMED[name]
        found = failed(BENCH, 3, **{wrong.function: wrong.run})
        assert found, name
        assert {verdict.misconception for verdict in found.values()} == {name}


# ------------------------------------------------------------------------ how a mistake is met
@pytest.mark.parametrize("function", LAB.functions)
def test_strange_answers_never_pass(function):
    class Strange:
        def __getattr__(self, name):
            raise RuntimeError(name)

    for answer in (Strange(), float("nan"), b"", [], {}, torch.zeros(3), types, True, 10**400):
        found = failed(BENCH, 0, **{function: lambda *_a, _answer=answer, **_k: _answer})
        assert found, answer
        assert {v.status for v in found.values()} == {"failed"}, answer


def with_gradients_off(model):
    torch.set_grad_enabled(False)
    return model.train()


def popped_one_by_one(objects):
    while objects:
        item = objects.pop()
        item.model.eval()
    gc.collect()
    torch.cuda.empty_cache()


def emptied_of_models(objects):
    for item in objects:
        item.model = None


@pytest.mark.parametrize(
    ("function", "way", "hint"),
    [
        ("enable_checkpointing", with_gradients_off, "checkpointing_by_freezing"),
        ("mixed_precision_step", step_on(lambda model: "cuda"), "no_autocast"),
        (
            "mixed_precision_step",
            lambda model, *rest: step_and()(copy.deepcopy(model), *rest),
            "zeroed_before_step",
        ),
        ("release", popped_one_by_one, "loop_variable_kept"),
        ("release", releases(emptied_of_models), "name_deleted"),
        (
            "release",
            lambda objects: objects.clear() or gc.collect(0) or torch.cuda.empty_cache(),
            "no_collection",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.skipif(torch.cuda.is_available(), reason="an autocast for a GPU is right beside one")
def test_a_hint_serves_the_mistakes_it_names(function, way, hint):
    for seed in range(3):
        found = failed(BENCH, seed, **{function: way})
        assert {verdict.misconception for verdict in found.values()} == {hint}


def test_a_copy_of_the_model_has_the_gradients_to_itself():
    found = failed(BENCH, 1, enable_checkpointing=NAMED["copy_checkpointed"].run)
    assert "there is none" in found["checkpointing_keeps_gradients"].message


def test_a_checkpoint_of_everything_is_seen_by_what_is_there_at_one_time():
    found = failed(BENCH, 1, enable_checkpointing=NAMED["whole_model_at_once"].run)
    assert re.search(
        r"activations of (\d) of \1 layers", found["checkpointing_saves_activations"].message
    )


def test_a_loss_with_its_graph_gets_an_advice_and_nothing_worse():
    found = failed(BENCH, 2, mixed_precision_step=NAMED["loss_with_its_graph"].run)
    assert list(found) == ["mixed_loss_holds_no_graph"]
    assert CHECKS["mixed_loss_holds_no_graph"].level == "advice"


def test_what_was_changed_is_said_in_a_sentence():
    found = failed(BENCH, 2, half_precision_for=NAMED["sizes_taken_in_place"].run)
    assert ": afterwards values is a float32 tensor" in found["values_left_alone"].message
    found = failed(BENCH, 2, mixed_precision_step=NAMED["labels_taken_out"].run)
    assert ": afterwards the batch is {" in found["mixed_step_leaves_its_batch"].message


def test_what_is_a_probe_and_what_is_a_value():
    probes = {check.name for check in BENCH.checks if check.evidence == "probe"}
    assert probes == {
        "training_measured_on_gpu",
        "checkpointing_saves_activations",
        "mixed_step_keeps_float32",
        "mixed_step_follows_the_model",
        "mixed_loss_holds_no_graph",
        "memory_released",
        "memory_released_without_gpu",
    }


# --------------------------------------------------------------------------------- the readings
def test_no_scene_leaves_anything_behind():
    before = (
        gc.isenabled(),
        torch.is_grad_enabled(),
        torch.cuda.is_available(),
        torch.cuda.is_available,
        hasattr(torch._C, "_cuda_emptyCache"),
    )
    failed(BENCH, 0, release=lambda objects: gc.enable())
    failed(BENCH, 0, release=NAMED["gpu_taken_for_granted"].run)
    failed(BENCH, 0, mixed_precision_step=BENCH.solution["mixed_precision_step"])
    failed(BENCH, 0, enable_checkpointing=lambda model: torch.set_grad_enabled(False) and model)
    after = (
        gc.isenabled(),
        torch.is_grad_enabled(),
        torch.cuda.is_available(),
        torch.cuda.is_available,
        hasattr(torch._C, "_cuda_emptyCache"),
    )
    assert before == after


def test_reentrant_and_other_checkpoints_are_measured_alike():
    scene = BENCH.scene
    ids = torch.randint(0, scene.VOCABULARY, (2, 20))

    def saved(enable):
        exercise = types.SimpleNamespace(enable_checkpointing=enable)
        return scene.checkpointed(exercise, 5, 4, 1.5, ids, [])

    one, other = saved(checkpointing_reentrant), saved(checkpointing_every_layer_by_hand)
    assert one["saved"] == other["saved"] < 0.25 * one["plain"]


def test_bfloat16_noise_is_far_below_what_a_step_may_differ():
    """A float32 step stands in for a GPU's other order of additions; it differs by more."""
    check = CHECKS["mixed_step_trains"]
    float32 = NAMED["no_autocast"].run
    for seed in range(20):
        verdict = BENCH.judge(check, BENCH.rehearse(mixed_precision_step=float32), seed)
        assert verdict.status == "passed", "only the loss and the dtypes tell it apart"


def test_the_meminfo_and_the_stats_look_like_real_ones():
    import random
    import sys

    Bench(LAB)  # makes this lab's module the one of that name
    checks = sys.modules["checks"]
    text, available = checks._meminfo(random.Random(1), mixed=False)
    assert text.splitlines()[2].startswith("MemAvailable:")
    assert f" {available // 1024} kB" in text
    stats = checks._allocator(random.Random(1))
    assert set(stats) == set(checks._allocator(None))
    for pool in ("all", "small_pool", "large_pool"):
        now = {k: stats[f"{k}_bytes.{pool}.current"] for k in ("reserved", "active", "allocated")}
        assert now["reserved"] > now["active"] > now["allocated"] > 0
        for kind in ("segment", "allocation", "inactive_split_bytes", "requested_bytes"):
            told = {m: stats[f"{kind}.{pool}.{m}"] for m in ("current", "allocated", "freed")}
            assert told["current"] == told["allocated"] - told["freed"]


# --------------------------------------------------------------------- the check that needs a GPU
class Reading:
    """A learner that only has a reading to give."""

    def __init__(self, told, **reading):
        self.reading = {"told": told, "peak": 101_000_000, "activations": 1_000_000, **reading}

    def observe(self, scene, inputs, seed, seconds):
        assert scene == "gpu_step"
        assert 0 < inputs["trained"] < inputs["layers"]
        return self.reading


@pytest.mark.parametrize(
    ("told", "passes"),
    [
        (100_000_000, True),
        (92_000_000.0, True),
        (80_000_000, False),
        (125_000_000, False),
        (float("nan"), False),
        (None, False),
        (True, False),
        (Raised("ValueError", "no", None), False),
    ],
)
def test_the_gpu_check_compares_what_was_told_with_the_peak(told, passes):
    check = CHECKS["training_measured_on_gpu"]
    trial = Trial(Reading(told), 0, check)
    if passes:
        check.run(trial)
    else:
        with pytest.raises(Failure):
            check.run(trial)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_gpu_check_is_not_run():
    verdict = BENCH.judge(CHECKS["training_measured_on_gpu"], BENCH.rehearse(), 0)
    assert verdict.status == "not_run"
    assert "GPU" in verdict.message


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_the_solution_agrees_with_a_real_step():
    for seed in range(3):
        verdict = BENCH.judge(CHECKS["training_measured_on_gpu"], BENCH.rehearse(), seed)
        assert verdict.status == "passed", verdict


# ------------------------------------------------------------------------------- the lesson's facts
def row(start):
    (line,) = [line for line in LESSON.splitlines() if line.startswith(f"| {start}")]
    return [float(cell.replace(",", "")) for cell in re.findall(r"([\d.,]+) GB", line)]


def test_the_lessons_table_is_computed():
    weights, training = BENCH.solution["weight_bytes"], BENCH.solution["training_bytes"]
    adapters = {  # rank * (in + out) of q, k, v and o in every layer
        7e9: 16 * 32 * 4 * (4096 + 4096),
        70e9: 16 * 80 * (2 * (8192 + 8192) + 2 * (8192 + 1024)),
    }
    expected = {
        "inference, bf16": lambda n: weights(n, 16),
        "full fine-tuning, everything": lambda n: training(n, n, 16, 16, 32, 0),
        "full fine-tuning, mixed": lambda n: training(n, n),
        "LoRA, rank 16": lambda n: training(n, adapters[n]),
        "QLoRA, the same": lambda n: training(n, adapters[n], 4.127),
    }
    for start, formula in expected.items():
        assert row(start) == pytest.approx([formula(7e9) / 1e9, formula(70e9) / 1e9], abs=0.06)
    assert round(adapters[7e9] / 1e6, 1) == 16.8
    assert round(adapters[70e9] / 1e6, 1) == 65.5
    assert training(10, 10, 32, 32, 64, 0) == training(10, 10) == 160


def test_the_lessons_numbers_hold():
    assert round(4 + 8 / 64 + 32 / (64 * 256), 3) == 4.127
    head = 2 * 128_256 * 8192
    assert round(head / 1e9, 1) == 2.1
    assert round(head * (16 - 4.127) / 8 / 1e9) == 3
    assert round((2**30 / 1e9 - 1) * 100) == 7
    half = torch.finfo(torch.float16)
    assert half.max == 65504
    assert half.tiny == pytest.approx(6.1e-5, rel=0.01)
    for dtype, edge in ((torch.float16, 3e-8), (torch.bfloat16, 4.6e-41)):
        assert torch.tensor(edge * 0.98, dtype=torch.float64).to(dtype) == 0
        assert torch.tensor(edge * 1.02, dtype=torch.float64).to(dtype) != 0
    assert torch.tensor(1.0).bfloat16() - 0.0018 == 1
    assert torch.tensor(1.0).bfloat16() - 0.0022 != 1
    for told in ("560 GB, not 280", "1.12 TB", "expandable_segments:True", "120 GiB", "12.1"):
        assert told in LESSON
    for told in ("no more memory", "activations, and only those", "MemAvailable"):
        assert told in LESSON
