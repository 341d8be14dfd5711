"""The checks: what each function of the lab must do, shown by values where values can show it."""

from __future__ import annotations

import itertools
import random
from typing import Any

import scene
import torch
from torch import Tensor

from verify.authoring import check
from verify.compare import number, same
from verify.plain import Array, Raised
from verify.shorten import shorten
from verify.tensors import plain, to_tensor
from verify.trial import Trial

BYTE = {"rtol": 0.0, "atol": 1.0}  # byte counts: one byte of slack, no share of the size
MIB = 2**20
STEP = ("mixed_precision_step(model, batch, optimizer)", "the same with the next batch")
MORE = 1.25  # of what all layers' inputs take; one layer that is not checkpointed makes it 2
EXACT = {"rtol": 0.0, "atol": 0.0}
ROUNDING = 0.1  # bfloat16 gradients in another order of additions, of the largest element


# ------------------------------------------------------------------------------- counting bytes
@check("weight_bytes", review="Counting weights")
def weights_counted(trial: Trial) -> None:
    """`weight_bytes` counts bytes for any number of bits, fractions of a bit included."""
    draw = trial.random
    odd = draw.choice([4.127, 4.25, 4.5, 5.5, 6.5625])
    cases = [{"num_params": draw.randint(10**6, 8 * 10**10), "bits": b} for b in (16, odd, 4, 2.75)]
    came = trial.observe("calls", function="weight_bytes", cases=cases)
    asked = [_call("weight_bytes", case) for case in cases]
    truth = [case["num_params"] * case["bits"] / 8 for case in cases]
    why = "Asked for are bytes, and every bit counts, however they are packed."
    trial.expect_each(asked, came, truth, why=why, **BYTE)


@check("training_bytes", review="Counting a training run")
def training_counted(trial: Trial) -> None:
    """`training_bytes` adds up weights, gradients, optimizer state and master copy."""
    draw = trial.random
    sizes = [draw.randint(10**8, 7 * 10**10) for _ in range(5)]
    few = [size // draw.randint(30, 90) for size in sizes]
    cases: list[dict[str, Any]] = [
        {"num_params": sizes[0], "trainable_params": sizes[0]},
        {"num_params": sizes[1], "trainable_params": few[1]},
        {"num_params": sizes[2], "trainable_params": few[2], "weight_bits": 4.127, "grad_bits": 32},
        {"num_params": sizes[3], "trainable_params": sizes[3] // 2, "optimizer_bits": 32,
         "master_bits": 0},
        {"num_params": sizes[4], "trainable_params": few[4] * 9, "weight_bits": 32, "grad_bits": 8,
         "optimizer_bits": 16, "master_bits": 24},
    ]  # fmt: skip
    came = trial.observe("calls", function="training_bytes", cases=cases)
    asked = [_call("training_bytes", case) for case in cases]
    why = (
        "Every parameter has a weight; only a trained one has a gradient, optimizer state and a "
        "master copy, and each of these has its own number of bits."
    )
    trial.expect_each(asked, came, [_training(**case) for case in cases], why=why, **BYTE)


@check("training_bytes", review="Counting a training run", evidence="probe",
       after=("training_counted",), gpu=True, seconds=60.0)  # fmt: skip
def training_measured_on_gpu(trial: Trial) -> None:
    """What `training_bytes` tells is what a real step takes on this GPU, activations aside."""
    draw = trial.random
    layers = draw.randint(8, 12)
    shape = {"layers": layers, "trained": layers // 2, "width": 1024, "rows": draw.randint(4, 16)}
    came = trial.observe("gpu_step", **shape)
    asked = "training_bytes for linear layers in float32 with AdamW"
    if not isinstance(came, dict):
        trial.fail(asked, came)
    told: Any = number(came["told"])
    peak = came["peak"]
    if not _is_number(told):
        trial.fail(asked, told)
    trial.require(
        abs(told + came["activations"] - peak) <= 0.1 * peak,
        asked,
        f"told {told:.4g} bytes; a real step took {peak:.4g} with its activations",
        why="Apart from these the two should agree within a tenth.",
    )


@check("usable_bytes", review="What is still free")
def free_memory_read(trial: Trial) -> None:
    """`usable_bytes` reads the right number for the machine, in bytes."""
    cases: list[dict[str, Any]] = []
    truth: list[int] = []
    for unified, more in ((True, False), (False, True), (True, True), (False, False)):
        text, available = _meminfo(trial.random, mixed=unified and more)
        part = trial.random.uniform(1.1, 1.3) if more else trial.random.uniform(0.4, 0.6)
        cuda_free = int(available * part) // 4096 * 4096
        cases.append({"meminfo": text, "cuda_free": cuda_free, "unified": unified})
        truth.append(available if unified else cuda_free)
    came = trial.observe("calls", function="usable_bytes", cases=cases)
    asked = [
        f"usable_bytes(meminfo, cuda_free={case['cuda_free']}, unified={case['unified']}) for a "
        f"/proc/meminfo of {case['meminfo'].count(chr(10))} lines"
        for case in cases
    ]
    why = "It is the memory a run can still take here, in bytes, from the one source that knows it."
    trial.expect_each(asked, came, truth, why=why, **BYTE)


# ------------------------------------------------------------------------------- checkpointing
@check("enable_checkpointing", review="Gradient checkpointing")
def checkpointing_keeps_gradients(trial: Trial) -> None:
    """`enable_checkpointing` leaves loss and gradients as they are in train mode."""
    _gradients(trial, _checkpointed(trial, []))


@check("enable_checkpointing", review="Gradient checkpointing", evidence="probe",
       after=("checkpointing_keeps_gradients",))  # fmt: skip
def checkpointing_saves_activations(trial: Trial) -> None:
    """After `enable_checkpointing` each layer keeps its input alone for the backward pass."""
    came, truth = _checkpointed(trial, [])
    asked = "a forward pass after enable_checkpointing(model)"
    _model_came(trial, came)
    saved, without, held = came["saved"], came["plain"], came["held"]
    right = truth["model"]
    right.activation_checkpointing_enable()
    trial.require(
        _is_number(saved) and 0 < saved <= MORE * scene.backward(right, truth["ids"])["saved"],
        asked,
        f"kept {saved} bytes of activations for backward, and {without} without the function",
        why="Some layers keep what they should compute again, or nothing is trained.",
    )
    layers = len(right.model.layers)
    trial.require(
        _is_number(held) and held < layers,
        f"{asked}, and the backward pass",
        f"the activations of {held} of {layers} layers were there at the same time",
        why="Recomputing saves memory only where one layer's are gone before the next one's come.",
    )


@check("enable_checkpointing", review="Gradient checkpointing", level="advice",
       after=("checkpointing_keeps_gradients",))  # fmt: skip
def checkpointing_with_frozen_base(trial: Trial) -> None:
    """Checkpointing still gives gradients when all but a few weights are frozen, as under LoRA."""
    part = trial.random.choice(["o_proj", "v_proj", "q_proj"])
    _gradients(trial, _checkpointed(trial, [part]), f" with only the {part} weights trainable")


# ----------------------------------------------------------------------------- mixed precision
@check("mixed_precision_step", review="Mixed precision")
def mixed_step_trains(trial: Trial) -> None:
    """Two calls of `mixed_precision_step` change the parameters as two training steps do."""
    came, steps = _mixed(trial)
    before = list(scene.marked_llama(**steps["model"]).named_parameters())
    after, _ = _trusted_steps(**steps)
    assert isinstance(came["parameters"], list)
    for (name, old), new, told in zip(before, after, came["parameters"], strict=True):
        right = isinstance(told, Array) and told.shape == tuple(old.shape)
        change = to_tensor(told).float() - old.detach() if right else told
        trial.expect(
            f"{STEP[0]}, twice: the change of {name.replace('.block', '')}",
            plain(change),
            new - old.detach(),
            why="A step uses this batch's gradient alone, once, in train mode, and loses no digit.",
            rtol=ROUNDING,
        )


@check("mixed_precision_step", review="Mixed precision", after=("mixed_step_trains",))
def mixed_step_leaves_its_batch(trial: Trial) -> None:
    """`mixed_precision_step` leaves the batch as it was: another pass would find it whole."""
    came, steps = _mixed(trial)
    why = "The batch is the caller's, and most runs make more than one pass over the data."
    for asked, left, given in zip(STEP, came["batches"], steps["batches"], strict=True):
        told = f"afterwards the batch is {shorten(left)}"
        trial.require(same(left, plain(given), **EXACT), asked, told, why=why)


@check("mixed_precision_step", review="Mixed precision", after=("mixed_step_trains",))
def mixed_step_rounds_to_bfloat16(trial: Trial) -> None:
    """The loss `mixed_precision_step` returns is that of a bfloat16 forward pass."""
    came, steps = _mixed(trial)
    _, losses = _trusted_steps(**steps)
    why = "This model's loss shows in which precision its matrix products were computed."
    trial.expect_each(STEP, came["losses"], losses, why=why, rtol=0.0, atol=0.15)


@check("mixed_precision_step", review="Mixed precision", evidence="probe",
       after=("mixed_step_trains",))  # fmt: skip
def mixed_step_keeps_float32(trial: Trial) -> None:
    """Parameters and gradients stay float32 while the linear layers give bfloat16."""
    came, _ = _mixed(trial)
    weights = [to_tensor(told) for told in came["parameters"]]
    short = sum(int((w.bfloat16().to(w.dtype) == w).sum()) for w in weights)
    everything = sum(w.numel() for w in weights)
    dtypes = sorted({str(w.dtype) for w in weights})
    trial.require(
        dtypes == ["torch.float32"] and short < everything / 2,
        f"{STEP[0]}: the parameters afterwards",
        f"are {', '.join(dtypes)}, {short} of {everything} without a digit more than bfloat16 has",
        why="The copy that is updated has to stay float32, or small updates are lost.",
    )
    trial.expect(f"{STEP[0]}: the gradients' dtypes", came["gradients"], ["torch.float32"])
    trial.expect(f"{STEP[0]}: what the linear layers give", came["products"], ["torch.bfloat16"])


@check("mixed_precision_step", review="Mixed precision", evidence="probe",
       after=("mixed_step_rounds_to_bfloat16", "mixed_step_keeps_float32"))  # fmt: skip
def mixed_step_follows_the_model(trial: Trial) -> None:
    """With a model on a GPU (a simulated one), the forward pass is in bfloat16 there."""
    draw = trial.random
    how = {"seed": draw.getrandbits(31), "factor": draw.uniform(1.5, 2.0)}
    came = trial.observe("mixed_on_gpu", batch=_padded(trial), lr=draw.uniform(0.1, 0.3), **how)
    asked = f"{STEP[0]} with model and batch on a GPU"
    if not isinstance(came, dict):
        trial.fail(asked, came)
    if not came["cuda"] and isinstance(came["told"], Raised):
        trial.fail(asked, came["told"])
    trial.require(
        came["cuda"] == ["torch.bfloat16"],
        f"{asked}: what autocast casts to there in the forward pass",
        f"found: {', '.join(came['cuda']) or 'no forward pass'}",
        why="Autocast is for one type of device at a time, and each has a default of its own.",
    )


@check("mixed_precision_step", review="Mixed precision", evidence="probe", level="advice",
       after=("mixed_step_rounds_to_bfloat16",))  # fmt: skip
def mixed_loss_holds_no_graph(trial: Trial) -> None:
    """The loss `mixed_precision_step` returns is a number, not a tensor that holds its graph."""
    draw = trial.random
    how = {"seed": draw.getrandbits(31), "factor": draw.uniform(1.5, 2.0)}
    came = trial.observe(
        "loss_with_a_graph", batch=_padded(trial), lr=draw.uniform(0.1, 0.3), **how
    )
    if isinstance(came, Raised):
        trial.fail(STEP[0], came)
    trial.require(
        came is False,
        STEP[0],
        "the loss that came back still holds its graph",
        why="A loss that is kept with its graph keeps what backward did not free.",
    )


@check("half_precision_for", review="float16 or bfloat16")
def half_precision_chosen(trial: Trial) -> None:
    """`half_precision_for` takes float16 exactly where its range holds every value."""
    cases = _half_cases(trial)
    trial.random.shuffle(cases)
    came = trial.observe("half_precisions", tensors=[values for values, _ in cases])
    asked = [f"half_precision_for(values), {_spread(values)}" for values, _ in cases]
    why = "What counts is whether any value becomes infinite, or any but zero becomes zero."
    trial.expect_each(asked, came, [truth for _, truth in cases], why=why)


@check("half_precision_for", review="float16 or bfloat16", after=("half_precision_chosen",))
def values_left_alone(trial: Trial) -> None:
    """`half_precision_for` only looks: the values are afterwards what they were."""
    tensors = [values for values, _ in _half_cases(trial)]
    came = trial.observe("values_afterwards", tensors=tensors)
    asked = [f"half_precision_for(values), {_spread(each)}" for each in tensors]
    why = "They were changed in place, and they are the caller's. Work with a new tensor."
    if isinstance(came, Raised):
        trial.fail(asked[0], came)
    for question, left, given in zip(asked, came, tensors, strict=True):
        if isinstance(left, Raised):
            trial.fail(question, left)
        told = f"afterwards values is {shorten(left)}"
        trial.require(same(left, plain(given), **EXACT), question, told, why=why)


# ------------------------------------------------------------------------------- the allocator
@check("fragmentation", review="Fragmentation and the allocator's cache")
def fragmentation_measured(trial: Trial) -> None:
    """`fragmentation` is the share of reserved memory stuck beside live blocks."""
    every = [_allocator(trial.random), _allocator(trial.random), _allocator(None)]
    came = trial.observe("calls", function="fragmentation", cases=[{"stats": s} for s in every])
    truth = [_now(s, "inactive_split") / (_now(s, "reserved") or 1) for s in every]
    asked = [f"fragmentation(stats), {_reserved(s)}" for s in every]
    why = "It is a share between 0 and 1 of what is reserved now."
    trial.expect_each(asked, came, truth, why=why, rtol=1e-6, atol=0.0)


@check("releasable_bytes", review="Fragmentation and the allocator's cache")
def releasable_counted(trial: Trial) -> None:
    """`releasable_bytes` counts what `empty_cache` could hand back to the driver now."""
    every = [_allocator(trial.random), _allocator(trial.random), _allocator(None)]
    came = trial.observe("calls", function="releasable_bytes", cases=[{"stats": s} for s in every])
    truth = [_now(s, "reserved") - _now(s, "active") - _now(s, "inactive_split") for s in every]
    asked = [f"releasable_bytes(stats), {_reserved(s)}" for s in every]
    why = "A segment can be handed back only when no live block lies in it."
    trial.expect_each(asked, came, truth, why=why, **BYTE)


@check("release", review="Giving memory back", evidence="probe")
def memory_released(trial: Trial) -> None:
    """When `release` empties the cache, nothing of the objects is alive any more."""
    asked, count, came = _released(trial, gpu=True)
    alive, after = came["alive_at_empty_cache"], came["alive_afterwards"]
    trial.require(bool(came["times_emptied"]), asked, "torch's cache was never emptied")
    trial.require(
        alive == 0 and after == 0,
        asked,
        f"{alive} of {count} were alive when the cache was emptied, {after} afterwards",
        why="Memory that something still refers to is not in the cache, so it cannot leave it.",
    )


@check("release", review="Giving memory back", evidence="probe", after=("memory_released",))
def memory_released_without_gpu(trial: Trial) -> None:
    """`release` lets go of the objects on a machine without a GPU, too."""
    asked, count, came = _released(trial, gpu=False)
    after = came["alive_afterwards"]
    trial.require(
        after == 0,
        asked,
        f"{after} of {count} are alive afterwards",
        why="There is no cache to empty, and everything else is as it is with a GPU.",
    )


# --------------------------------------------------------------------------------- the details
def _checkpointed(trial: Trial, trained: list[str]) -> tuple[Any, dict[str, Any]]:
    """Return what the learner's model did and what the right one does, for new inputs."""
    inputs: dict[str, Any] = {
        "seed": trial.random.getrandbits(31),
        "depth": trial.random.randint(4, 5),
        "factor": trial.random.choice([1.25, 1.5, 1.75, 2.0]),
        "trained": trained,
    }
    ids = trial.integers(0, scene.VOCABULARY, 2, trial.random.randint(16, 24))
    came = trial.observe("checkpointed", ids=ids, **inputs)
    model = scene.noisy_llama(**inputs).train()
    names = [name.replace(".block", "") for name, _ in model.named_parameters()]
    return came, {"model": model, "ids": ids, "names": names, **scene.backward(model, ids)}


def _model_came(trial: Trial, came: Any) -> None:
    """Fail unless `enable_checkpointing` returned a model that could be trained on."""
    asked = "enable_checkpointing(model)"
    if not isinstance(came, dict):
        trial.fail(f"{asked}, then a forward and a backward pass on what it returned", came)
    if "returned" in came:
        trial.fail(asked, came["returned"], why="The model itself is to be returned.")


def _gradients(trial: Trial, asked_of: tuple[Any, dict[str, Any]], where: str = "") -> None:
    came, truth = asked_of
    _model_came(trial, came)
    after = f"after enable_checkpointing(model){where}"
    why = "This model computes otherwise in train mode, and training needs that mode."
    trial.expect(f"the loss {after}", came["loss"], truth["loss"], why=why, rtol=1e-3)
    asked = [f"{after}: the gradient of the model's {name}" for name in truth["names"]]
    assert isinstance(came["gradients"], list)
    trial.require(
        len(came["gradients"]) == len(asked), after, f"{len(came['gradients'])} parameters"
    )
    why = "Recomputing changes no gradient, and every trainable parameter has one."
    for question, told, true in zip(asked, came["gradients"], truth["gradients"], strict=True):
        trial.require(told is not None or true is None, question, "there is none", why=why)
        trial.expect(question, told, true, why=why, rtol=1e-3)


def _mixed(trial: Trial) -> tuple[Any, dict[str, Any]]:
    """Return what two steps of the learner's left behind, and what a trusted loop starts from."""
    draw = trial.random
    model = {
        "seed": draw.getrandbits(31),
        "marks": [draw.randrange(1, 256, 2), 16 * draw.randrange(15) + draw.choice([5, 7, 9, 11])],
        "weights": [draw.uniform(0.5, 1.5), draw.uniform(0.5, 1.0)],
        "factor": draw.uniform(1.5, 2.0),
    }
    how = {"lr": draw.uniform(0.1, 0.3), "momentum": draw.uniform(0.4, 0.8)}
    batches = [_padded(trial) for _ in STEP]
    came = trial.observe("mixed_steps", batches=batches, **model, **how)
    if not isinstance(came, dict):
        trial.fail(f"{STEP[0]}, twice", came)
    for asked, loss in zip(STEP, came["losses"], strict=True):
        if isinstance(loss, Raised):
            trial.fail(asked, loss)
    return came, {"model": model, "batches": batches, **how}


def _padded(trial: Trial) -> dict[str, Tensor]:
    """Draw a batch of three texts, padded on the left to the length of the first."""
    length = trial.random.randint(10, 14)
    ids = trial.integers(0, scene.VOCABULARY, 3, length)
    mask = torch.ones_like(ids)
    for row in mask[1:]:
        row[: trial.random.randint(length - 6, length - 4)] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def _trusted_steps(
    model: dict[str, Any], batches: list[dict[str, Tensor]], lr: float, momentum: float
) -> tuple[list[Tensor], list[float]]:
    """Return the parameters and the losses of the steps, in bfloat16 autocast on the CPU."""
    net = scene.marked_llama(**model)
    velocity = [torch.zeros_like(parameter) for parameter in net.parameters()]
    losses = []
    for batch in batches:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = net(**batch).loss
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, v, gradient in zip(net.parameters(), velocity, gradients, strict=True):
                parameter.sub_(lr * v.mul_(momentum).add_(gradient))
    return [parameter.detach() for parameter in net.parameters()], losses


def _released(trial: Trial, *, gpu: bool) -> tuple[str, int, dict[str, Any]]:
    """Return what `release` was asked, of how many objects, and what came of it."""
    cyclic = [True, False, *(trial.random.random() < 0.5 for _ in range(3)), False, True]
    sizes = [trial.random.randint(4, 16) for _ in cyclic]
    came = trial.observe("released", sizes=sizes, cyclic=cyclic, gpu=gpu)
    where = "" if gpu else " without a GPU"
    asked = f"release(objects){where}, {len(cyclic)} of them, {sum(cyclic)} in reference cycles"
    if not isinstance(came, dict):
        trial.fail(asked, came)
    return asked, len(cyclic), came


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _call(function: str, arguments: dict[str, Any]) -> str:
    return f"{function}({', '.join(f'{name}={value}' for name, value in arguments.items())})"


def _training(
    num_params: int,
    trainable_params: int,
    weight_bits: float = 16,
    grad_bits: float = 16,
    optimizer_bits: float = 64,
    master_bits: float = 32,
) -> float:
    bits = num_params * weight_bits
    for each in (grad_bits, optimizer_bits, master_bits):
        bits += trainable_params * each
    return bits / 8


def _half_cases(trial: Trial) -> list[tuple[Tensor, str]]:
    """Draw float32 tensors of several shapes, each with the name of the dtype that is right.

    The values that decide stand just inside and just outside of what float16 holds (from 2**-25 to
    65520), and far outside of it.
    """
    draw = trial.random
    usual = trial.normal(35).abs() + 0.1
    values = usual * torch.tensor([1.0, -1.0])[trial.integers(0, 2, 35)]
    held = [0.0, draw.uniform(1e-4, 9e-4), draw.uniform(5e-7, 2e-5), draw.uniform(6.2e-8, 9e-8)]
    held += [side * draw.uniform(6.51e4, 6.54e4) for side in (1, -1)]
    lost = [draw.uniform(6.6e4, 7e4), 10 ** draw.uniform(6, 30), draw.uniform(2e-8, 2.8e-8)]
    lost.append(10 ** draw.uniform(-30, -10))
    cases = [
        (_with(draw, values, 1.0), "float16"),
        (trial.integers(-40, 40, 36) / 4, "float16"),  # exact in float16, zeros likely
        (torch.zeros(6), "float16"),  # as gradients may all be
        (_with(draw, _with(draw, usual[1:], lost[0]), lost[2]), "bfloat16"),
        *((_with(draw, values, value), "float16") for value in held),
        *((_with(draw, values, side * value), "bfloat16") for value in lost for side in (1, -1)),
    ]
    shapes = itertools.cycle(draw.sample(((-1,), (-1, 1), (-1, 2), (-1, 2, 3)), 4))
    return [
        (each.reshape(shape), truth) for (each, truth), shape in zip(cases, shapes, strict=False)
    ]


def _with(draw: random.Random, values: Tensor, value: float) -> Tensor:
    """Return ``values`` with one element more, anywhere but at an end."""
    place = draw.randint(1, len(values) - 1)
    return torch.cat([values[:place], torch.tensor([value]), values[place:]])


def _spread(values: Tensor) -> str:
    sizes = values.abs()
    some = sizes[sizes > 0]
    nearest = f", nearest to zero {float(some.min()):.2g}" if some.numel() else ""
    return (
        f"of shape {tuple(values.shape)} from {float(values.min()):.3g} to "
        f"{float(values.max()):.3g}, {int((sizes == 0).sum())} zero{nearest}"
    )


def _meminfo(draw: random.Random, *, mixed: bool) -> tuple[str, int]:
    """Return a /proc/meminfo text and its MemAvailable in bytes; ``mixed``: lines in any order."""
    total = draw.randint(60 * MIB, 125 * MIB)
    free = int(total * draw.uniform(0.05, 0.15))
    buffers = int(total * draw.uniform(0.01, 0.02))
    cached = int(total * draw.uniform(0.3, 0.5))
    available = free + int(cached * draw.uniform(0.6, 0.85))
    sizes = {"MemTotal": total, "MemFree": free, "MemAvailable": available, "Buffers": buffers,
             "Cached": cached}  # fmt: skip
    others = (
        "SwapCached Active Inactive Active(anon) Inactive(anon) Active(file) Inactive(file) "
        "Unevictable Mlocked SwapTotal SwapFree Dirty Writeback AnonPages Mapped Shmem "
        "KReclaimable Slab SReclaimable SUnreclaim KernelStack PageTables Bounce CommitLimit "
        "Committed_AS VmallocTotal VmallocUsed Percpu AnonHugePages Hugepagesize DirectMap4k"
    )
    sizes |= {name: draw.randrange(total // 4) for name in others.split()}
    lines = [f"{name + ':':<15} {kib:>9} kB" for name, kib in sizes.items()]
    lines += ["HugePages_Total:       0", "HugePages_Free:        0"]
    while mixed and lines[2].startswith("MemAvailable"):  # where Linux has it
        draw.shuffle(lines)
    return "\n".join(lines) + "\n", available * 1024


_COUNTED = ("allocation", "segment", "active", "inactive_split")
_MEASURED = ("allocated", "reserved", "active", "inactive_split", "requested")
_KINDS = (*_COUNTED, *(f"{kind}_bytes" for kind in _MEASURED))


def _allocator(draw: random.Random | None) -> dict[str, int]:
    """Return a dict with the keys of ``torch.cuda.memory_stats()``; without ``draw`` all zero."""
    stats: dict[str, int] = {}
    for pool in ("small_pool", "large_pool"):
        now = _pool(draw, pool) if draw else dict.fromkeys(_KINDS, 0)
        for kind, value in now.items():
            freed = draw.randrange(value, 9 * value) if draw else 0
            peak = value + freed // 7
            told = {"current": value, "peak": peak, "allocated": value + freed, "freed": freed}
            for metric, count in told.items():
                both = f"{kind}.all.{metric}"
                stats[f"{kind}.{pool}.{metric}"] = count
                stats[both] = stats.get(both, 0) + count
    for kind in ("oversize_allocations", "oversize_segments"):
        stats |= {f"{kind}.{metric}": 0 for metric in ("current", "peak", "allocated", "freed")}
    counters = ("num_alloc_retries", "num_ooms", "num_sync_all_streams", "num_oom_rejections")
    stats |= {name: draw.randrange(4) if draw else 0 for name in counters}
    segments = "segment.all.allocated", "segment.all.freed"
    stats |= {"num_device_alloc": stats[segments[0]], "num_device_free": stats[segments[1]]}
    stats["max_split_size"] = -1
    return dict(sorted(stats.items()))


def _pool(draw: random.Random, pool: str) -> dict[str, int]:
    """Return a pool's numbers: active, inactive split and whole idle segments are the reserved."""
    size = 2 * MIB if pool == "small_pool" else 20 * MIB
    segments = draw.randint(20, 60)
    reserved = segments * size
    idle = int(segments * draw.uniform(0.2, 0.35)) * size  # whole segments that hold no block
    split = int(reserved * draw.uniform(0.08, 0.22)) // 512 * 512
    active = reserved - idle - split
    allocated = int(active * draw.uniform(0.8, 0.93)) // 512 * 512  # the rest waits for a stream
    blocks = segments * draw.randint(3, 9)
    return {
        "allocation": blocks, "segment": segments, "active": blocks + draw.randint(2, 9),
        "inactive_split": segments + draw.randint(2, 20), "allocated_bytes": allocated,
        "reserved_bytes": reserved, "active_bytes": active, "inactive_split_bytes": split,
        "requested_bytes": int(allocated * draw.uniform(0.95, 0.99)),
    }  # fmt: skip


def _now(stats: dict[str, int], what: str) -> int:
    return stats[f"{what}_bytes.all.current"]


def _reserved(stats: dict[str, int]) -> str:
    mib = {what: _now(stats, what) // MIB for what in ("reserved", "active")}
    return f"{mib['reserved']} MiB reserved, {mib['active']} MiB active"
