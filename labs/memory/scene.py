"""What the exercise's functions are put into, and how it is measured. No answers here."""

from __future__ import annotations

import contextlib
import functools
import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from transformers import LlamaForCausalLM

from verify.scene import attempt
from verify.simulated_gpu import machine
from verify.tiny import tiny_model

VOCABULARY = 48
_NAMES = {"half": "float16", "fp16": "float16", "bf16": "bfloat16"}


# ------------------------------------------------------------------------------- counting bytes
def calls(exercise: Any, function: str, cases: list[dict[str, Any]]) -> list[object]:
    """Return what ``function`` gives for each case: a dict of arguments by name."""
    asked = getattr(exercise, function)
    return [attempt(functools.partial(asked, **case)) for case in cases]


def half_precisions(exercise: Any, tensors: list[Tensor]) -> list[object]:
    """Return the dtype `half_precision_for` gives for each tensor, by its usual name."""
    return [_dtype_name(attempt(exercise.half_precision_for, values)) for values in tensors]


def values_afterwards(exercise: Any, tensors: list[Tensor]) -> list[object]:
    """Return each tensor as `half_precision_for` leaves it."""

    def left(values: Tensor) -> Tensor:
        exercise.half_precision_for(values)
        return values

    return [attempt(left, values) for values in tensors]


def _dtype_name(answer: object) -> object:
    if not isinstance(answer, str):
        return answer
    name = answer.removeprefix("torch.")
    return _NAMES.get(name, name)


# ---------------------------------------------------------------------------- tiny real models
class MarkedForCausalLM(LlamaForCausalLM):
    """A tiny Llama whose loss also tells how the matrix products beside it were rounded.

    It adds to its loss how far two products of whole numbers are from exact: ``marks`` are the
    numbers that are added to 256 and to 2048, ``weights`` what each difference counts.
    """

    marks: Sequence[float] = (0.0, 0.0)
    weights: Sequence[float] = (0.0, 0.0)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return Llama's output; see the class."""
        output = super().forward(*args, **kwargs)
        place = {"device": output.loss.device, "dtype": self.lm_head.weight.dtype}
        rows = torch.tensor([[256.0, self.marks[0]], [2048.0, self.marks[1]]], **place)
        product = functional.linear(torch.ones(1, 2, **place), rows)[0]
        exact = rows.double().sum(dim=1)
        counts = torch.tensor(self.weights, dtype=torch.float64, device=output.loss.device)
        output.loss = output.loss + ((product.double() - exact).abs() * counts).sum().float()
        return output


class LouderInTraining(nn.Module):
    """A block whose output is larger in train mode: what comes out shows the mode."""

    def __init__(self, block: nn.Module, factor: float) -> None:
        super().__init__()
        self.block = block
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output for ``x``."""
        y: Tensor = self.block(x)
        return y * self.factor if self.training else y


class NoisyInTraining(LouderInTraining):
    """The same, and a factor for each channel besides that is drawn each time, as dropout does.

    It is drawn on the CPU, wherever the model is, so that one seed gives the same everywhere.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output for ``x``."""
        y = super().forward(x)
        return y * (0.5 + torch.rand(y.shape[-1])).to(y.device) if self.training else y


def device() -> str:
    """Return where models and their batches live here."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def tiny_llama(seed: int, depth: int) -> LlamaForCausalLM:
    """Return a Llama of about 10,000 parameters a layer, on the CPU, in evaluation mode."""
    model = tiny_model(
        "llama", seed, vocabulary=VOCABULARY, depth=depth, use_cache=False, pad_token_id=None
    )
    assert isinstance(model, LlamaForCausalLM)
    return model


# ------------------------------------------------------------------------------- checkpointing
def checkpointed(
    exercise: Any, seed: int, depth: int, factor: float, ids: Tensor, trained: list[str]
) -> dict[str, object]:
    """Hand a model over as ``from_pretrained`` does, then train on it; also without the exercise.

    Returns:
        See `backward`: the loss, the gradients that the given model's parameters have then, and
        what was kept on the way; ``plain`` is what is saved without what the exercise did.
    """
    model: nn.Module = noisy_llama(seed, depth, factor, trained)
    model.to(device())
    plain = backward(model.train(), ids)["saved"]
    model.eval().zero_grad()
    given = list(model.parameters())
    grad_mode = torch.is_grad_enabled()
    try:
        returned = exercise.enable_checkpointing(model)
        if not isinstance(returned, nn.Module):
            return {"returned": returned}
        return {"plain": plain, **backward(returned, ids, given)}
    finally:
        torch.set_grad_enabled(grad_mode)


def noisy_llama(seed: int, depth: int, factor: float, trained: list[str]) -> LlamaForCausalLM:
    """Return a tiny Llama that computes otherwise in train mode; only ``trained`` is trainable.

    A parameter is trained if its name holds one of ``trained`` (empty: all of them are).
    """
    model = tiny_llama(seed, depth)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not trained or any(part in name for part in trained))
    model.model.norm = LouderInTraining(model.model.norm, factor)
    for layer in model.model.layers:
        layer.input_layernorm = NoisyInTraining(layer.input_layernorm, factor)
    return model


def backward(
    model: nn.Module, ids: Tensor, parameters: Sequence[nn.Parameter] | None = None
) -> dict[str, Any]:
    """Run a forward and a backward pass; return loss, gradients and what was kept in between.

    ``gradients`` are those that ``parameters`` (those of ``model`` if not told) then have.
    ``saved`` counts the bytes of the distinct storages that autograd was asked to keep in the
    forward pass, the parameters' own excepted: they are there anyway. ``held`` is of how many
    layers the activations were there at one time, forward and backward.
    """
    place = next(model.parameters()).device
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)  # alive until counted, so that no address is used twice
        return tensor

    torch.manual_seed(0)
    with _layers_held(model) as held:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(input_ids=ids.to(place), labels=ids.to(place)).loss
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
        for parameter in model.parameters():
            storages.pop(parameter.untyped_storage().data_ptr(), None)
        kept.clear()
        if loss.requires_grad:
            loss.backward()
    gradients = [p.grad for p in parameters or model.parameters()]
    told = {"loss": loss.item(), "gradients": gradients}
    return {**told, "saved": sum(storages.values()), "held": max(held, default=0)}


@contextlib.contextmanager
def _layers_held(model: nn.Module) -> Iterator[list[int]]:
    """Note, each time a layer computes, of how many layers its first activation is there."""
    outputs: list[StorageWeakRef] = []
    held: list[int] = []

    def note(_module: nn.Module, _arguments: object, output: Tensor) -> None:
        outputs.append(StorageWeakRef(output.untyped_storage()))
        held.append(sum(not output.expired() for output in outputs))

    noisy = [module for module in model.modules() if isinstance(module, NoisyInTraining)]
    handles = [module.register_forward_hook(note) for module in noisy]
    try:
        yield held
    finally:
        for handle in handles:
            handle.remove()


# ----------------------------------------------------------------------------- mixed precision
def mixed_steps(
    exercise: Any, seed: int, marks: list[float], weights: list[float],
    factor: float, batches: list[dict[str, Tensor]], lr: float, momentum: float,
) -> dict[str, object]:  # fmt: skip
    """Take one step for each batch; return losses, parameters and the dtypes on the way.

    ``products`` are the dtypes that linear layers gave, ``gradients`` those that the optimizer
    found when it stepped, ``"none"`` among them if it once found nothing but zeros. ``batches`` are
    the batches as they are afterwards.
    """
    model: nn.Module = marked_llama(seed, marks, weights, factor)
    model.to(device())
    there = [{name: value.to(device()) for name, value in batch.items()} for batch in batches]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    products: set[str] = set()
    gradients: set[str] = set()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _m, _i, out: products.add(str(out.dtype)))
    optimizer.register_step_pre_hook(lambda *_: gradients.update(_gradient_dtypes(model)))
    step = exercise.mixed_precision_step
    losses = [attempt(step, model, batch, optimizer) for batch in there]
    return {
        "losses": losses,
        "parameters": list(model.parameters()),
        "products": sorted(products),
        "gradients": sorted(gradients),
        "batches": there,
    }


def loss_with_a_graph(
    exercise: Any, seed: int, factor: float, batch: dict[str, Tensor], lr: float
) -> bool:
    """Return whether the loss that `mixed_precision_step` returns still holds its graph."""
    model: nn.Module = marked_llama(seed, [0.0, 0.0], [0.0, 0.0], factor)
    model.to(device())
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    there = {name: value.to(device()) for name, value in batch.items()}
    loss = exercise.mixed_precision_step(model, there, optimizer)
    return isinstance(loss, Tensor) and loss.requires_grad


def mixed_on_gpu(
    exercise: Any, seed: int, factor: float, batch: dict[str, Tensor], lr: float
) -> dict[str, object]:
    """Take one step with a model on a simulated GPU.

    Returns:
        The dtypes that autocast cast to in the forward pass, for each type of device (``"off"``:
        it did not), and what the step gave or raised.
    """
    found: dict[str, set[str]] = {"cuda": set(), "cpu": set()}

    def note(*_: object) -> None:
        for kind, dtypes in found.items():
            on = torch.is_autocast_enabled(kind)
            dtypes.add(str(torch.get_autocast_dtype(kind)) if on else "off")

    with machine(gpu=True):
        llama = marked_llama(seed, [0.0, 0.0], [0.0, 0.0], factor)
        llama.lm_head.register_forward_pre_hook(note)
        model: nn.Module = llama
        model.to("cuda")
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        there = {name: value.to("cuda") for name, value in batch.items()}
        told = attempt(exercise.mixed_precision_step, model, there, optimizer)
    return {**{kind: sorted(dtypes) for kind, dtypes in found.items()}, "told": told}


def _gradient_dtypes(model: nn.Module) -> set[str]:
    gradients = [p.grad for p in model.parameters() if p.grad is not None and p.grad.any()]
    return {str(gradient.dtype) for gradient in gradients} or {"none"}


def marked_llama(
    seed: int, marks: list[float], weights: list[float], factor: float
) -> MarkedForCausalLM:
    """Return a `MarkedForCausalLM` in float32 and train mode, on the CPU, louder in that mode."""
    model = tiny_llama(seed, 2)
    for layer in model.model.layers:
        layer.input_layernorm = LouderInTraining(layer.input_layernorm, factor)
    model.__class__ = MarkedForCausalLM  # the same model, with the forward pass of that class
    assert isinstance(model, MarkedForCausalLM)
    model.marks, model.weights = marks, weights
    model.train()
    return model


# --------------------------------------------------------------------------------- letting go
class Run:
    """What a training run leaves behind; ``cyclic``: it and its model refer to each other."""

    def __init__(self, size: int, *, cyclic: bool) -> None:
        self.model = nn.Linear(size, size)
        if cyclic:
            self.model.owner = self  # type: ignore[assignment]


def released(exercise: Any, sizes: list[int], cyclic: list[bool], gpu: bool) -> dict[str, object]:
    """Call `release` beside a simulated GPU, or where there is none, with automatic collection off.

    Returns:
        How many objects were still alive when the cache was last emptied, how many afterwards, how
        often it was emptied and how long the list is then. Objects whose weights are alive count.
    """
    release = exercise.release
    emptied: list[int] = []
    collected, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.disable()
    if not frozen:
        gc.freeze()  # what was here before is not looked at again: a collection takes microseconds
    try:
        objects = [Run(size, cyclic=c) for size, c in zip(sizes, cyclic, strict=True)]
        ghosts = [(weakref.ref(run), weakref.ref(run.model.weight)) for run in objects]
        gc.collect()  # as what lives for a while does, they now belong to the oldest generation

        def alive() -> int:
            return sum(any(ghost() is not None for ghost in pair) for pair in ghosts)

        with gpu_in_use(lambda: emptied.append(alive())) if gpu else no_gpu():
            release(objects)
        return {
            "alive_at_empty_cache": emptied[-1] if emptied else None,
            "alive_afterwards": alive(),
            "times_emptied": len(emptied),
            "left_in_list": len(objects),
        }
    finally:
        if not frozen:
            gc.unfreeze()
        if collected:
            gc.enable()
        else:
            gc.disable()


@contextlib.contextmanager
def gpu_in_use(on_empty_cache: Callable[[], None]) -> Iterator[None]:
    """Simulate a GPU that has been computed on, and tell when its cache is emptied.

    Replaced is what the public functions end in, so that it does not matter which of them is used
    (``torch.cuda``, ``torch.cuda.memory``, ``torch.accelerator``) or when it was imported.
    """
    core, true, nothing = torch._C, lambda *_: True, lambda *_a, **_k: None
    simulated: list[tuple[object, str, Callable[..., object]]] = [
        (core, "_cuda_emptyCache", lambda *_: on_empty_cache()),
        (core, "_accelerator_emptyCache", lambda *_: on_empty_cache()),
        (core, "_accelerator_isAllocatorInitialized", true),
        (core, "_cuda_memoryStats", lambda *_: {}),
        (core, "_cuda_ipc_collect", nothing),
        (core, "_cuda_resetPeakMemoryStats", nothing),
        (torch.cuda, "is_initialized", true),
        (torch.cuda.memory, "is_initialized", true),
        (torch.accelerator, "synchronize", nothing),
    ]
    with machine(gpu=True), contextlib.ExitStack() as stack:
        for owner, name, instead in simulated:
            stack.enter_context(mock.patch.object(owner, name, instead, create=True))
        yield


@contextlib.contextmanager
def no_gpu() -> Iterator[None]:
    """Simulate a machine without a GPU whose torch is built without CUDA."""

    def refuse(*_: object) -> None:
        raise RuntimeError("Cannot access accelerator device when none is available.")

    asked = mock.patch.object(torch._C, "_accelerator_isAllocatorInitialized", refuse)
    with machine(gpu=False, built=False), asked:
        yield


# ----------------------------------------------------------------------------------- a real GPU
def gpu_step(exercise: Any, width: int, layers: int, trained: int, rows: int) -> dict[str, object]:
    """Train a stack of float32 linear layers on the GPU, the last ``trained`` of ``layers``.

    Returns:
        What `training_bytes` tells for it, and what a step took at its peak: all of it, and the
        bytes saved for backward.
    """
    _one_step(*_stack(64, 2, 1), torch.zeros(1, 64, device="cuda"))  # cuBLAS takes its workspace
    gc.collect()
    before = torch.cuda.memory_allocated()
    model, optimizer = _stack(width, layers, trained)
    x = torch.randn(rows, width, device="cuda")
    _one_step(model, optimizer, x)  # the optimizer's state comes with the first step
    torch.cuda.reset_peak_memory_stats()
    activations = _one_step(model, optimizer, x)
    peak = torch.cuda.max_memory_allocated() - before
    size = width * width
    told = attempt(exercise.training_bytes, layers * size, trained * size, 32, 32, 64, 0)
    return {"told": told, "peak": peak, "activations": activations}


def _stack(width: int, layers: int, trained: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    stack = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers))).cuda()
    stack[: layers - trained].requires_grad_(requires_grad=False)
    last = [parameter for parameter in stack.parameters() if parameter.requires_grad]
    return stack, torch.optim.AdamW(last, fused=True)  # fused: no temporary copies of all states


def _one_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> int:
    optimizer.zero_grad()
    sizes: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    return sum(size for place, size in sizes.items() if place not in own)
