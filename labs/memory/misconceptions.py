"""The known mistakes: each docstring is the hint for whoever makes it."""

from __future__ import annotations

import copy
import functools
import gc
import math

import torch
from torch.utils.checkpoint import checkpoint

from verify.authoring import misconception

COUNTED = ("training_counted",)  # on a GPU it is only measured what is right on paper
TRAINED = ("checkpointing_keeps_gradients", "checkpointing_saves_activations")
WITH_GPU, WITHOUT_GPU = ("memory_released",), ("memory_released_without_gpu",)
MIXED = ("mixed_step_trains", "mixed_step_rounds_to_bfloat16", "mixed_step_keeps_float32")
ON_GPU, GRAPH = ("mixed_step_follows_the_model",), ("mixed_loss_holds_no_graph",)
BATCH, VALUES = ("mixed_step_leaves_its_batch",), ("values_left_alone",)


# ---------------------------------------------------------------------------------- weight_bytes
def _weights(num_params, bits):
    return num_params * bits / 8


@misconception("weight_bytes")
def weight_bytes_not_written(num_params, bits):
    """Start from how many bits all weights have together and how many bits a byte has. The lesson's
    section "Counting weights" does it for a real model."""
    raise NotImplementedError


@misconception("weight_bytes")
def bits_as_bytes(num_params, bits):
    """These are bits, not bytes: a byte has eight bits, so the answer is eight times too large."""
    return num_params * bits


@misconception("weight_bytes")
def whole_bytes_each(num_params, bits):
    """A weight's size was divided with `//`, which throws away what is left over: a 4-bit weight
    then takes nothing. Weights are packed, so divide with `/`, or divide the total."""
    return num_params * (bits // 8)


@misconception("weight_bytes")
def whole_bits_each(num_params, bits):
    """The number of bits was cut to a whole number. 4.5 bits are possible: the half bit is the
    weight's part of the scales that are stored for each block of weights. Keep the fraction."""
    return num_params * int(bits) / 8


@misconception("weight_bytes")
def a_byte_at_least(num_params, bits):
    """Every weight was given whole bytes. Quantised weights are packed, two 4-bit weights in one
    byte, so only the total is a number of bytes."""
    return num_params * math.ceil(bits / 8)


@misconception("weight_bytes")
def weights_in_gigabytes(num_params, bits):
    """This is in GB (10**9 bytes), and bytes are asked for. Convert where you print, not where you
    compute: GB and GiB are mixed up soon enough."""
    return _weights(num_params, bits) / 1e9


@misconception("weight_bytes")
def weights_in_gibibytes(num_params, bits):
    """This is in GiB (2**30 bytes), and bytes are asked for. Convert where you print, not where you
    compute: GB and GiB are mixed up soon enough."""
    return _weights(num_params, bits) / 2**30


# -------------------------------------------------------------------------------- training_bytes
def _run(
    num_params, trainable_params, weight_bits=16, grad_bits=16, optimizer_bits=64, master_bits=32
):
    trained = trainable_params * (grad_bits + optimizer_bits + master_bits)
    return (num_params * weight_bits + trained) / 8


@misconception("training_bytes")
def training_bytes_not_written(num_params, trainable_params, **bits):
    """List what a run keeps (weights, gradients, optimizer state, master copy), say for each
    whether frozen parameters have it, and add up. See "Counting a training run"."""
    raise NotImplementedError


@misconception("training_bytes", checks=COUNTED)
def no_gradients(num_params, trainable_params, **bits):
    """The gradients are missing: from backward to the next zero_grad every trainable parameter has
    one, with `grad_bits` bits."""
    return _run(num_params, trainable_params, **{**bits, "grad_bits": 0})


@misconception("training_bytes", checks=COUNTED)
def optimizer_state_for_frozen(
    num_params, trainable_params, weight_bits=16, grad_bits=16, optimizer_bits=64, master_bits=32
):
    """Optimizer state was counted for frozen parameters too. The optimizer keeps state only for
    what it updates; that is where LoRA saves most of its memory."""
    frozen = (num_params - trainable_params) * optimizer_bits / 8
    trained = (grad_bits, optimizer_bits, master_bits)
    return _run(num_params, trainable_params, weight_bits, *trained) + frozen


@misconception("training_bytes", checks=COUNTED)
def everything_for_frozen(num_params, trainable_params, **bits):
    """All parameters were treated as trainable. A frozen parameter has its weight and nothing else:
    no gradient, no optimizer state, no master copy."""
    return _run(num_params, num_params, **bits)


@misconception("training_bytes", checks=COUNTED)
def master_copy_of_frozen(
    num_params, trainable_params, weight_bits=16, grad_bits=16, optimizer_bits=64, master_bits=32
):
    """The master copy was counted for frozen parameters too. It exists so that small updates are
    not lost; what is never updated needs none."""
    return (num_params * (weight_bits + master_bits)
            + trainable_params * (grad_bits + optimizer_bits)) / 8  # fmt: skip


@misconception("training_bytes", checks=COUNTED)
def one_adam_moment(
    num_params, trainable_params, weight_bits=16, grad_bits=16, optimizer_bits=64, master_bits=32
):
    """Half of the optimizer state is missing. Adam keeps two numbers for each trainable parameter,
    a mean of its gradients and one of their squares; `optimizer_bits` is both together."""
    trained = (grad_bits, optimizer_bits / 2, master_bits)
    return _run(num_params, trainable_params, weight_bits, *trained)


@misconception("training_bytes", checks=COUNTED)
def moments_counted_twice(
    num_params, trainable_params, weight_bits=16, grad_bits=16, optimizer_bits=64, master_bits=32
):
    """The optimizer state was doubled for Adam's two moments. `optimizer_bits` is both together
    already: 64 is twice 32."""
    trained = (grad_bits, 2 * optimizer_bits, master_bits)
    return _run(num_params, trainable_params, weight_bits, *trained)


@misconception("training_bytes", checks=COUNTED)
def master_instead_of_weight(
    num_params, trainable_params, weight_bits=16, grad_bits=16, optimizer_bits=64, master_bits=32
):
    """The master copy was counted in the place of the trained weights. It is a copy besides: the
    forward pass computes with the weights, the optimizer updates the copy."""
    trained = trainable_params * (grad_bits + optimizer_bits + master_bits)
    return ((num_params - trainable_params) * weight_bits + trained) / 8


@misconception("training_bytes", checks=COUNTED)
def four_times_the_model(num_params, trainable_params, weight_bits=16, **bits):
    """The rule "four times the model" is for one case: everything trainable, gradients and both
    moments as wide as the weights, no master copy. Add up the four parts with their own bits."""
    return 4 * _weights(num_params, weight_bits)


@misconception("training_bytes", checks=COUNTED)
def no_master_copy(num_params, trainable_params, **bits):
    """The master copy is missing. In mixed precision the optimizer updates a float32 copy of each
    trainable weight, `master_bits` bits more."""
    return _run(num_params, trainable_params, **{**bits, "master_bits": 0})


@misconception("training_bytes", checks=COUNTED)
def frozen_weights_forgotten(num_params, trainable_params, **bits):
    """Only the trainable weights were counted. The frozen ones are not updated, but the forward
    pass needs them: they are in memory like all others."""
    return _run(trainable_params, trainable_params, **bits)


@misconception("training_bytes", checks=COUNTED)
def training_bits_not_bytes(num_params, trainable_params, **bits):
    """The sum is right and still in bits, eight times what it is in bytes."""
    return 8 * _run(num_params, trainable_params, **bits)


@misconception("training_bytes", checks=COUNTED)
def bits_not_used(num_params, trainable_params, **bits):
    """The answer does not follow the numbers of bits that are passed in: it is the one for the
    defaults. Other optimizers, quantised weights and pure bfloat16 all have other bits."""
    return _run(num_params, trainable_params)


# ---------------------------------------------------------------------------------- usable_bytes
def _bytes_of(meminfo, name, unit=1024):
    return next(
        int(line.split()[1]) * unit for line in meminfo.splitlines() if line.startswith(f"{name}:")
    )


@misconception("usable_bytes")
def usable_bytes_not_written(meminfo, cuda_free, unified):
    """There are two kinds of machine, and on each one number tells what is free. Look at the text
    of /proc/meminfo in the section "What is still free"."""
    raise NotImplementedError


@misconception("usable_bytes")
def cpu_and_gpu_added(meminfo, cuda_free, unified):
    """CPU and GPU memory were added on a machine where they are the same memory: what one takes the
    other has no more, so the sum counts it twice."""
    return _bytes_of(meminfo, "MemAvailable") + cuda_free if unified else cuda_free


@misconception("usable_bytes")
def smaller_of_the_two(meminfo, cuda_free, unified):
    """Where CPU and GPU share one memory, the smaller of the two numbers was taken. That looks
    careful, but CUDA's free leaves out what the kernel could still give back: take the kernel's own
    estimate, even where it is the larger one."""
    return min(_bytes_of(meminfo, "MemAvailable"), cuda_free) if unified else cuda_free


@misconception("usable_bytes")
def larger_of_the_two(meminfo, cuda_free, unified):
    """Where CPU and GPU share one memory, the larger of the two numbers was taken. There only the
    kernel's own estimate counts: a run that takes what CUDA calls free beyond that may bring the
    whole machine down."""
    return max(_bytes_of(meminfo, "MemAvailable"), cuda_free) if unified else cuda_free


@misconception("usable_bytes")
def mem_free(meminfo, cuda_free, unified):
    """MemFree is what nobody uses at all, and far too little: the kernel fills idle memory with
    cached files and gives it back when it is asked for. Another line of the file counts that in."""
    return _bytes_of(meminfo, "MemFree") if unified else cuda_free


@misconception("usable_bytes")
def mem_total(meminfo, cuda_free, unified):
    """MemTotal is what the machine has, not what is left of it. Another line of the file says what
    programs can still take."""
    return _bytes_of(meminfo, "MemTotal") if unified else cuda_free


@misconception("usable_bytes")
def free_and_cached(meminfo, cuda_free, unified):
    """MemFree + Cached counts cached memory that cannot be given back (shared memory, files in
    use). The kernel's own estimate of what can be taken has a line of its own."""
    return _bytes_of(meminfo, "MemFree") + _bytes_of(meminfo, "Cached") if unified else cuda_free


@misconception("usable_bytes")
def free_buffers_and_cached(meminfo, cuda_free, unified):
    """MemFree + Buffers + Cached is how it was estimated before the kernel did it: it counts memory
    that cannot be given back. The kernel's own estimate has a line of its own."""
    names = ("MemFree", "Buffers", "Cached")
    return sum(_bytes_of(meminfo, name) for name in names) if unified else cuda_free


@misconception("usable_bytes")
def swap_added(meminfo, cuda_free, unified):
    """SwapFree was added. Swap is on a disk: a GPU cannot compute there, and a run that is swapped
    out all but stops. MemAvailable alone is the answer."""
    names = ("MemAvailable", "SwapFree")
    return sum(_bytes_of(meminfo, name) for name in names) if unified else cuda_free


@misconception("usable_bytes")
def kilobytes_as_bytes(meminfo, cuda_free, unified):
    """The number was taken as it stands, but the file counts in kB, as the end of the line says,
    and bytes are asked for."""
    return _bytes_of(meminfo, "MemAvailable", 1) if unified else cuda_free


@misconception("usable_bytes")
def thousand_bytes_per_kb(meminfo, cuda_free, unified):
    """A kB was taken for 1000 bytes. In /proc/meminfo, against all rules of units, it is 1024."""
    return _bytes_of(meminfo, "MemAvailable", 1000) if unified else cuda_free


@misconception("usable_bytes")
def always_cuda_free(meminfo, cuda_free, unified):
    """`unified` was not used: where CPU and GPU share one memory, CUDA's free number leaves out
    what the kernel could still give back, so /proc/meminfo has to be asked."""
    return cuda_free


@misconception("usable_bytes")
def always_mem_available(meminfo, cuda_free, unified):
    """`unified` was not used: a GPU with memory of its own has what CUDA says is free, whatever the
    machine's main memory looks like."""
    return _bytes_of(meminfo, "MemAvailable")


@misconception("usable_bytes")
def third_line(meminfo, cuda_free, unified):
    """The line was found by its position. Nothing fixes the order of /proc/meminfo, and new kernels
    add lines: look for the line by its name."""
    return int(meminfo.splitlines()[2].split()[1]) * 1024 if unified else cuda_free


# -------------------------------------------------------------------------- enable_checkpointing
def _checkpointing(model):
    model.activation_checkpointing_enable()
    return model.train()


@misconception("enable_checkpointing")
def enable_checkpointing_not_written(model):
    """A Transformers model has a method that turns checkpointing on, and it acts only in one of the
    two modes of a model. See "Gradient checkpointing"."""
    raise NotImplementedError


@misconception("enable_checkpointing")
def checkpointing_in_eval_mode(model):
    """The model is in eval mode, as `from_pretrained` hands it over. Transformers checkpoints only
    in train mode and says nothing when it does not: turn checkpointing on, and change the mode."""
    return _checkpointing(model).eval()


@misconception("enable_checkpointing")
def checkpointing_by_flag(model):
    """Nothing is recomputed: as much is kept for backward as before. Setting an attribute of the
    model or of its config, like calling `train()` alone, turns nothing on; call the model's
    method."""
    model.config.gradient_checkpointing = True
    model.model.gradient_checkpointing = True
    return model.train()


@misconception("enable_checkpointing", checks=TRAINED)
def checkpointing_by_freezing(model):
    """All parameters were frozen, or gradients turned off. That saves memory because nothing is
    left to train: checkpointing keeps every gradient and computes again what it needs for them."""
    model.requires_grad_(requires_grad=False)
    return model.train()


@misconception("enable_checkpointing")
def frozen_and_checkpointed(model):
    """Checkpointing is on, and the model was frozen besides, so nothing is left to train. Leave
    `requires_grad` as it is: what is trainable is decided elsewhere."""
    model.requires_grad_(requires_grad=False)
    return _checkpointing(model)


@misconception("enable_checkpointing")
def all_but_the_head_frozen(model):
    """Parameters were frozen, and have no gradient now. That saves memory because less is trained:
    checkpointing keeps every gradient as it was and recomputes what it needs for them."""
    model.requires_grad_(requires_grad=False)
    model.lm_head.requires_grad_(requires_grad=True)
    return model.train()


@misconception("enable_checkpointing")
def model_not_returned(model):
    """Nothing was returned. Changing the model in place is right, and it has to be returned as
    well: what comes after works with what the function gives."""
    _checkpointing(model)


@misconception("enable_checkpointing", checks=TRAINED)
def copy_checkpointed(model):
    """The model that came back is a copy: the gradients are its own, and the model that was handed
    over has none. An optimizer made for that one would train nothing. Change the model itself."""
    return _checkpointing(copy.deepcopy(model))


@misconception("enable_checkpointing")
def last_layer_left_out(model):
    """The last layer keeps its activations. Recompute in every layer, as the model's own method
    does: go over all of `layers`, not `layers[:-1]`."""
    return _checkpointed_layers(model, model.model.layers[:-1])


@misconception("enable_checkpointing")
def first_layer_left_out(model):
    """The first layer keeps its activations. Recompute in every layer, as the model's own method
    does: go over all of `layers`, not `layers[1:]`."""
    return _checkpointed_layers(model, model.model.layers[1:])


@misconception("enable_checkpointing")
def every_second_layer(model):
    """Only every second layer recomputes. That is for a run with memory to spare (every layer that
    keeps its activations saves time); here every layer keeps its input alone."""
    model.activation_checkpointing_enable(every_n_layers=2)
    return model.train()


@misconception("enable_checkpointing")
def whole_model_at_once(model):
    """The whole model is one checkpoint: when backward begins, all layers are computed again and
    all their activations are there at once, as if nothing had been saved. Checkpoint each layer."""
    forward = model.model.forward
    model.model.forward = functools.partial(checkpoint, forward, use_reentrant=False)
    return model.train()


@misconception("enable_checkpointing")
def chance_not_repeated(model):
    """Layers are computed again with other random numbers (`preserve_rng_state=False`): with
    dropout the gradients are then of a network that was never run. Leave that option as it is."""
    options = {"use_reentrant": False, "preserve_rng_state": False}
    model.activation_checkpointing_enable(options)
    return model.train()


def _checkpointed_layers(model, layers):
    for layer in layers:
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    return model.train()


@misconception("enable_checkpointing")
def reentrant_by_hand(model):
    """Each layer was wrapped in the reentrant kind of checkpoint. It gives no gradients when
    nothing that goes into a layer requires one, which is so when the embeddings are frozen as under
    LoRA. Use the other kind (`use_reentrant=False`) or the model's own method, which sees to it."""
    for layer in model.model.layers:
        layer.forward = _reentrant(layer.forward)
    return model.train()


def _reentrant(forward):
    return lambda x, **more: checkpoint(functools.partial(forward, **more), x, use_reentrant=True)


# -------------------------------------------------------------------------- mixed_precision_step
def _bfloat16_loss(model, batch):
    with torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16):
        return model(**batch).loss


def _step(model, batch, optimizer, dtype=torch.bfloat16, *, autocast=True, zero=True):
    if zero:
        optimizer.zero_grad()
    with torch.autocast(next(model.parameters()).device.type, dtype=dtype, enabled=autocast):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    return loss.item()


@misconception("mixed_precision_step")
def mixed_precision_step_not_written(model, batch, optimizer):
    """It is an ordinary training step (zero, forward, backward, step) whose forward pass runs in a
    context. See "Mixed precision"."""
    raise NotImplementedError


@misconception("mixed_precision_step", checks=MIXED)
def float16_autocast(model, batch, optimizer):
    """The products were rounded to float16: that is autocast's default on a GPU. Ask for bfloat16
    by name; float16 overflows beyond 65504 and needs a gradient scaler."""
    return _step(model, batch, optimizer, torch.float16)


@misconception("mixed_precision_step", checks=MIXED)
def no_autocast(model, batch, optimizer):
    """The forward pass ran in float32: there is no autocast, or it is for another type of device
    than the one the model is on, and then it does nothing. Take the type from the model."""
    return _step(model, batch, optimizer, autocast=False)


@misconception("mixed_precision_step", checks=MIXED)
def parameters_cast(model, batch, optimizer):
    """The model itself was cast to bfloat16, with or without an autocast beside it. Mixed means
    that only the products are bfloat16: a bfloat16 parameter loses updates below 1/512 of its size.
    Autocast casts what goes into the products and leaves the parameters float32."""
    return _step(model.to(torch.bfloat16), batch, optimizer, autocast=False)


@misconception("mixed_precision_step", checks=MIXED)
def no_zero_grad(model, batch, optimizer):
    """From the second step on the gradients of earlier batches are added in: backward adds to what
    is there. Set the gradients to zero once in each step, before backward."""
    return _step(model, batch, optimizer, zero=False)


@misconception("mixed_precision_step", checks=MIXED)
def zeroed_before_step(model, batch, optimizer):
    """Nothing was learnt: when the optimizer steps there is no gradient. It was thrown away between
    backward and the step, or backward is missing, or it went to a copy of the model. The order is
    zero, backward, step."""
    optimizer.zero_grad()
    loss = _bfloat16_loss(model, batch)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


@misconception("mixed_precision_step", checks=MIXED)
def never_steps(model, batch, optimizer):
    """Nothing was learnt: backward only computes gradients, and it is the optimizer's step that
    changes parameters. It is missing."""
    optimizer.zero_grad()
    loss = _bfloat16_loss(model, batch)
    loss.backward()
    return loss.item()


@misconception("mixed_precision_step", checks=MIXED)
def step_before_backward(model, batch, optimizer):
    """The optimizer steps between forward and backward: this batch's gradient does not exist yet,
    and the parameters it is to be computed for are changed. Backward comes first, then step."""
    loss = _bfloat16_loss(model, batch)
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


@misconception("mixed_precision_step", checks=MIXED)
def step_one_batch_late(model, batch, optimizer):
    """The optimizer steps before this batch's gradient exists: it uses the one of the batch before.
    The step comes after this batch's backward."""
    optimizer.step()
    optimizer.zero_grad()
    loss = _bfloat16_loss(model, batch)
    loss.backward()
    return loss.item()


@misconception("mixed_precision_step", checks=MIXED)
def step_in_eval_mode(model, batch, optimizer):
    """The step was taken in evaluation mode: dropout is off there, and checkpointing too. The model
    comes in train mode; leave it there."""
    return _step(model.eval(), batch, optimizer)


@misconception("mixed_precision_step", checks=MIXED)
def left_in_eval_mode(model, batch, optimizer):
    """After the first step the model is in evaluation mode, and every later step is taken in it.
    Leave the mode as it is, or begin each step with `model.train()`."""
    loss = _step(model, batch, optimizer)
    model.eval()
    return loss


@misconception("mixed_precision_step", checks=MIXED)
def part_of_the_batch(model, batch, optimizer):
    """The attention mask was not handed on, so the model reads padding as if it were text. Hand
    over the whole batch: `model(**batch)`."""
    rest = {name: batch[name] for name in ("input_ids", "labels")}
    return _step(model, rest, optimizer)


@misconception("mixed_precision_step", checks=MIXED)
def gradients_clipped(model, batch, optimizer):
    """The gradients were clipped to norm 1 before the step. A good habit in long runs, but another
    step than the one asked for: leave it out here."""
    optimizer.zero_grad()
    loss = _bfloat16_loss(model, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


@misconception("mixed_precision_step", checks=MIXED)
def loss_after_the_step(model, batch, optimizer):
    """The loss was measured again after the step: a forward pass too many, and rosier than what the
    model knew before. Return the loss that `backward` was called on."""
    _step(model, batch, optimizer)
    with torch.no_grad():
        return _bfloat16_loss(model, batch).item()


@misconception("mixed_precision_step", checks=GRAPH)
def loss_with_its_graph(model, batch, optimizer):
    """The loss was returned as a tensor with its graph: whoever keeps the losses of a run keeps all
    of their graphs, and memory grows with every step. Return the number, `loss.item()`."""
    optimizer.zero_grad()
    loss = _bfloat16_loss(model, batch)
    loss.backward()
    optimizer.step()
    return loss


@misconception("mixed_precision_step", checks=BATCH)
def labels_taken_out(model, batch, optimizer):
    """`pop` takes the labels out of the caller's batch, so a second pass would find none. Hand the
    batch on whole, `model(**batch)`, or pop from a copy."""
    labels = batch.pop("labels")
    return _step(model, {**batch, "labels": labels}, optimizer)


@misconception("mixed_precision_step", checks=MIXED)
def loss_not_returned(model, batch, optimizer):
    """The step is taken and its loss is not returned: without it nobody sees whether training
    works."""
    _step(model, batch, optimizer)


@misconception("mixed_precision_step", checks=ON_GPU)
def autocast_for_the_cpu(model, batch, optimizer):
    """The autocast is for the CPU, wherever the model is: on a GPU it does nothing. Take the type
    of the device from the model: `next(model.parameters()).device.type`."""
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    return loss.item()


@misconception("mixed_precision_step", checks=ON_GPU)
def autocast_of_default_dtype(model, batch, optimizer):
    """The autocast does not say to what: its default is bfloat16 on a CPU and float16 on a GPU,
    which overflows beyond 65504 and needs a gradient scaler. Say `dtype=torch.bfloat16`."""
    optimizer.zero_grad()
    with torch.autocast(next(model.parameters()).device.type):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    return loss.item()


# ---------------------------------------------------------------------------- half_precision_for
HALF = torch.finfo(torch.float16)


def _float16_if(holds):
    return torch.float16 if bool(holds) else torch.bfloat16


@misconception("half_precision_for")
def half_precision_for_not_written(values):
    """Float16 has a largest and a smallest number. Ask whether any value lies outside, or cast and
    look at what became infinite or zero. See "float16 or bfloat16"."""
    raise NotImplementedError


@misconception("half_precision_for")
def overflow_only(values):
    """Only too large values were looked for. Too small ones become zero in float16, which is how
    small gradients get lost."""
    return _float16_if(values.half().isfinite().all())


@misconception("half_precision_for")
def vanishing_only(values):
    """Only too small values were looked for. Beyond 65504 float16 gives infinity, and one infinity
    makes the whole loss useless."""
    return _float16_if(((values.half() == 0) == (values == 0)).all())


@misconception("half_precision_for")
def always_bfloat16(values):
    """The answer is always bfloat16. It is the safe choice for training, but float16 has three bits
    more of precision: where its range suffices, it is the better of the two."""
    return torch.bfloat16


@misconception("half_precision_for")
def always_float16(values):
    """The answer is always float16. Its range ends at 65504 above and at about 6e-8 below; what
    lies outside becomes infinite or zero."""
    return torch.float16


@misconception("half_precision_for")
def negatives_forgotten(values):
    """Large negative values were missed: they overflow as positive ones do. Look at sizes,
    `abs()`."""
    return _float16_if(values.max() <= HALF.max and ((values.half() == 0) == (values == 0)).all())


@misconception("half_precision_for")
def zeros_vanish(values):
    """Zeros were taken for values that vanish. Zero is exact in every format: only a value that was
    not zero can be lost."""
    return _float16_if(values.half().isfinite().all() and (values.half() != 0).all())


@misconception("half_precision_for")
def subnormals_vanish(values):
    """Values below `finfo.tiny` were counted as lost. That is the smallest *normal* number: float16
    goes on below it, with fewer digits, to about 6e-8. Lost is what becomes zero."""
    sizes = values[values != 0].abs()
    return _float16_if((sizes <= HALF.max).all() and (sizes >= HALF.tiny).all())


@misconception("half_precision_for")
def eps_as_smallest(values):
    """Values below `finfo.eps` were counted as lost. That is the distance from 1 to the next
    number, not the smallest: float16 reaches down to about 6e-8. Lost is what becomes zero."""
    sizes = values[values != 0].abs()
    return _float16_if((sizes <= HALF.max).all() and (sizes >= HALF.eps).all())


@misconception("half_precision_for")
def nothing_left_of_zeros(values):
    """When all values are zero, none is left once zeros are put aside, and `min()` or `max()` of
    nothing raises. Gradients may all be zero: ask `(...).any()` or `all()`, which bear it."""
    sizes = values[values != 0].abs()
    return _float16_if(sizes.max() < 65520 and sizes.min() > 2**-25)


@misconception("half_precision_for", checks=VALUES)
def sizes_taken_in_place(values):
    """The answer is right, and the caller's values have lost their signs: `abs_()` writes into the
    tensor it is called on. Take `abs()`, which makes a new one."""
    values.abs_()
    return _float16_if((values < 65520).all() and ((values.half() == 0) == (values == 0)).all())


@misconception("half_precision_for", checks=VALUES)
def zeros_filled_in_place(values):
    """The answer is right, and the caller's zeros are ones now: they were put aside by writing into
    the tensor. Use a mask, `values[values != 0]`, or `masked_fill`, which makes a new one."""
    values[values == 0] = 1
    return _float16_if(values.half().isfinite().all() and (values.half() != 0).all())


@misconception("half_precision_for")
def rounding_as_loss(values):
    """float16 was refused because values are rounded in it. They are in bfloat16 as well, and more
    so; the question is whether one becomes infinite or zero."""
    return _float16_if((values.half().float() == values).all())


# --------------------------------------------------------------------------------- fragmentation
def _now(stats, what):
    return stats[f"{what}_bytes.all.current"]


@misconception("fragmentation")
def fragmentation_not_written(stats):
    """Two of the numbers in `stats` are needed, one divided by the other, and a look at what to do
    when nothing is reserved. See "Fragmentation and the allocator's cache"."""
    raise NotImplementedError


@misconception("fragmentation")
def allocated_share(stats):
    """This is the share that is in use. A full cache is not a fragmented one: fragmented is what is
    idle and cannot be used for anything large, the inactive pieces of split segments."""
    return _now(stats, "allocated") / (_now(stats, "reserved") or 1)


@misconception("fragmentation")
def unallocated_share(stats):
    """This counts all that is idle, whole free segments included. Those are ready for anything:
    only the inactive pieces of split segments are fragments."""
    reserved = _now(stats, "reserved")
    return (reserved - _now(stats, "allocated")) / (reserved or 1)


@misconception("fragmentation")
def division_by_zero(stats):
    """Before the first tensor is on the GPU nothing is reserved, and this divides by zero. Nothing
    is fragmented then: return 0."""
    return _now(stats, "inactive_split") / _now(stats, "reserved")


@misconception("fragmentation")
def share_of_allocated(stats):
    """The inactive pieces were compared with what is allocated. Asked for is their share of all
    that PyTorch holds: what is reserved."""
    return _now(stats, "inactive_split") / (_now(stats, "allocated") or 1)


@misconception("fragmentation")
def share_of_the_idle(stats):
    """The inactive pieces were compared with what is idle (reserved less allocated). Asked for is
    their share of all that PyTorch holds: what is reserved."""
    idle = _now(stats, "reserved") - _now(stats, "allocated")
    return _now(stats, "inactive_split") / (idle or 1)


@misconception("fragmentation")
def share_at_peak(stats):
    """These are the largest values there have ever been. Take the current ones: peaks of two
    numbers need not be of the same moment."""
    peak = stats["reserved_bytes.all.peak"]
    return stats["inactive_split_bytes.all.peak"] / (peak or 1)


@misconception("fragmentation")
def fragments_counted(stats):
    """This counts pieces and segments. A thousand small pieces matter less than one large one: take
    the bytes (`..._bytes...`)."""
    return stats["inactive_split.all.current"] / (stats["segment.all.current"] or 1)


@misconception("fragmentation")
def percentage(stats):
    """This is a percentage; a share between 0 and 1 is asked for."""
    return 100 * _now(stats, "inactive_split") / (_now(stats, "reserved") or 1)


# ------------------------------------------------------------------------------ releasable_bytes
@misconception("releasable_bytes")
def releasable_bytes_not_written(stats):
    """Start from what is reserved and take away all that lies in a segment with a live block in it.
    See the picture in "Fragmentation and the allocator's cache"."""
    raise NotImplementedError


@misconception("releasable_bytes")
def split_counted_as_releasable(stats):
    """The idle pieces of split segments were counted. A segment is handed back whole or not at all,
    and these share theirs with a live block."""
    return _now(stats, "reserved") - _now(stats, "active")


@misconception("releasable_bytes")
def all_unallocated(stats):
    """All that is not allocated was counted. Idle pieces beside live blocks cannot leave, and
    neither can blocks you freed that a stream still works on: those are active though not
    allocated."""
    return _now(stats, "reserved") - _now(stats, "allocated")


@misconception("releasable_bytes")
def allocated_for_active(stats):
    """Take active bytes, not allocated bytes: a block you freed while a stream still works on it is
    no longer allocated, but it is active and keeps its segment."""
    return _now(stats, "reserved") - _now(stats, "allocated") - _now(stats, "inactive_split")


@misconception("releasable_bytes")
def all_reserved(stats):
    """This is all that PyTorch holds. The tensors that are alive are in it, and `empty_cache`
    leaves them where they are."""
    return _now(stats, "reserved")


@misconception("releasable_bytes")
def split_alone(stats):
    """The inactive pieces of split segments are just what can *not* be handed back: each lies in a
    segment with a live block. Whole idle segments can."""
    return _now(stats, "inactive_split")


# --------------------------------------------------------------------------------------- release
def _empty_cache():
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@misconception("release")
def release_not_written(objects):
    """Three things in the right order, and the first is that the list itself lets go of the
    objects. See "Giving memory back"."""
    raise NotImplementedError


@misconception("release", checks=WITH_GPU)
def cache_emptied_first(objects):
    """The cache was emptied while the objects were alive: their memory was not in it yet. Let go of
    the objects first, empty the cache last."""
    _empty_cache()
    objects.clear()
    gc.collect()


@misconception("release", checks=WITH_GPU)
def no_collection(objects):
    """Objects in a reference cycle were still alive: letting go of them is not enough, since they
    refer to each other. The collector has to run after the list was emptied and before the cache
    is, and over all generations: `gc.collect()`, not `gc.collect(0)`."""
    objects.clear()
    _empty_cache()


@misconception("release", checks=WITH_GPU)
def collected_too_late(objects):
    """The collector ran after the cache was emptied, so what it freed is still in the cache.
    Collect first, empty the cache last."""
    objects.clear()
    _empty_cache()
    gc.collect()


@misconception("release", checks=WITH_GPU)
def name_deleted(objects):
    """The objects are all still alive: the caller's list holds them. `del objects` or `objects =
    []` only forgets the function's own name for that list; empty the list itself."""
    del objects
    gc.collect()
    _empty_cache()


@misconception("release", checks=WITH_GPU)
def loop_variable_kept(objects):
    """One object was still alive: a variable, such as a loop's, refers to it until the function
    ends. Empty the list without naming its elements, or delete the variable too."""
    for item in objects:
        getattr(item, "model", item)
    objects.clear()
    gc.collect()
    _empty_cache()


@misconception("release", checks=WITH_GPU)
def cache_never_emptied(objects):
    """The objects are gone, and their memory is kept by PyTorch's cache: other programs cannot have
    it. Hand it back at the end."""
    objects.clear()
    gc.collect()


@misconception("release", checks=WITHOUT_GPU)
def accelerator_taken_for_granted(objects):
    """Without a GPU `torch.accelerator.empty_cache()` raises, where `torch.cuda.empty_cache()` does
    nothing. Ask `torch.accelerator.is_available()` before."""
    objects.clear()
    gc.collect()
    torch.accelerator.empty_cache()


@misconception("release", checks=WITHOUT_GPU)
def gpu_taken_for_granted(objects):
    """Without a GPU this raises: something beside `torch.cuda.empty_cache()`, which is harmless,
    needs one, as `torch.cuda.synchronize()` does. Ask `torch.cuda.is_available()` before."""
    objects.clear()
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


@misconception("release", checks=WITHOUT_GPU)
def only_beside_a_gpu(objects):
    """Without a GPU nothing is let go of: all of the work stands under the question whether there
    is one. Only emptying the cache belongs there; memory of the CPU is memory, too."""
    if torch.cuda.is_available():
        objects.clear()
        gc.collect()
        torch.cuda.empty_cache()


@misconception("release", checks=WITHOUT_GPU)
def cycles_only_beside_a_gpu(objects):
    """Without a GPU, objects in reference cycles stay: the collector is run only where there is
    one. Only emptying the cache needs a GPU."""
    objects.clear()
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
