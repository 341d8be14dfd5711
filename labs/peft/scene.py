"""What the exercise's functions are put into, and what is read off afterwards. No answers here."""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn.modules import LinearNF4, Params4bit
from peft import LoraConfig, PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from verify.scene import attempt
from verify.tensors import plain
from verify.tiny import tiny_model

VOCABULARY = 48
SIZE = 0.15  # of the numbers in a filled adapter: its update is about as large as the weights
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = [*PROJECTIONS, "gate_proj", "up_proj", "down_proj"]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # PEFT's names
FIELDS = ("peft_type", "r", "lora_alpha", "target_modules")

logging.disable_progress_bar()
logging.set_verbosity_error()
warnings.filterwarnings("ignore", module=r"(peft|transformers)\.")  # about each other, not the code


class ShapesDoNotFit(RuntimeError):
    """Torch's complaint about two matrices, by a name."""


class NotAModel(TypeError):
    """Something else came back where a model was asked for."""


# --------------------------------------------------------------------------------- base models
def device() -> str:
    """Return where models and their batches live here."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def base_model(model: dict[str, Any]) -> PreTrainedModel:
    """Return the model that `verify.tiny.tiny_model` makes of these arguments, on the CPU."""
    return tiny_model(**model, vocabulary=VOCABULARY)


def drawn(seed: int, name: str, *shape: int) -> Tensor:
    """Return the numbers that ``seed`` gives the matrix of this name and shape, float32."""
    digest = hashlib.sha256(f"{seed}/{name}/{shape}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randn(*shape, generator=generator) * SIZE


def layers_of(model: nn.Module, leaves: list[str]) -> dict[str, nn.Linear]:
    """Return the linear layers whose name ends in one of ``leaves``, by their dotted names."""
    return {
        name: module
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in leaves and isinstance(module, nn.Linear)
    }


def logits_of(model: Any, ids: Tensor) -> Tensor:
    """Return the logits for ``ids`` in float32, from the model in evaluation mode."""
    model.eval()
    place = next(model.parameters()).device
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids.to(place)).logits
    return logits.float()


def _model(given: Any) -> Any:
    if not isinstance(given, nn.Module):
        raise NotAModel(type(given).__name__)
    return given


# ---------------------------------------------------------------------------------- parameters
def reports(exercise: Any, cases: list[dict[str, Any]]) -> list[object]:
    """Return what `trainable_report` gives for each model."""
    return [attempt(exercise.trainable_report, reported_model(**case)) for case in cases]


def reported_model(
    model: dict[str, Any], trained: list[str], adapter: dict[str, Any] | None = None
) -> nn.Module:
    """Return a model whose parameters are trained if ``trained`` names a part of their name.

    With ``adapter`` it has one instead, and PEFT has decided what is trained.
    """
    base = base_model(model)
    if adapter is not None:
        return with_adapter(base, **adapter)
    for name, parameter in base.named_parameters():
        parameter.requires_grad_(any(part in name for part in trained))
    return base


def packed_report(exercise: Any, model: dict[str, Any], trained: list[str]) -> object:
    """Return what `trainable_report` gives for a model whose linear layers are 4-bit."""
    base = reported_model(model, trained)
    for name, layer in layers_of(base, LINEAR).items():
        packed = LinearNF4(layer.in_features, layer.out_features, bias=False)
        packed.weight = Params4bit(layer.weight.data, quant_type="nf4")
        base.set_submodule(name, packed.to(device()))
    vars(base)["is_loaded_in_4bit"] = True  # as `from_pretrained` marks it
    return attempt(exercise.trainable_report, base)


def with_adapter(base: PreTrainedModel, targets: list[str], r: int, alpha: int) -> PeftModel:
    """Return ``base`` with an adapter of PEFT's own making on the layers named ``targets``."""
    return PeftModel(base, LoraConfig(r=r, lora_alpha=alpha, target_modules=list(targets)))


# -------------------------------------------------------------------------------- the formula
def lora_outputs(exercise: Any, cases: list[dict[str, Any]]) -> list[object]:
    """Return what `lora_linear` gives for each case, asked twice with the same tensors."""
    return [attempt(_twice, exercise.lora_linear, _arguments(case, "x")) for case in cases]


def merged_weights(exercise: Any, cases: list[dict[str, Any]]) -> list[object]:
    """Return what `merge_lora` gives for each case, asked twice with the same tensors."""
    return [attempt(_twice, exercise.merge_lora, _arguments(case)) for case in cases]


def lora_gradients(exercise: Any, cases: list[dict[str, Any]]) -> list[object]:
    """Return the gradients of x, A and B after a backward pass through `lora_linear`.

    ``slope`` is the gradient that arrives at its output; the weight is frozen.
    """
    return [attempt(_gradients, exercise.lora_linear, case) for case in cases]


def merged_logits(
    exercise: Any, model: dict[str, Any], adapter: dict[str, Any], seed: int, ids: Tensor
) -> Tensor:
    """Return the logits of a model whose weights `merge_lora` replaced, where an adapter was."""
    base: nn.Module = base_model(model)
    matrices = matrices_of(base, adapter["targets"], adapter["r"], seed)
    for name, layer in layers_of(base, adapter["targets"]).items():
        A, B = matrices[f"{name}.A"], matrices[f"{name}.B"]
        merged = _fitting(
            exercise.merge_lora, layer.weight.detach().clone(), A, B, adapter["alpha"]
        )
        layer.weight = nn.Parameter(merged.to(layer.weight.dtype))
    return logits_of(base.to(device()), ids)


def _arguments(case: dict[str, Any], *first: str) -> list[Any]:
    return [case[name] for name in (*first, "weight", "A", "B", "alpha")]


def _twice(function: Callable[..., Any], arguments: list[Any]) -> list[object]:
    first = plain(_fitting(function, *arguments))  # a copy: the second call may change it
    return [first, _fitting(function, *arguments)]


def _fitting(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call; that matrices do not fit is told in the same words, however they were multiplied."""
    try:
        return function(*arguments)
    except RuntimeError as error:
        if not any(word in str(error) for word in ("shape", "size", "must match")):
            raise
        told = ShapesDoNotFit("the shapes of two matrices do not fit together")
        raise told.with_traceback(error.__traceback__) from None


def _gradients(function: Callable[..., Any], case: dict[str, Any]) -> dict[str, object]:
    for name in ("x", "A", "B"):
        case[name].requires_grad_()
    y = function(*_arguments(case, "x"))
    if isinstance(y, Tensor) and y.requires_grad:
        (y * case["slope"]).sum().backward()
    return {name: case[name].grad for name in ("x", "A", "B")}


# ------------------------------------------------------------------------- adapters on a model
def adapter_sizes(
    exercise: Any, models: list[dict[str, Any]], r: int, alpha: int, seed: int, ids: Tensor
) -> list[object]:
    """Return for each model what `add_lora` gave: its kind, and what then gets a gradient.

    ``adapters`` are the shapes of the matrices A and B, by name; ``others`` is all else that gets
    a gradient. The adapter was filled before.
    """

    def one(model: dict[str, Any]) -> dict[str, object]:
        adapted = _filled(exercise, model, r, alpha, seed)
        backward(adapted, ids)
        trained = [(*path_of(n), p) for n, p in adapted.named_parameters() if p.grad is not None]
        wrapped = isinstance(adapted, PeftModel)
        return {
            "kind": "PeftModel" if wrapped else type(adapted).__name__,
            "adapters": {f"{path}.{m}": list(p.shape) for path, m, p in trained if m},
            "others": [path for path, matrix, _ in trained if not matrix],
        }

    return [attempt(one, model) for model in models]


def first_logits(
    exercise: Any, models: list[dict[str, Any]], r: int, alpha: int, ids: Tensor
) -> list[object]:
    """Return the logits of each model as `add_lora` gave it."""
    return [attempt(lambda m: logits_of(_added(exercise, m, r, alpha), ids), m) for m in models]


def filled_logits(
    exercise: Any, models: list[dict[str, Any]], r: int, alpha: int, seed: int, ids: Tensor
) -> list[object]:
    """Return the logits of each model after every A and B got the numbers that `drawn` gives."""

    def one(model: dict[str, Any]) -> Tensor:
        return logits_of(_filled(exercise, model, r, alpha, seed), ids)

    return [attempt(one, model) for model in models]


def after_training(
    exercise: Any, models: list[dict[str, Any]], r: int, alpha: int, seed: int,
    batches: list[Tensor], lr: float,
) -> list[object]:  # fmt: skip
    """Train what is trainable, from a filled adapter, by a step of SGD for each batch.

    Returns:
        For each model its logits for the first batch, and digests of the base's parameters.
    """

    def one(model: dict[str, Any]) -> dict[str, object]:
        adapted = _filled(exercise, model, r, alpha, seed)
        sgd_steps(adapted, batches, lr)
        return {"logits": logits_of(adapted, batches[0]), "base": digests(adapted)}

    return [attempt(one, model) for model in models]


def small_step(
    exercise: Any, model: dict[str, Any], r: int, alpha: int, seed: int, ids: Tensor, lr: float
) -> dict[str, list[Tensor]]:
    """Return every A and B on a bfloat16 base before and after one step of AdamW at ``lr``."""
    adapted = _filled(exercise, model, r, alpha, seed, torch.bfloat16)
    mine = {n: p for n, p in adapted.named_parameters() if path_of(n)[1]}
    before = {n: p.detach().clone() for n, p in mine.items()}
    optimizer = torch.optim.AdamW(adapted.parameters(), lr=lr)
    backward(adapted, ids)
    optimizer.step()
    return {".".join(path_of(n)): [before[n], p] for n, p in mine.items()}


def sgd_steps(model: nn.Module, batches: list[Tensor], lr: float) -> None:
    """Take a step of plain gradient descent for each batch; what is frozen stays as it is."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for ids in batches:
        optimizer.zero_grad()
        backward(model, ids)
        optimizer.step()


def backward(model: Any, ids: Tensor) -> None:
    """Learn ``ids`` by heart: leave the gradients. In evaluation mode, so without dropout."""
    model.eval()
    ids = ids.to(next(model.parameters()).device)
    loss = model(input_ids=ids, labels=ids).loss
    if loss.requires_grad:
        loss.backward()


def path_of(name: str) -> tuple[str, str]:
    """Return a parameter's name without what PEFT puts around it, and "A" or "B" (or "")."""
    name = name.removeprefix("base_model.model.")
    for matrix in ("A", "B"):
        path, found, _ = name.partition(f".lora_{matrix}.")
        if found:
            return path, matrix
    return name.replace(".base_layer", ""), ""


def digests(model: nn.Module) -> dict[str, str]:
    """Return a digest of every parameter's bits, those of an adapter excepted, by name."""
    told = {}
    for name, parameter in model.named_parameters():
        path, matrix = path_of(name)
        if not matrix:
            bits = parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            told[path] = hashlib.sha256(bits).hexdigest()[:16]
    return told


def fill(model: nn.Module, seed: int) -> None:
    """Give every A and B of a model's adapter the numbers that `drawn` gives."""
    for name, parameter in model.named_parameters():
        path, matrix = path_of(name)
        if matrix:
            parameter.data.copy_(drawn(seed, f"{path}.{matrix}", *parameter.shape))


def _added(
    exercise: Any, model: dict[str, Any], r: int, alpha: int, dtype: torch.dtype = torch.float32
) -> Any:
    base: nn.Module = base_model(model)
    return _model(exercise.add_lora(base.to(device(), dtype), r, alpha))


def _filled(
    exercise: Any, model: dict[str, Any], r: int, alpha: int, seed: int, *dtype: torch.dtype
) -> Any:
    adapted = _added(exercise, model, r, alpha, *dtype)
    fill(adapted, seed)
    return adapted


# ----------------------------------------------------------------------------------- four bits
def four_bit_weights(exercise: Any, model: dict[str, Any], seed: int) -> dict[str, Tensor]:
    """Load a checkpoint by `load_4bit`; return what its layers do to unit vectors, in bfloat16.

    That is a layer's weight as it computes with it, whatever it computes in.
    """
    loaded = _loaded_4bit(exercise, model, seed)
    return {
        name: _given(layer, torch.eye(layer.in_features)).T.bfloat16()
        for name, layer in _packed(loaded)
    }


def four_bit_products(
    exercise: Any, model: dict[str, Any], seed: int, x: Tensor, ids: Tensor
) -> dict[str, object]:
    """Load a checkpoint by `load_4bit`; return what its layers give for float32 ``x``.

    And the logits of the whole model for ``ids``.
    """
    loaded = _loaded_4bit(exercise, model, seed)
    products = {name: _given(layer, x[:, : layer.in_features]) for name, layer in _packed(loaded)}
    with torch.no_grad():
        logits = loaded(input_ids=ids.to(next(loaded.parameters()).device)).logits
    return {"products": products, "logits": logits.float()}


def four_bit_sizes(exercise: Any, model: dict[str, Any], seed: int) -> dict[str, int]:
    """Load a checkpoint by `load_4bit`; return the bytes that each layer's weight is kept in."""
    loaded = _loaded_4bit(exercise, model, seed)
    return {n: layer.weight.numel() * layer.weight.element_size() for n, layer in _packed(loaded)}


def uneven_model(model: dict[str, Any], seed: int) -> PreTrainedModel:
    """Return a bfloat16 model; the rows of its weights differ in size, up to thirtyfold."""
    base = base_model(model)
    base.to(torch.bfloat16)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    for layer in layers_of(base, LINEAR).values():
        sizes = 10 ** (1.5 * torch.rand(layer.out_features, 1, generator=generator) - 1)
        layer.weight.data.mul_(sizes)
    return base


def _loaded_4bit(exercise: Any, model: dict[str, Any], seed: int) -> Any:
    """Return the loaded model in train mode: in the other, some CPUs repack a layer's weights."""
    with tempfile.TemporaryDirectory() as folder:
        uneven_model(model, seed).save_pretrained(folder)
        return _model(exercise.load_4bit(folder)).train()


def packed_names(depth: int) -> list[str]:
    """Return the names of the linear layers in the first and the last of ``depth`` layers."""
    inside = [f"self_attn.{leaf}" if leaf in PROJECTIONS else f"mlp.{leaf}" for leaf in LINEAR]
    return [f"model.layers.{number}.{name}" for number in (0, depth - 1) for name in inside]


def _packed(loaded: Any) -> Iterator[tuple[str, Any]]:
    for name in packed_names(loaded.config.num_hidden_layers):
        yield name, loaded.get_submodule(name)


def _given(layer: Any, x: Tensor) -> Tensor:
    """Return what a layer gives for float32 ``x``; one that is not packed wants its own dtype."""
    weight = layer.weight
    x = x.to(weight.device, weight.dtype if weight.is_floating_point() else x.dtype)
    with torch.no_grad():
        y: Tensor = layer(x)
    return y.float()


# --------------------------------------------------------------------------- saving and loading
def saved(
    exercise: Any, model: dict[str, Any], adapter: dict[str, Any], seed: int
) -> dict[str, object]:
    """Fill an adapter, hand the model to `save_adapter` and return what is in the folder then."""
    adapted = with_adapter(base_model(model), **adapter)
    fill(adapted, seed)
    with tempfile.TemporaryDirectory() as folder:
        exercise.save_adapter(adapted, folder)
        return contents(Path(folder))


def loaded(
    exercise: Any, model: dict[str, Any], other: dict[str, Any], adapter: dict[str, Any],
    seed: int, ids: Tensor,
) -> dict[str, object]:  # fmt: skip
    """Write a base, another base and an adapter; return what `load_adapter` makes of them.

    The adapter's configuration names the other base, as if that had taken the first one's place.

    Returns:
        The logits, and how many matrices A and B the model has, and how many not all zero.
    """
    with tempfile.TemporaryDirectory() as folder:
        base_path, elsewhere, directory = (str(Path(folder, name)) for name in "123")
        base = base_model(model)
        base.save_pretrained(base_path)
        base_model(other).save_pretrained(elsewhere)
        write_adapter(base, Path(directory), elsewhere, seed, **adapter)
        return _measured(exercise.load_adapter(base_path, directory), ids)


def reloaded(
    exercise: Any, model: dict[str, Any], adapter: dict[str, Any], seed: int, ids: Tensor
) -> dict[str, object]:
    """Save a filled adapter by `save_adapter` and load it by `load_adapter`; see `loaded`."""
    with tempfile.TemporaryDirectory() as base_path, tempfile.TemporaryDirectory() as directory:
        base = base_model(model)
        base.save_pretrained(base_path)
        adapted = with_adapter(base, **adapter)
        fill(adapted, seed)
        exercise.save_adapter(adapted, directory)
        return _measured(exercise.load_adapter(base_path, directory), ids)


def matrices_of(base: nn.Module, targets: list[str], r: int, seed: int) -> dict[str, Tensor]:
    """Return the matrices of a filled adapter: ``<layer>.A`` (r, in) and ``<layer>.B`` (out, r)."""
    told = {}
    for name, layer in layers_of(base, targets).items():
        told[f"{name}.A"] = drawn(seed, f"{name}.A", r, layer.in_features)
        told[f"{name}.B"] = drawn(seed, f"{name}.B", layer.out_features, r)
    return told


def write_adapter(
    base: nn.Module, folder: Path, trained_on: str, seed: int,
    targets: list[str], r: int, alpha: int,
) -> None:  # fmt: skip
    """Write the two files of a filled adapter."""
    folder.mkdir()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": r,
        "lora_alpha": alpha,
        "target_modules": targets,
        "base_model_name_or_path": trained_on,
    }
    (folder / CONFIG).write_text(json.dumps(config))
    matrices = matrices_of(base, targets, r, seed)
    tensors = {saved_name(name): tensor for name, tensor in matrices.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def saved_name(name: str) -> str:
    """Return the name that a matrix has in an adapter's file, for instance for ``<layer>.A``."""
    path, _, matrix = name.rpartition(".")
    return f"base_model.model.{path}.lora_{matrix}.weight"


def contents(folder: Path) -> dict[str, object]:
    """Return what is in a folder: the two files of an adapter, and what else there is.

    ``weights`` are the kind and the shapes of every other file of tensors, whatever its name;
    ``others`` are the names of the rest. Notes (``.md``) are left out.
    """
    config, adapter = folder / CONFIG, folder / WEIGHTS
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")
    rest = {file: _tensors(file) for file in files if file not in (config, adapter)}
    return {
        "config": _configuration(config) if config.is_file() else None,
        "adapter": load_file(adapter) if adapter.is_file() else None,
        "weights": [told for told in rest.values() if told is not None],
        "others": [str(file.relative_to(folder)) for file, told in rest.items() if told is None],
    }


def _configuration(file: Path) -> dict[str, object]:
    told = json.loads(file.read_text())
    fields = {name: told.get(name) if isinstance(told, dict) else None for name in FIELDS}
    return {n: sorted(value) if isinstance(value, list) else value for n, value in fields.items()}


def _tensors(file: Path) -> list[object] | None:
    """Return a file's kind and its tensors' shapes by name, or sizes; None if it holds none."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as opened:
            names = sorted(opened.keys())
            return ["safetensors", {n: list(opened.get_slice(n).get_shape()) for n in names}]
    if file.suffix in (".json", ".txt"):
        return None
    try:  # what `torch.save` writes is an archive; it is looked at, never loaded
        with zipfile.ZipFile(file) as archive:
            sizes = [it.file_size for it in archive.infolist() if "/data/" in it.filename]
    except zipfile.BadZipFile:
        return ["another format", []]
    return ["torch.save", sorted(sizes)]


def _measured(model: Any, ids: Tensor) -> dict[str, object]:
    model = _model(model).to(device())
    matrices = [p for name, p in model.named_parameters() if path_of(name)[1]]
    filled = sum(bool(matrix.any()) for matrix in matrices)
    return {"logits": logits_of(model, ids), "matrices": len(matrices), "filled": filled}
