"""The memory lab: listed mistakes are there, right ways pass, strange wrong ones fail."""

from __future__ import annotations

import functools
import gc
import re
import types
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

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
SEEDS = range(4)

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
    "division by zero": ("division_by_zero",),
    "split blocks counted as releasable": ("split_counted_as_releasable",),
    "cache emptied first": ("cache_emptied_first",),
    "no collection": ("no_collection",),
}


def failed(seed, **functions):
    """Return the verdicts that are not passes, by check, with ``functions`` in the solution."""
    learner = BENCH.rehearse(**functions)
    checks = [c for c in BENCH.checks if set(c.functions) & set(functions) and not c.gpu]
    verdicts = {c.name: BENCH.judge(c, learner, seed) for c in checks}
    return {name: verdict for name, verdict in verdicts.items() if verdict.status != "passed"}


@pytest.mark.parametrize("phrase", LISTED)
def test_every_listed_mistake_is_a_misconception(phrase):
    for name in LISTED[phrase]:
        wrong = NAMED[name]
        found = failed(3, **{wrong.function: wrong.run})
        assert found, name
        allowed = set(wrong.checks or CHECKS)
        told = {v.misconception for check, v in found.items() if check in allowed}
        assert told == {name}


# ---------------------------------------------------------------------------- right, otherwise
def _weights_as_double_tensor(num_params, bits):
    return torch.tensor(num_params, dtype=torch.float64) * bits / 8


def _training_by_parts(
    num_params, trainable_params, weight_bits=16, grad_bits=16, optimizer_bits=64, master_bits=32
):
    parts = {"weights": num_params * weight_bits, "gradients": trainable_params * grad_bits}
    parts["optimizer"] = trainable_params * optimizer_bits
    parts["master"] = trainable_params * master_bits
    return int(sum(part / 8 for part in parts.values()))


def _training_as_array(num_params, trainable_params, *bits, **named):
    told = {"weight_bits": 16, "grad_bits": 16, "optimizer_bits": 64, "master_bits": 32, **named}
    counts = np.array([num_params] + [trainable_params] * 3, dtype=np.float64)
    return (counts * np.array(list(told.values()))).sum() / 8


def _training_by_frozen(
    num_params, trainable_params, weight_bits=16, grad_bits=16, optimizer_bits=64, master_bits=32
):
    frozen = num_params - trainable_params
    each = weight_bits + grad_bits + optimizer_bits + master_bits
    return torch.tensor((frozen * weight_bits + trainable_params * each) / 8, dtype=torch.float64)


def _usable_by_regex(meminfo, cuda_free, unified):
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return int(found.group(1)) << 10 if unified else cuda_free


def _usable_by_loop(meminfo, cuda_free, unified):
    if unified:
        for line in meminfo.split("\n"):
            if line.startswith("MemAvailable"):
                return float(line.split()[1]) * 1024.0
    return float(cuda_free)


def _usable_as_tensor(meminfo, cuda_free, unified):
    lines = {x.split(":")[0]: x.split()[1] for x in meminfo.strip().splitlines()}
    return torch.tensor(int(lines["MemAvailable"]) * 1024 if unified else cuda_free)


def _checkpointing_old_name(model):
    with pytest.warns(FutureWarning):
        model.gradient_checkpointing_enable()
    model.train()
    return model


def _checkpointing_reentrant(model):
    model.train()
    model.config.use_cache = False
    model.activation_checkpointing_enable({"use_reentrant": True})
    return model


def _checkpointing_every_layer_by_hand(model):
    for layer in model.model.layers:
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    return model.train()


def _checkpointing_every_second_layer(model):
    model.activation_checkpointing_enable(every_n_layers=2)
    return model.train()


def _step_zeroing_after(model, batch, optimizer):
    with torch.autocast(device_type=next(model.parameters()).device.type, dtype=torch.bfloat16):
        output = model(**batch)
    output["loss"].backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return output.loss.detach()


def _step_backward_inside(model, batch, optimizer):
    model.train()
    model.zero_grad(set_to_none=False)
    with torch.amp.autocast(model.device.type, torch.bfloat16):
        loss = model(**batch)[0]
        loss.backward()
    optimizer.step()
    return loss  # a 0-d tensor with a graph


def _step_with_scaler(model, batch, optimizer):
    scaler = torch.amp.GradScaler(model.device.type, init_scale=1024.0)
    optimizer.zero_grad()
    with torch.autocast(model.device.type, dtype=torch.bfloat16, cache_enabled=False):
        loss = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    return loss.item()


def _half_by_limits(values):
    sizes = values[values != 0].abs()
    fits = bool((sizes < 65520).all() and (sizes > 2.0**-25).all())
    return "float16" if fits else "bfloat16"


def _half_by_numpy(values):
    array = values.numpy()
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    lost = np.isinf(half).any() or np.count_nonzero(half) != np.count_nonzero(array)
    return "torch.bfloat16" if lost else "torch.float16"


def _half_by_loop(values):
    for value in values.flatten().tolist():
        back = torch.tensor(value).half().item()
        if abs(back) == float("inf") or (value != 0 and back == 0):
            return "bf16"
    return torch.half


def _fragmentation_guarded(stats):
    if stats.get("reserved_bytes.all.current", 0) == 0:
        return 0
    return torch.tensor(
        stats["inactive_split_bytes.all.current"] / stats["reserved_bytes.all.current"]
    )


def _fragmentation_by_pools(stats):
    pools = ("small_pool", "large_pool")
    idle, held = (
        sum(stats[f"{what}_bytes.{pool}.current"] for pool in pools)
        for what in ("inactive_split", "reserved")
    )
    return np.float64(idle) / held if held else np.float32(0.0)


def _fragmentation_by_exception(stats):
    try:
        return stats["inactive_split_bytes.all.current"] / stats["reserved_bytes.all.current"]
    except ZeroDivisionError:
        return 0.0


def _releasable_as_float(stats):
    return float(stats["reserved_bytes.all.current"]) - float(
        stats["active_bytes.all.current"] + stats["inactive_split_bytes.all.current"]
    )


def _releasable_by_pools(stats):
    signs = {"reserved": 1, "active": -1, "inactive_split": -1}
    return sum(
        sign * stats[f"{what}_bytes.{pool}.current"]
        for what, sign in signs.items()
        for pool in ("small_pool", "large_pool")
    )


def _releasable_as_tensor(stats):
    return torch.tensor(_releasable_by_pools(stats))


def _release_by_slices(objects):
    del objects[:]
    gc.collect()
    torch.cuda.empty_cache()


_empty_early_import = torch.cuda.empty_cache  # as `from torch.cuda import empty_cache` binds it
_available_early_import = torch.cuda.is_available


def _release_by_pop(objects):
    while objects:
        objects.pop()
    gc.collect()
    gc.collect()
    if _available_early_import():
        _empty_early_import()


def _release_by_overwriting(objects):
    for index in range(len(objects)):
        objects[index] = None
    gc.collect(2)
    torch.cuda.synchronize()
    torch.accelerator.memory.empty_cache()


def _release_with_both(objects):
    torch.cuda.empty_cache()
    waiting = deque(objects)
    objects *= 0
    while waiting:
        waiting.popleft()
    assert torch.cuda.memory_allocated() == 0  # a learner looks at it
    gc.collect()
    if torch.accelerator.is_available() and torch.cuda.device_count():
        torch.accelerator.empty_cache()
        torch.cuda.ipc_collect()


RIGHT = {
    "weight_bytes": (
        lambda num_params, bits: bits / 8 * num_params,
        lambda num_params, bits: int(num_params * bits / 8),
        _weights_as_double_tensor,
        lambda num_params, bits: np.float64(bits) * num_params * 0.125,
        lambda num_params, bits: num_params * bits // 8,
    ),
    "training_bytes": (_training_by_parts, _training_as_array, _training_by_frozen),
    "usable_bytes": (_usable_by_regex, _usable_by_loop, _usable_as_tensor),
    "enable_checkpointing": (
        _checkpointing_old_name,
        _checkpointing_reentrant,
        _checkpointing_every_layer_by_hand,
        _checkpointing_every_second_layer,
    ),
    "mixed_precision_step": (_step_zeroing_after, _step_backward_inside, _step_with_scaler),
    "half_precision_for": (_half_by_limits, _half_by_numpy, _half_by_loop),
    "fragmentation": (
        _fragmentation_guarded,
        _fragmentation_by_pools,
        _fragmentation_by_exception,
    ),
    "releasable_bytes": (_releasable_as_float, _releasable_by_pools, _releasable_as_tensor),
    "release": (
        _release_by_slices,
        _release_by_pop,
        _release_by_overwriting,
        _release_with_both,
    ),
}


@pytest.mark.parametrize(
    ("function", "index"), [(name, i) for name, ways in RIGHT.items() for i in range(len(ways))]
)
def test_other_right_ways_pass(function, index):
    for seed in SEEDS:
        assert not failed(seed, **{function: RIGHT[function][index]}), seed


def test_every_function_has_three_other_right_ways():
    assert set(RIGHT) == set(LAB.functions)
    assert all(len(ways) >= 3 for ways in RIGHT.values())


# ---------------------------------------------------------------------- wrong, and not listed
def _halved_hidden_state(model):
    model.activation_checkpointing_enable()
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    return model.train()


def _only_the_first_layer(model):
    layer = model.model.layers[0]
    layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    return model.train()


def _kept_then_released(objects, store=[]):  # noqa: B006 - that is the mistake
    store[:] = objects
    objects.clear()
    gc.collect()
    torch.cuda.empty_cache()


def _step_twice(model, batch, optimizer):
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
    return loss.item()


def _autocast_after_the_forward(model, batch, optimizer):
    optimizer.zero_grad()
    loss = model(**batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss.bfloat16().backward()
    optimizer.step()
    return loss.item()


def _a_loss_made_up(model, batch, optimizer):
    BENCH.solution["mixed_precision_step"](model, batch, optimizer)
    return 4.2


def _forward_done_in_halves(model, batch, optimizer):
    """Float32 where it counts, and a bfloat16 copy of the weights written back."""
    loss = BENCH.solution["mixed_precision_step"](model, batch, optimizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return loss


WRONG = {
    "weight_bytes": (
        lambda num_params, bits: num_params * bits / 4,
        lambda num_params, bits: num_params * bits / 8 + 2,
        lambda num_params, bits: float("nan"),
        lambda num_params, bits: True,
        lambda num_params, bits: str(num_params * bits / 8),
        lambda num_params, bits: [num_params * bits / 8],
    ),
    "training_bytes": (
        lambda n, t, **bits: 16 * t,
        lambda n, t, **bits: None,
        lambda num_params, trainable_params, **bits: (
            _training_by_parts(num_params, trainable_params, **bits) + 2
        ),
    ),
    "usable_bytes": (
        lambda meminfo, cuda_free, unified: min(
            _usable_by_regex(meminfo, cuda_free, unified), cuda_free
        ),
        lambda meminfo, cuda_free, unified: max(
            _usable_by_regex(meminfo, cuda_free, unified), cuda_free
        ),
        lambda meminfo, cuda_free, unified: _usable_by_regex(meminfo, cuda_free, unified) // 10**9,
        lambda meminfo, cuda_free, unified: _usable_by_regex(meminfo, cuda_free, not unified),
    ),
    "enable_checkpointing": (
        _halved_hidden_state,
        _only_the_first_layer,
        lambda model: model.to(torch.float64).half().float().train(),
        lambda model: "ready",
        lambda model: torch.nn.Linear(2, 2),
        lambda model: model.half().train(),
    ),
    "mixed_precision_step": (
        _step_twice,
        _autocast_after_the_forward,
        _a_loss_made_up,
        _forward_done_in_halves,
        lambda model, batch, optimizer: 0.0,
    ),
    "half_precision_for": (
        lambda values: torch.float32,
        lambda values: None,
        lambda values: "double" if values.abs().max() > 60000 else "float16",
        lambda values: torch.float16 if values.numel() > 30 else torch.bfloat16,
    ),
    "fragmentation": (
        lambda stats: 0.0,
        lambda stats: stats["inactive_split_bytes.all.current"],
        lambda stats: -1 if not stats["reserved_bytes.all.current"] else 0.2,
        lambda stats: stats["inactive_split"]["all"],
    ),
    "releasable_bytes": (
        lambda stats: 0,
        lambda stats: stats["reserved_bytes.all.current"] / 2,
        lambda stats: stats["active_bytes.all.current"],
        lambda stats: _releasable_by_pools(stats) - 2,
    ),
    "release": (
        _kept_then_released,
        lambda objects: objects[1:].clear(),
        lambda objects: objects[:3],
        lambda objects: torch.cuda.empty_cache() or [*map(id, objects)],
    ),
}


@pytest.mark.parametrize(
    ("function", "index"), [(name, i) for name, ways in WRONG.items() for i in range(len(ways))]
)
def test_unlisted_wrong_ways_fail_and_are_told_what_came_back(function, index):
    for seed in SEEDS:
        found = failed(seed, **{function: WRONG[function][index]})
        assert found, seed
        for verdict in found.values():
            assert verdict.status == "failed"
            assert verdict.cause in {"wrong", "crashed"}, verdict
            first, _, rest = verdict.message.partition(": ")
            assert first, verdict
            assert rest, verdict


@pytest.mark.parametrize("function", [name for name in WRONG if name != "release"])
def test_unlisted_wrong_ways_get_no_hint(function):
    for way in WRONG[function]:
        told = {verdict.misconception for verdict in failed(1, **{function: way}).values()}
        assert told <= {None}, (way, told)


@pytest.mark.parametrize("function", LAB.functions)
def test_strange_answers_never_pass(function):
    class Strange:
        def __getattr__(self, name):
            raise RuntimeError(name)

    for answer in (Strange(), float("nan"), b"", [], {}, torch.zeros(3), types, True, 10**400):
        found = failed(0, **{function: lambda *_a, _answer=answer, **_k: _answer})
        assert found, answer
        assert {v.status for v in found.values()} == {"failed"}, answer


# --------------------------------------------------------------------------------- the readings
def test_no_scene_leaves_anything_behind():
    before = (
        gc.isenabled(),
        torch.is_grad_enabled(),
        torch.cuda.is_available(),
        torch.cuda.is_available,
        hasattr(torch._C, "_cuda_emptyCache"),
    )
    failed(0, release=lambda objects: gc.enable())
    failed(0, enable_checkpointing=lambda model: torch.set_grad_enabled(False) and model)
    after = (
        gc.isenabled(),
        torch.is_grad_enabled(),
        torch.cuda.is_available(),
        torch.cuda.is_available,
        hasattr(torch._C, "_cuda_emptyCache"),
    )
    assert before == after


def test_reentrant_and_other_checkpoints_are_measured_alike():
    import sys

    scene = sys.modules["scene"]
    ids = torch.randint(0, scene.VOCABULARY, (2, 20))

    def saved(enable):
        exercise = types.SimpleNamespace(enable_checkpointing=enable)
        return scene.checkpointed(exercise, 5, 4, 1.5, ids, [])

    one, other = saved(_checkpointing_reentrant), saved(_checkpointing_every_layer_by_hand)
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
