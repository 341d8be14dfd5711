"""The memory lab in other words: right ways, and mistakes that no misconception names."""

from __future__ import annotations

import functools
import gc
import math
import re
import warnings
from collections import deque

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.checkpoint import checkpoint

# ------------------------------------------------------------------------------- counting bytes


def weights_as_double_tensor(num_params, bits):
    return torch.tensor(num_params, dtype=torch.float64) * bits / 8


def training_by_parts(
    num_params, trainable_params, weight_bits=16, grad_bits=16, optimizer_bits=64, master_bits=32
):
    parts = {"weights": num_params * weight_bits, "gradients": trainable_params * grad_bits}
    parts["optimizer"] = trainable_params * optimizer_bits
    parts["master"] = trainable_params * master_bits
    return int(sum(part / 8 for part in parts.values()))


def training_as_array(num_params, trainable_params, *bits, **named):
    told = {"weight_bits": 16, "grad_bits": 16, "optimizer_bits": 64, "master_bits": 32, **named}
    counts = np.array([num_params] + [trainable_params] * 3, dtype=np.float64)
    return (counts * np.array(list(told.values()))).sum() / 8


def training_by_frozen(
    num_params, trainable_params, weight_bits=16, grad_bits=16, optimizer_bits=64, master_bits=32
):
    frozen = num_params - trainable_params
    each = weight_bits + grad_bits + optimizer_bits + master_bits
    return torch.tensor((frozen * weight_bits + trainable_params * each) / 8, dtype=torch.float64)


def training_with_defaults(weight=16, grad=16, optimizer=64, master=32):
    """Return a count whose own defaults are these."""

    def training_bytes(
        num_params,
        trainable_params,
        weight_bits=weight,
        grad_bits=grad,
        optimizer_bits=optimizer,
        master_bits=master,
    ):
        return training_by_parts(
            num_params, trainable_params, weight_bits, grad_bits, optimizer_bits, master_bits
        )

    return training_bytes


def training_and(answer):
    """Return a count that is right but for what is made of it and of the parts' bits."""

    def training_bytes(
        num_params,
        trainable_params,
        weight_bits=16,
        grad_bits=16,
        optimizer_bits=64,
        master_bits=32,
    ):
        bits = (weight_bits, grad_bits, optimizer_bits, master_bits)
        right = training_by_parts(num_params, trainable_params, *bits)
        return answer(right, num_params, trainable_params, *bits)

    return training_bytes


def usable_by_regex(meminfo, cuda_free, unified):
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return int(found.group(1)) << 10 if unified else cuda_free


def usable_by_loop(meminfo, cuda_free, unified):
    if unified:
        for line in meminfo.split("\n"):
            if line.startswith("MemAvailable"):
                return float(line.split()[1]) * 1024.0
    return float(cuda_free)


def usable_as_tensor(meminfo, cuda_free, unified):
    lines = {x.split(":")[0]: x.split()[1] for x in meminfo.strip().splitlines()}
    return torch.tensor(int(lines["MemAvailable"]) * 1024 if unified else cuda_free)


def usable_and(answer):
    """Return a reading that is right where memory is not shared, ``answer(lines, cuda)`` where."""

    def usable_bytes(meminfo, cuda_free, unified):
        lines = {x.split(":")[0]: int(x.split()[1]) * 1024 for x in meminfo.strip().splitlines()}
        return answer(lines, cuda_free) if unified else cuda_free

    return usable_bytes


# ------------------------------------------------------------------------------- checkpointing


def checkpointing_old_name(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.gradient_checkpointing_enable()
    model.train()
    return model


def checkpointing_reentrant(model):
    model.train()
    model.config.use_cache = False
    model.activation_checkpointing_enable({"use_reentrant": True})
    return model


def checkpointing_every_layer_by_hand(model):
    for layer in model.model.layers:
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    return model.train()


def checkpointing_for_adapters(model):
    model.enable_input_require_grads()
    model.activation_checkpointing_enable()
    return model.train()


def checkpointing_and(change):
    """Return what turns checkpointing on rightly and then does ``change`` to the model."""

    def enable_checkpointing(model):
        model.activation_checkpointing_enable()
        model.train()
        return change(model)

    return enable_checkpointing


@torch.no_grad()
def head_halved(model):
    model.lm_head.weight.mul_(0.5)
    return model


def only_the_first_layer(model):
    layer = model.model.layers[0]
    layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    return model.train()


def parts_checkpointed(*names):
    """Return what checkpoints only some parts of each layer."""

    def enable_checkpointing(model):
        for layer in model.model.layers:
            for name in names:
                part = getattr(layer, name)
                part.forward = functools.partial(checkpoint, part.forward, use_reentrant=False)
        return model.train()

    return enable_checkpointing


def two_layers_together(model):
    """The first layers are plain: only the last one recomputes."""
    layer = model.model.layers[-1]
    layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    return model.train()


def frozen_embeddings(model):
    model.get_input_embeddings().weight.requires_grad_(requires_grad=False)
    return model


def biases_of_train_mode_only(model):
    """Only the model's inner part is in train mode: its layers are not."""
    for layer in model.model.layers:
        layer.eval()
    return model


def gradients_hooked(model):
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: gradient * 0.5)
    return model


def activations_rounded(model):
    model.model.embed_tokens.register_forward_hook(lambda _m, _i, out: out.bfloat16().float())
    return model


# ----------------------------------------------------------------------------- mixed precision


def step_zeroing_after(model, batch, optimizer):
    with torch.autocast(device_type=next(model.parameters()).device.type, dtype=torch.bfloat16):
        output = model(**batch)
    output["loss"].backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return output.loss.detach()


def step_backward_inside(model, batch, optimizer):
    model.train()
    model.zero_grad(set_to_none=False)
    for name in batch:
        batch[name] = batch[name].to(model.device)
    with torch.amp.autocast(model.device.type, torch.bfloat16):
        loss = model(**batch)[0]
        loss.backward()
    optimizer.step()
    return loss  # a 0-d tensor with a graph


def step_with_scaler(model, batch, optimizer):
    scaler = torch.amp.GradScaler(model.device.type, init_scale=1024.0)
    optimizer.zero_grad()
    own = dict(batch)
    labels = own.pop("labels")
    with torch.autocast(model.device.type, dtype=torch.bfloat16, cache_enabled=False):
        loss = model(**own, labels=labels).loss
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    return loss.item()


def step_by_gradients(model, batch, optimizer):
    """Right without `backward`, and with a loss that is written into."""
    with torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16):
        loss = model(**batch).loss
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return np.float32(loss.item())


def step_returning_the_tensor(model, batch, optimizer):
    """Right, but for an advice: whoever keeps the losses keeps their graphs."""
    optimizer.zero_grad()
    with torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    return loss


def step_and(change=None, times=1, divide=1.0, autocast=True):
    """Return a step that is right but for the arguments.

    Args:
        change: Of model and optimizer, after backward and before the step.
        times: How often the step is taken.
        divide: What the loss is divided by before backward.
        autocast: Whether the forward pass is in bfloat16.
    """

    def mixed_precision_step(model, batch, optimizer):
        device = next(model.parameters()).device.type
        for _ in range(times):
            optimizer.zero_grad()
            with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
                loss = model(**batch).loss
            (loss / divide).backward()
            if change:
                change(model, optimizer)
            optimizer.step()
        return loss.item()

    return mixed_precision_step


def autocast_after_the_forward(model, batch, optimizer):
    optimizer.zero_grad()
    loss = model(**batch).loss
    with torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16):
        loss.bfloat16().backward()
    optimizer.step()
    return loss.item()


def loss_made_up(model, batch, optimizer):
    step_zeroing_after(model, batch, optimizer)
    return 4.2


def weights_rounded(model, batch, optimizer):
    """Float32 where it counts, and a bfloat16 copy of the weights written back."""
    loss = step_zeroing_after(model, batch, optimizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return loss


def gradients_rounded(model, _optimizer):
    for parameter in model.parameters():
        parameter.grad = (parameter.grad * 8).round() / 8


def embeddings_left_out(model, _optimizer):
    model.get_input_embeddings().weight.grad.zero_()


def rate_halved(_model, optimizer):
    for group in optimizer.param_groups:
        group["lr"] /= 2


def momentum_forgotten(_model, optimizer):
    optimizer.state.clear()


def step_on(kind, dtype=torch.bfloat16):
    """Return a step whose autocast is for a type of device that is given by ``kind(model)``."""

    def mixed_precision_step(model, batch, optimizer):
        optimizer.zero_grad()
        with torch.autocast(kind(model), dtype=dtype):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return mixed_precision_step


def own_optimizer(make):
    """Return a step that uses an optimizer of its own, made by ``make(parameters, lr)``."""

    def mixed_precision_step(model, batch, optimizer):
        own = make(list(model.parameters()), optimizer.param_groups[0]["lr"])
        return step_and()(model, batch, own)

    return mixed_precision_step


def labels_of_padding_learned(model, batch, optimizer):
    """The loss is computed for every token, padding included."""
    return step_and()(model, {**batch, "labels": batch["input_ids"]}, optimizer)


def mask_emptied(model, batch, optimizer):
    loss = step_zeroing_after(model, batch, optimizer)
    batch["attention_mask"].fill_(1)
    return loss


def labels_scribbled_on(model, batch, optimizer):
    loss = step_zeroing_after(model, batch, optimizer)
    batch["labels"][:, 0] = -100
    return loss


def key_added(model, batch, optimizer):
    loss = step_zeroing_after(model, batch, optimizer)
    batch["loss"] = loss
    return loss


# --------------------------------------------------------------------------- which 16 bits


def half_by_limits(values):
    sizes = values[values != 0].abs()
    fits = bool((sizes < 65520).all() and (sizes > 2.0**-25).all())
    return "float16" if fits else "bfloat16"


def half_by_numpy(values):
    array = values.numpy()
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    lost = np.isinf(half).any() or np.count_nonzero(half) != np.count_nonzero(array)
    return "torch.bfloat16" if lost else "torch.float16"


def half_by_loop(values):
    for value in values.flatten().tolist():
        back = torch.tensor(value).half().item()
        if abs(back) == float("inf") or (value != 0 and back == 0):
            return "bf16"
    return torch.half


def half_on_a_copy(values):
    sizes = values.clone().abs_()
    sizes[sizes == 0] = 1
    largest, smallest = torch.finfo(torch.float16).max, 6e-8
    fits = sizes.max() <= largest and sizes.min() >= smallest
    return torch.float16 if fits else torch.bfloat16


def half_between(smallest, largest):
    """Return a choice of float16 where all sizes but zero are between two limits."""

    def half_precision_for(values):
        sizes = values[values != 0].abs()
        fits = bool((sizes >= smallest).all() and (sizes <= largest).all())
        return torch.float16 if fits else torch.bfloat16

    return half_precision_for


def half_if(holds):
    return lambda values: torch.float16 if bool(holds(values)) else torch.bfloat16


def half_of_positive_values(values):
    """Small negative values are forgotten, large ones are not."""
    small = values[values > 0]
    return torch.float16 if half_by_limits(small) == "float16" and values.half().isfinite().all() \
        else torch.bfloat16  # fmt: skip


def half_scribbling(values):
    answer = half_by_limits(values)
    values.clamp_(-65504, 65504)
    return answer


def half_rounding_in_place(values):
    answer = half_by_limits(values)
    values.copy_(values.half())
    return answer


def half_sorting_in_place(values):
    answer = half_by_limits(values)
    values.copy_(values.flatten().sort().values.reshape(values.shape))
    return answer


# --------------------------------------------------------------------------------- the allocator


def fragmentation_guarded(stats):
    if stats.get("reserved_bytes.all.current", 0) == 0:
        return 0
    return torch.tensor(
        stats["inactive_split_bytes.all.current"] / stats["reserved_bytes.all.current"]
    )


def fragmentation_by_pools(stats):
    pools = ("small_pool", "large_pool")
    idle, held = (
        sum(stats[f"{what}_bytes.{pool}.current"] for pool in pools)
        for what in ("inactive_split", "reserved")
    )
    return np.float64(idle) / held if held else np.float32(0.0)


def fragmentation_by_exception(stats):
    try:
        return stats["inactive_split_bytes.all.current"] / stats["reserved_bytes.all.current"]
    except ZeroDivisionError:
        return 0.0


def share(part, whole, pool="all", metric="current"):
    """Return the share of one number of bytes in another, and 0 where there is nothing."""
    return lambda stats: (
        stats[f"{part}_bytes.{pool}.{metric}"] / (stats[f"{whole}_bytes.{pool}.{metric}"] or 1)
    )


def releasable_as_float(stats):
    return float(stats["reserved_bytes.all.current"]) - float(
        stats["active_bytes.all.current"] + stats["inactive_split_bytes.all.current"]
    )


def releasable_by_pools(stats):
    signs = {"reserved": 1, "active": -1, "inactive_split": -1}
    return sum(
        sign * stats[f"{what}_bytes.{pool}.current"]
        for what, sign in signs.items()
        for pool in ("small_pool", "large_pool")
    )


def releasable_as_tensor(stats):
    return torch.tensor(releasable_by_pools(stats))


def releasable_in(pool="all", metric="current"):
    def releasable_bytes(stats):
        held = (stats[f"{what}_bytes.{pool}.{metric}"] for what in ("active", "inactive_split"))
        return stats[f"reserved_bytes.{pool}.{metric}"] - sum(held)

    return releasable_bytes


# ------------------------------------------------------------------------------------ letting go


def release_by_slices(objects):
    del objects[:]
    gc.collect()
    torch.cuda.empty_cache()


_empty_early_import = torch.cuda.empty_cache  # as `from torch.cuda import empty_cache` binds it
_available_early_import = torch.cuda.is_available


def release_by_pop(objects):
    while objects:
        objects.pop()
    gc.collect()
    gc.collect()
    if _available_early_import():
        _empty_early_import()


def release_by_overwriting(objects):
    for index in range(len(objects)):
        objects[index] = None
    gc.collect(2)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        torch.accelerator.memory.empty_cache()


def release_with_both(objects):
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


def release_trying(objects):
    objects.clear()
    gc.collect()
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except (RuntimeError, AssertionError):
        return


def releases(forget):
    """Return what does everything rightly, but lets go of the objects by ``forget``."""

    def release(objects):
        forget(objects)
        gc.collect()
        torch.cuda.empty_cache()

    return release


def kept_elsewhere(objects, store=[]):  # noqa: B006 - that is the mistake
    store[:] = objects
    objects.clear()


def every_other_one_dropped(objects):
    del objects[::2]


def dropped_while_going_over(objects):
    for item in objects:
        objects.remove(item)
    del item


def keeping_the_first(objects):
    del objects[1:]


def release_asking_the_gpu_first(objects):
    torch.cuda.reset_peak_memory_stats()
    objects.clear()
    gc.collect()
    torch.cuda.empty_cache()


def release_refusing_without_gpu(objects):
    if not torch.cuda.is_available():
        raise RuntimeError("there is no GPU")
    release_by_slices(objects)


RIGHT = {
    "weight_bytes": (
        lambda num_params, bits: bits / 8 * num_params,
        lambda num_params, bits: int(num_params * bits / 8),
        weights_as_double_tensor,
        lambda num_params, bits: np.float64(bits) * num_params * 0.125,
        lambda num_params, bits: num_params * bits // 8,
        lambda num_params, bits: math.ceil(num_params * bits / 8),
    ),
    "training_bytes": (training_by_parts, training_as_array, training_by_frozen),
    "usable_bytes": (usable_by_regex, usable_by_loop, usable_as_tensor),
    "enable_checkpointing": (
        checkpointing_old_name,
        checkpointing_reentrant,
        checkpointing_every_layer_by_hand,
        checkpointing_for_adapters,
    ),
    "mixed_precision_step": (
        step_zeroing_after,
        step_backward_inside,
        step_with_scaler,
        step_by_gradients,
        step_returning_the_tensor,
        step_on(lambda model: model.lm_head.weight.device.type),
        step_on(lambda model: "cuda" if torch.cuda.is_available() else "cpu"),
    ),
    "half_precision_for": (half_by_limits, half_by_numpy, half_by_loop, half_on_a_copy),
    "fragmentation": (
        fragmentation_guarded,
        fragmentation_by_pools,
        fragmentation_by_exception,
        share("inactive_split", "reserved"),
    ),
    "releasable_bytes": (
        releasable_as_float,
        releasable_by_pools,
        releasable_as_tensor,
        releasable_in(),
    ),
    "release": (
        release_by_slices,
        release_by_pop,
        release_by_overwriting,
        release_with_both,
        release_trying,
    ),
}

WRONG = {
    "weight_bytes": (
        lambda num_params, bits: num_params * bits / 4,
        lambda num_params, bits: num_params * bits / 8 + 2,
        lambda num_params, bits: float("nan"),
        lambda num_params, bits: True,
        lambda num_params, bits: str(num_params * bits / 8),
        lambda num_params, bits: [num_params * bits / 8],
        lambda num_params, bits: num_params * round(bits) / 8,
        lambda num_params, bits: num_params * max(bits, 4) / 8,
        lambda num_params, bits: num_params * bits / 8 / 1e6,
        lambda num_params, bits: num_params * bits / 8 / 2**20,
        lambda num_params, bits: num_params * {16: 2, 8: 1, 4: 0.5}.get(bits, 0.5),
        lambda num_params, bits: num_params * {16: 2.0, 4: 0.5}[bits],
        lambda num_params, bits: num_params * bits / 8 * 1.2,
        lambda num_params, bits: num_params / bits * 8,
        lambda num_params, bits: num_params * 2**bits / 8,
        lambda num_params, bits: int(num_params / 1e9) * bits / 8 * 1e9,
        lambda num_params, bits: num_params * 2,
    ),
    "training_bytes": (
        lambda n, t, **bits: 16 * t,
        lambda n, t, **bits: None,
        training_and(lambda right, n, t, w, g, o, m: right + 2),
        training_and(lambda right, n, t, w, g, o, m: right * 1.2),
        training_and(lambda right, n, t, w, g, o, m: right / 1e9),
        training_and(lambda right, n, t, w, g, o, m: right / 2**30),
        training_and(lambda right, n, t, w, g, o, m: right + n * g / 8),
        training_and(lambda right, n, t, w, g, o, m: right + t * w / 8),
        training_and(lambda right, n, t, w, g, o, m: right - t * o / 8),
        training_and(lambda right, n, t, w, g, o, m: n * (w // 8) + t * (g + o + m) // 8),
        training_and(lambda right, n, t, w, g, o, m: right - t * (g - 16) / 8),
        training_and(lambda right, n, t, w, g, o, m: right - t * (m - 32) / 8),
        training_and(lambda right, n, t, w, g, o, m: right - t * (o - 64) / 8),
        training_and(lambda right, n, t, w, g, o, m: right - n * (w - 16) / 8),
        training_and(lambda right, n, t, w, g, o, m: right - n * w / 8),
        training_and(lambda right, n, t, w, g, o, m: (n + t) * (w + g + o + m) / 8),
        training_and(lambda right, n, t, w, g, o, m: right + t * min(o, m) / 8),
        training_with_defaults(weight=32),
        training_with_defaults(grad=32),
        training_with_defaults(optimizer=32),
        training_with_defaults(master=0),
    ),
    "usable_bytes": (
        usable_and(lambda lines, cuda: min(lines["MemAvailable"], cuda) * 9 // 10),
        usable_and(lambda lines, cuda: max(lines["MemAvailable"], cuda) - lines["MemFree"]),
        usable_and(lambda lines, cuda: lines["MemAvailable"] // 10**9),
        usable_and(lambda lines, cuda: lines["MemAvailable"] // 2**20),
        usable_and(lambda lines, cuda: lines["MemAvailable"] * 0.9),
        usable_and(lambda lines, cuda: lines["MemAvailable"] - lines["MemFree"]),
        usable_and(lambda lines, cuda: lines["MemTotal"] - lines["MemAvailable"]),
        usable_and(lambda lines, cuda: lines["MemTotal"] - lines["MemFree"]),
        usable_and(lambda lines, cuda: lines["MemFree"] + lines["SReclaimable"]),
        usable_and(lambda lines, cuda: lines["MemAvailable"] - lines["SwapFree"]),
        usable_and(lambda lines, cuda: lines["MemAvailable"] + lines["MemFree"]),
        usable_and(lambda lines, cuda: (lines["MemAvailable"] + cuda) / 2),
        usable_and(lambda lines, cuda: str(lines["MemAvailable"])),
        lambda meminfo, cuda_free, unified: usable_by_regex(meminfo, cuda_free, not unified),
        lambda meminfo, cuda_free, unified: usable_by_regex(meminfo, cuda_free, unified) + 2,
        lambda meminfo, cuda_free, unified: usable_by_regex(meminfo, cuda_free, unified) / 1024,
        lambda meminfo, cuda_free, unified: min(
            usable_by_regex(meminfo, cuda_free, True), cuda_free
        ),
        lambda meminfo, cuda_free, unified: usable_by_regex(
            meminfo, cuda_free // 4096 // 256, unified
        ),
    ),
    "enable_checkpointing": (
        checkpointing_and(head_halved),
        only_the_first_layer,
        two_layers_together,
        parts_checkpointed("mlp"),
        parts_checkpointed("self_attn"),
        parts_checkpointed("self_attn", "mlp"),
        checkpointing_and(frozen_embeddings),
        checkpointing_and(biases_of_train_mode_only),
        checkpointing_and(gradients_hooked),
        checkpointing_and(activations_rounded),
        checkpointing_and(lambda model: model.model),
        checkpointing_and(lambda model: model.bfloat16()),
        checkpointing_and(lambda model: (model,)),
        checkpointing_and(lambda model: model.state_dict()),
        lambda model: model.to(torch.float64).half().float().train(),
        lambda model: "ready",
        lambda model: torch.nn.Linear(2, 2),
        lambda model: model.half().train(),
    ),
    "mixed_precision_step": (
        step_and(times=2),
        step_and(divide=2),
        step_and(divide=4),
        step_and(lambda model, _: clip_grad_norm_(model.parameters(), 0.5)),
        step_and(lambda model, _: clip_grad_value_(model.parameters(), 0.1)),
        step_and(gradients_rounded),
        step_and(embeddings_left_out),
        step_and(rate_halved),
        step_and(momentum_forgotten),
        own_optimizer(torch.optim.SGD),
        own_optimizer(torch.optim.AdamW),
        labels_of_padding_learned,
        mask_emptied,
        labels_scribbled_on,
        key_added,
        autocast_after_the_forward,
        loss_made_up,
        weights_rounded,
        lambda model, batch, optimizer: 0.0,
        lambda model, batch, optimizer: str(float(step_zeroing_after(model, batch, optimizer))),
        lambda model, batch, optimizer: math.exp(step_zeroing_after(model, batch, optimizer)),
    ),
    "half_precision_for": (
        lambda values: torch.float32,
        lambda values: None,
        lambda values: "double" if values.abs().max() > 60000 else "float16",
        lambda values: torch.float16 if values.numel() > 30 else torch.bfloat16,
        half_between(1e-7, 65504),
        half_between(1e-8, 65504),
        half_between(6e-8, 1e5),
        half_between(6e-8, 65000),
        half_between(6e-8, 60000),
        half_between(6e-8, 2**17),
        half_if(lambda v: v.abs().mean() < 65504 and half_by_limits(v[v.abs() < 1]) == "float16"),
        half_if(lambda v: half_by_limits(v.mean()[None]) == "float16"),
        half_if(lambda v: half_by_limits(v.flatten()[:17]) == "float16" or v.ndim == 1),
        half_if(lambda v: half_by_limits(v) == "bfloat16"),
        half_if(lambda v: half_by_limits(v.abs().median()[None]) == "float16" and v.any()),
        half_if(lambda v: v.ndim > 1 or (v.half().isfinite().all() and not (v.half() == 0).any())),
        half_of_positive_values,
        half_scribbling,
        half_rounding_in_place,
        half_sorting_in_place,
    ),
    "fragmentation": (
        lambda stats: 0.0,
        lambda stats: stats["inactive_split_bytes.all.current"],
        lambda stats: -1 if not stats["reserved_bytes.all.current"] else 0.2,
        lambda stats: stats["inactive_split"]["all"],
        share("inactive_split", "active"),
        share("active", "reserved"),
        lambda stats: (
            stats["inactive_split_bytes.all.current"]
            / (stats["reserved_bytes.all.current"] - stats["active_bytes.all.current"] or 1)
        ),
        share("inactive_split", "reserved", pool="large_pool"),
        share("inactive_split", "reserved", pool="small_pool"),
        share("inactive_split", "reserved", metric="allocated"),
        share("inactive_split", "reserved", metric="freed"),
        lambda stats: 1 - share("inactive_split", "reserved")(stats),
        lambda stats: 1 - share("active", "reserved")(stats),
        lambda stats: round(share("inactive_split", "reserved")(stats), 2),
        lambda stats: round(share("inactive_split", "reserved")(stats), 4),
        lambda stats: share("reserved", "inactive_split")(stats),
        lambda stats: share("inactive_split", "reserved")(stats) or None,
        lambda stats: share("inactive_split", "reserved")(stats) or float("nan"),
        lambda stats: share("inactive_split", "reserved")(stats) or 1.0,
    ),
    "releasable_bytes": (
        lambda stats: 0,
        lambda stats: stats["reserved_bytes.all.current"] / 2,
        lambda stats: stats["active_bytes.all.current"],
        lambda stats: releasable_by_pools(stats) - 2,
        lambda stats: -releasable_by_pools(stats),
        lambda stats: releasable_by_pools(stats) / 2**20,
        lambda stats: releasable_by_pools(stats) // 1024 // 1024,
        lambda stats: str(releasable_by_pools(stats)),
        lambda stats: releasable_by_pools(stats) or None,
        releasable_in(pool="large_pool"),
        releasable_in(pool="small_pool"),
        releasable_in(metric="peak"),
        releasable_in(metric="allocated"),
        releasable_in(metric="freed"),
        lambda stats: stats["reserved_bytes.all.current"] - stats["requested_bytes.all.current"],
        lambda stats: (
            stats["reserved_bytes.all.current"] - stats["inactive_split_bytes.all.current"]
        ),
        lambda stats: stats["segment.all.current"] * 20 * 2**20,
        lambda stats: releasable_by_pools(stats) + stats["inactive_split_bytes.all.current"] // 2,
    ),
    "release": (
        releases(kept_elsewhere),
        releases(every_other_one_dropped),
        releases(dropped_while_going_over),
        releases(keeping_the_first),
        lambda objects: releases(list.clear)(tuple(objects)),
        lambda objects: releases(list.clear)(objects[0]),
        release_asking_the_gpu_first,
        release_refusing_without_gpu,
    ),
}
