"""The scenes of the transformers lab: what the learner's functions are given, what is looked at.

Public and free of answers. Each scene is played with the learner's functions in the sealed process
and with the known mistakes in the judge's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from verify.scene import attempt
from verify.tiny import tiny_model

Exercise = SimpleNamespace
Part = Callable[[Tensor], Tensor]


# ------------------------------------------------------------------------------ names in a model
def blocks(exercise: Exercise, models: list[dict[str, Any]], kinds: list[str]) -> list[Any]:
    """Return the names that `components` gives, for each model and each of ``kinds``, sorted."""
    return [
        attempt(_names_of, exercise.components, model, kind)
        for model in [_model(told) for told in models]
        for kind in kinds
    ]


def projections(exercise: Exercise, models: list[dict[str, Any]]) -> list[Any]:
    """Return the names that `attention_projections` gives for each model, sorted, each once."""
    return [attempt(_distinct, exercise.attention_projections, _model(told)) for told in models]


class Wrapper(nn.Module):
    """A module around another one, as PEFT, `torch.compile` and data parallelism put one there.

    What it does not have itself it takes from inside, so ``wrapper.config`` is the model's.
    """

    def __init__(self, name: str, inner: nn.Module) -> None:
        super().__init__()
        self._modules[name] = inner

    def __getattr__(self, name: str) -> Any:
        """Return a module of its own, or an attribute of the one inside."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            (inner,) = self.__dict__["_modules"].values()
            return getattr(inner, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module inside."""
        (inner,) = self.children()
        return inner(*args, **kwargs)


def _model(told: dict[str, Any]) -> nn.Module:
    """Return a tiny model.

    ``called`` renames layers in its attention, ``norms`` are put beside them, ``inside`` are
    wrappers around it all.
    """
    shape = {key: told[key] for key in ("depth", "heads", "kv_heads")}
    model: nn.Module = tiny_model(told["family"], told["seed"], **shape)
    for layer in model.model.layers:  # type: ignore[union-attr]
        for old, new in told.get("called", {}).items():
            _rename(layer.self_attn, old, new)
        for name in told.get("norms", []):
            layer.self_attn.add_module(name, nn.RMSNorm(layer.self_attn.head_dim))
    for name in reversed(told.get("inside", [])):
        model = Wrapper(name, model)
    return model


def _rename(block: nn.Module, old: str, new: str) -> None:
    """Register a submodule under another name; the block's own code still finds it by the old."""
    submodule = block._modules.pop(old)
    block.add_module(new, submodule)
    block.__dict__[old] = submodule


def _names_of(components: Callable[[nn.Module], Any], model: nn.Module, kind: str) -> object:
    answer = components(model)
    if not isinstance(answer, Mapping):
        return {"returned": answer}
    names = _listed(answer[kind])
    return sorted(names) if _are_texts(names) else names


def _distinct(attention_projections: Callable[[nn.Module], Any], model: nn.Module) -> object:
    names = _listed(attention_projections(model))
    return sorted(set(names)) if _are_texts(names) else names


def _listed(names: Any) -> Any:
    """Return any collection of names as a list; what is none, as it is."""
    return list(names) if isinstance(names, Iterable) and not isinstance(names, str) else names


def _are_texts(names: object) -> bool:
    return isinstance(names, list) and all(type(name) is str for name in names)


# ------------------------------------------------------------------------------------- attention
def attended(exercise: Exercise, cases: list[dict[str, Any]]) -> list[Any]:
    """Return what `causal_attention` gives for each case."""
    return [attempt(_attend, exercise.causal_attention, case["x"], case) for case in cases]


def attended_twice(exercise: Exercise, cases: list[dict[str, Any]]) -> list[Any]:
    """Return for each case what `causal_attention` gives for ``x`` and for ``other``.

    The two differ in one token.
    """
    return [
        [attempt(_attend, exercise.causal_attention, case[x], case) for x in ("x", "other")]
        for case in cases
    ]


def _attend(causal_attention: Callable[..., Any], x: Tensor, case: dict[str, Any]) -> object:
    weights = (case[name].clone() for name in ("wq", "wk", "wv", "wo"))
    return causal_attention(x.clone(), *weights, case["num_heads"], case["num_kv_heads"])


# ------------------------------------------------------------------------------------- the block
def block_outputs(exercise: Exercise, cases: list[dict[str, Tensor]]) -> list[Any]:
    """Return what `decoder_block` gives for each case's ``x`` and four parts."""
    return [attempt(exercise.decoder_block, case["x"], *parts(case)) for case in cases]


def stream_afterwards(exercise: Exercise, case: dict[str, Tensor]) -> Tensor:
    """Return ``x`` as it is after `decoder_block` was called on it."""
    exercise.decoder_block(case["x"], *parts(case))
    return case["x"]


def real_block_output(exercise: Exercise, model: dict[str, Any], x: Tensor) -> object:
    """Return what `decoder_block` makes of ``x`` with the four parts of a real model's layer."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.no_grad():
        whole = layer_model(**model).to(device)  # type: ignore[arg-type]
        return exercise.decoder_block(x.to(device), *layer_parts(whole))


def parts(case: dict[str, Tensor]) -> tuple[Part, Part, Part, Part]:
    """Return an attention, an MLP and two norms: small functions that remember nothing."""

    def attention(x: Tensor) -> Tensor:
        seen = torch.arange(1, x.shape[1] + 1).unsqueeze(-1)
        return (x.cumsum(1) / seen @ case["mixing"]).tanh()  # of this token and the earlier ones

    def mlp(x: Tensor) -> Tensor:
        return (x @ case["up"]).relu() @ case["down"]

    return attention, mlp, _norm(case["scale1"]), _norm(case["scale2"])


def _norm(scale: Tensor) -> Part:
    def norm(x: Tensor) -> Tensor:
        return x * x.square().mean(-1, keepdim=True).rsqrt() * scale

    return norm


def layer_model(family: str, seed: int, **shape: int) -> PreTrainedModel:
    """Return a tiny model on the CPU whose norms differ from each other, as trained ones do."""
    model = tiny_model(family, seed, **shape)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += torch.rand(parameter.shape, generator=generator)
    return model


def layer_parts(model: PreTrainedModel) -> Sequence[Part]:
    """Return the four parts of a model's last layer, each as a function of the stream alone."""
    layer = model.model.layers[-1]

    def attention(x: Tensor) -> Tensor:
        return layer.self_attn(x, angles_for(model, x), None)[0]  # type: ignore[no-any-return]

    return attention, layer.mlp, layer.input_layernorm, layer.post_attention_layernorm


def angles_for(model: PreTrainedModel, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rotary cosines and sines for the positions of ``x``."""
    positions = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
    return model.model.rotary_emb(x, positions)  # type: ignore[no-any-return]
