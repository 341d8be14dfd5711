"""The scenes of the training lab: what the learner's functions are given, and what is measured.

Public and free of answers. Each scene is played with the learner's functions in the sealed process
and with the known mistakes in the judge's; a `TinyModel` of one seed is the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BatchEncoding
from transformers.modeling_outputs import TokenClassifierOutput

from verify.scene import attempt

Exercise = SimpleNamespace


def losses_from_probabilities(exercise: Exercise, probabilities: list[float]) -> list[Any]:
    """Return what `loss_from_probability` gives for each probability."""
    return [attempt(exercise.loss_from_probability, p) for p in probabilities]


def perplexities(exercise: Exercise, losses: list[float]) -> list[Any]:
    """Return what `perplexity` gives for each loss."""
    return [attempt(exercise.perplexity, loss) for loss in losses]


def cross_entropies(exercise: Exercise, cases: list[dict[str, Any]]) -> list[Any]:
    """Return what `cross_entropy` gives for each case."""
    return [attempt(exercise.cross_entropy, *_arguments(case)) for case in cases]


def cross_entropy_gradients(exercise: Exercise, cases: list[dict[str, Any]]) -> list[Any]:
    """Return the loss of each case and the gradient that its backward pass leaves on the logits."""
    return [attempt(_gradient, exercise.cross_entropy, *_arguments(case)) for case in cases]


def arguments_afterwards(
    exercise: Exercise, function: str, cases: list[dict[str, Any]]
) -> list[Any]:
    """Return for each case its tensors as ``function``, a loss, leaves them."""
    loss_of = getattr(exercise, function)
    return [attempt(_tensors_left, loss_of, case) for case in cases]


def causal_losses(exercise: Exercise, cases: list[dict[str, Any]]) -> list[Any]:
    """Return what `causal_lm_loss` gives for each case."""
    return [attempt(exercise.causal_lm_loss, *_arguments(case)) for case in cases]


def causal_gradients(exercise: Exercise, cases: list[dict[str, Any]]) -> list[Any]:
    """Return the loss of each case and the gradient that its backward pass leaves on the logits."""
    return [attempt(_gradient, exercise.causal_lm_loss, *_arguments(case)) for case in cases]


def losses_of_torch_called(exercise: Exercise, case: dict[str, Any]) -> str:
    """Return which of torch's own losses `cross_entropy` calls: "cross-entropy", "NLL" or "none".

    A reading: two traces see every call of a torch function and every kernel of the dispatcher.
    """
    names: set[str] = set()
    with _Calls(names), _Kernels(names):
        exercise.cross_entropy(*_arguments(case))
    if any("cross_entropy" in name for name in names):
        return "cross-entropy"
    return "NLL" if any("nll_loss" in name for name in names) else "none"


def trained(exercise: Exercise, runs: list[dict[str, Any]]) -> list[Any]:
    """Return for each run what `train` returned, how it changed each parameter, and its batches."""
    return [attempt(_run, exercise.train, run) for run in runs]


def losses_with_a_graph(exercise: Exercise, run: dict[str, Any]) -> int:
    """Return how many of the losses that `train` returned still hold their graph."""
    model = _model(run)
    losses = _train(exercise.train, model, _batches(run, model.device), run["lr"])
    kept = losses if isinstance(losses, list | tuple) else [losses]
    return sum(isinstance(loss, Tensor) and loss.requires_grad for loss in kept)


class TinyModel(nn.Module):
    """A model that gives each token one of ``vocabulary`` labels, from the tokens up to it.

    A training loop cannot tell it from a language model: ``model(**batch).loss``. Its weights are
    float64, so that the order of a sum, or the device, cannot decide the sign of a tiny gradient,
    which AdamW would turn into a whole step. ``scale`` multiplies its logits, and so how large its
    gradients are.
    """

    def __init__(self, seed: int, vocabulary: int, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.embed = nn.Embedding(vocabulary, width, dtype=torch.float64)
        self.drop = FixedDropout()
        self.head = nn.Linear(width, vocabulary, dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.copy_(2 * values)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def forward(
        self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None
    ) -> TokenClassifierOutput:
        """Return an output whose ``loss`` is the mean over the labels that are not -100."""
        x = self.embed(input_ids)
        if attention_mask is not None:
            x = x * attention_mask.unsqueeze(-1)
        logits = self.scale * _one(x.device) * self.head(self.drop(x + x.cumsum(1).tanh()))
        return TokenClassifierOutput(loss=F.cross_entropy(logits.transpose(1, 2), labels))


class FixedDropout(nn.Module):
    """A dropout whose mask is the same every time: in training mode the outputs show it."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels by 1.5 and 0.5 in turn when training; change nothing otherwise."""
        if not self.training:
            return x
        odd = torch.arange(x.shape[-1], device=x.device) % 2
        return x * (1.5 - odd)


def _one(device: torch.device) -> Tensor:
    """Return 1, by a product of float32 matrices: in 16 bits (autocast) it is a little less."""
    product = torch.full((1, 1), 2049.0, device=device) @ torch.ones(1, 1, device=device)
    return product.double() / 2049


class WeightsChangedBeforeBackward(RuntimeError):
    """Torch's complaint that a step came between a forward pass and its backward, by a name."""


def _run(train: Callable[..., object], run: dict[str, Any]) -> dict[str, object]:
    model = _model(run)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    batches = _batches(run, model.device)
    losses = _train(train, model, batches, run["lr"])
    after = dict(model.named_parameters())
    changes = {name: after[name].detach().double() - before[name] for name in before}
    return {"losses": losses, "changes": changes, "batches": [dict(batch) for batch in batches]}


def _model(run: dict[str, Any]) -> TinyModel:
    """Return the model of a run in the mode it arrives in, on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TinyModel(**run["model"]).to(device).train(run["training"])


def _train(
    train: Callable[..., object], model: TinyModel, batches: list[Mapping[str, Tensor]], lr: float
) -> object:
    try:
        return train(model, batches, lr)
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise WeightsChangedBeforeBackward(error).with_traceback(error.__traceback__) from None


def _batches(run: dict[str, Any], device: torch.device) -> list[Mapping[str, Tensor]]:
    """Return the batches on ``device``: dicts and, in between, what a tokenizer returns."""
    batches = [{key: value.to(device) for key, value in batch.items()} for batch in run["batches"]]
    return [BatchEncoding(batch) if i % 2 else batch for i, batch in enumerate(batches)]


def _arguments(case: dict[str, Any]) -> tuple[Any, ...]:
    """Return a case's arguments: logits, targets or labels, and which to ignore if it is told."""
    order = ("logits", "targets", "labels", "ignore_index")
    return tuple(case[name] for name in order if name in case)


def _tensors_left(loss_of: Callable[..., Any], case: dict[str, Any]) -> dict[str, Tensor]:
    loss_of(*_arguments(case))
    return {name: value for name, value in case.items() if isinstance(value, Tensor)}


def _gradient(loss_of: Callable[..., Any], logits: Tensor, *others: object) -> dict[str, object]:
    logits.requires_grad_()
    loss = loss_of(logits, *others)
    if isinstance(loss, Tensor) and loss.requires_grad and loss.numel() == 1:
        loss.sum().backward()
    return {"loss": loss, "gradient": logits.grad}


class _Calls(TorchFunctionMode):
    """Notes the name of every torch function that is called."""

    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self.names = names

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.names.add(str(getattr(func, "__name__", func)))
        return func(*args, **(kwargs or {}))


class _Kernels(TorchDispatchMode):
    """Notes the name of every operation that reaches the dispatcher."""

    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self.names = names

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))
