"""The checks: what each function of the lab must do, shown by values where values can show it."""

from __future__ import annotations

from typing import Any

import scene
import torch
from bitsandbytes.functional import dequantize_blockwise, quantize_blockwise
from torch import Tensor, nn
from torch.nn import functional

from verify.authoring import check
from verify.plain import Raised
from verify.shorten import shorten
from verify.tensors import to_tensor
from verify.trial import Trial

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
RANKS, ALPHAS = [3, 5, 6, 7, 9, 10, 11, 12], [7, 11, 13, 15, 17, 19]
BLOCK = 64  # weights that share a scale in NF4; 256 scales share one in double quantisation
NF4 = torch.tensor(
    [-1.0, -0.6961928, -0.5250730, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
     0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]
)  # fmt: skip
"""QLoRA's 16 values, https://arxiv.org/abs/2305.14314, appendix E."""


# ---------------------------------------------------------------------------------- parameters
@check("trainable_report", review="What is trained, and how much that is")
def parameters_counted(trial: Trial) -> None:
    """`trainable_report` counts the numbers that are trained, and all there are."""
    draw = trial.random
    tied = {**_model(trial, "qwen2"), "tie_word_embeddings": True}
    part = draw.choice(["q_proj", "gate_proj", "layernorm"])
    cases: list[dict[str, Any]] = [
        {"model": tied, "trained": [part, "embed_tokens"]},
        {"model": _model(trial), "trained": ["mlp", "lm_head"]},
        {"model": _model(trial), "trained": []},
        {"model": _model(trial), "trained": [], "adapter": _adapter(trial)},
    ]
    came = trial.observe("reports", cases=cases)
    asked = [
        f"trainable_report({_named(tied)}: {part} and the embeddings, tied to the head, train)",
        f"trainable_report({_named(cases[1]['model'])}: MLP and head train)",
        f"trainable_report({_named(cases[2]['model'])}: all frozen)",
        f"trainable_report({_named(cases[3]['model'])} with an adapter)",
    ]
    why = "Two numbers: what is trained, then all there is, a shared tensor once."
    trial.expect_each(asked, came, [_report(case) for case in cases], why=why, rtol=0, atol=0.5)


@check("trainable_report", review="What is trained, and how much that is",
       after=("parameters_counted",))  # fmt: skip
def packed_weights_counted(trial: Trial) -> None:
    """On a quantised model `trainable_report` counts weights, not the bytes they are packed in."""
    case: dict[str, Any] = {"model": _model(trial, "llama"), "trained": ["lm_head", "norm"]}
    came = trial.observe("packed_report", **case)
    asked = f"trainable_report({_named(case['model'])} with its linear layers in 4 bits)"
    why = "Its 4-bit weights lie two to a byte, and `numel()` sees bytes."
    trial.expect(asked, came, _report(case), why=why, rtol=0, atol=0.5)


# -------------------------------------------------------------------------------- the formula
@check("lora_linear", review="An update of low rank")
def update_added_at_its_scale(trial: Trial) -> None:
    """`lora_linear` is the frozen layer plus alpha / r times what A and B make of the input."""
    cases = _formulas(trial)
    came = trial.observe("lora_outputs", cases=cases)
    asked = [_asked("lora_linear(x, ", case) for case in cases]
    why = "It should be x W^T and alpha / r times what A, then B, make of x."
    _expect_twice(trial, asked, came, [_lora(**case) for case in cases], why)


@check("lora_linear", review="An update of low rank", after=("update_added_at_its_scale",))
def gradients_pass_both_ways(trial: Trial) -> None:
    """Gradients reach A and B through `lora_linear`, and x through layer and adapter alike."""
    cases = _formulas(trial)[1:]
    for case in cases:
        case["slope"] = trial.normal(*case["x"].shape[:-1], case["weight"].shape[0])
    came = trial.observe("lora_gradients", cases=cases)
    asked = [f"{_asked('lora_linear(x, ', case)}, then backward()" for case in cases]
    why = "A frozen weight gets no gradient itself; what lies before it does, through it."
    trial.expect_each(asked, came, [_slopes(**case) for case in cases], why=why)


@check("merge_lora", review="Merging")
def weight_merged(trial: Trial) -> None:
    """`merge_lora` returns the weight with the scaled update added, and leaves its own alone."""
    cases = [{k: v for k, v in case.items() if k != "x"} for case in _formulas(trial)]
    came = trial.observe("merged_weights", cases=cases)
    asked = [_asked("merge_lora(", case) for case in cases]
    why = "It should be W and, once, alpha / r times the product of B and A."
    _expect_twice(trial, asked, came, [_merged(**case) for case in cases], why)


@check("merge_lora", review="Merging", after=("weight_merged",))
def merged_model_answers_alike(trial: Trial) -> None:
    """A model of merged weights gives the logits of the model with the adapter beside them."""
    model, adapter, seed = _model(trial), _adapter(trial), _seed(trial)
    ids = _ids(trial)
    came = trial.observe("merged_logits", model=model, adapter=adapter, seed=seed, ids=ids)
    truth = scene.logits_of(_adapted(model, seed, **adapter), ids)
    asked = f"the logits of {_named(model)} after merge_lora on {_list(adapter['targets'])}"
    trial.expect(asked, came, truth, why="Merging moves the update, it changes no answer.")


# ------------------------------------------------------------------------- adapters on a model
@check("add_lora", review="Which layers", evidence="probe")
def adapters_where_asked(trial: Trial) -> None:
    """After `add_lora` a backward pass reaches an A and a B on every q, k, v and o, no more."""
    inputs = _wrapping(trial)
    came = trial.observe("adapter_sizes", seed=_seed(trial), ids=_ids(trial), **inputs)
    if isinstance(came, Raised):
        trial.fail(_adding(inputs), came)
    for model, told in zip(inputs["models"], came, strict=True):
        asked = _adding(inputs, model)
        _expect_a_model(trial, asked, told)
        why = "What PEFT gives back, and not the model that went in, knows of the adapter."
        came_back = f"came back: a {told['kind']}"
        trial.require(told["kind"] == "PeftModel", asked, came_back, why=why)
        _expect_sizes(trial, asked, told, _sizes(model, inputs["r"]))


@check("add_lora", review="Rank and alpha")
def starts_as_the_base(trial: Trial) -> None:
    """Right after `add_lora` the model answers as it did before."""
    inputs, ids = _wrapping(trial), _ids(trial)
    came = trial.observe("first_logits", ids=ids, **inputs)
    truth = [scene.logits_of(scene.base_model(model), ids) for model in inputs["models"]]
    why = "A fresh adapter must add nothing: training starts from the model as it is."
    _expect_logits(trial, inputs, came, truth, "before training", why)


@check("add_lora", review="Rank and alpha", after=("adapters_where_asked",))
def scaled_by_alpha_over_r(trial: Trial) -> None:
    """With known numbers in A and B, the model answers as the formula says: scale alpha / r."""
    inputs, ids, seed = _wrapping(trial), _ids(trial), _seed(trial)
    came = trial.observe("filled_logits", seed=seed, ids=ids, **inputs)
    truth = [
        scene.logits_of(_adapted(model, seed, ATTENTION, inputs["r"], inputs["alpha"]), ids)
        for model in inputs["models"]
    ]
    why = "A and B hold known numbers, so that the logits show the factor the update got."
    _expect_logits(trial, inputs, came, truth, "with A and B filled", why)


@check("add_lora", review="Adding adapters with PEFT",
       after=("adapters_where_asked", "scaled_by_alpha_over_r"))  # fmt: skip
def base_stays_as_it_is(trial: Trial) -> None:
    """Training moves the adapter alone; every weight of the base is bit for bit what it was."""
    inputs, seed, lr = _wrapping(trial), _seed(trial), trial.random.uniform(0.05, 0.1)
    batches = [_ids(trial) for _ in range(3)]
    came = trial.observe("after_training", seed=seed, batches=batches, lr=lr, **inputs)
    if isinstance(came, Raised):
        trial.fail(_adding(inputs), came)
    for model, told in zip(inputs["models"], came, strict=True):
        asked = f"{_adding(inputs, model)}, then three steps"
        _expect_a_model(trial, asked, told)
        before, after = scene.digests(scene.base_model(model)), told["base"]
        changed = sorted(name for name in before if after.get(name) != before[name])
        new = sorted(set(after) - set(before))
        why = "The base is frozen: other adapters rely on it, and its bits."
        trial.require(not changed, asked, f"of the base, {_some(changed)} changed", why=why)
        trial.require(not new, asked, f"there are parameters of no adapter: {_some(new)}", why=why)
        trusted = _adapted(model, seed, ATTENTION, inputs["r"], inputs["alpha"])
        scene.sgd_steps(trusted, batches, lr)
        truth = scene.logits_of(trusted, batches[0])
        why = "Every A and every B takes the step that its gradient tells it to."
        trial.expect(f"{asked}: the logits", told["logits"], truth, why=why, rtol=1e-3)


@check("add_lora", review="Adding adapters with PEFT", level="advice",
       after=("adapters_where_asked",))  # fmt: skip
def small_steps_count(trial: Trial) -> None:
    """On a bfloat16 base, a step of 1e-5 still moves A and B."""
    model, lr = _model(trial), 1e-5
    r, alpha = _rank_and_alpha(trial)
    given = {"model": model, "r": r, "alpha": alpha, "seed": _seed(trial), "ids": _ids(trial)}
    came = trial.observe("small_step", lr=lr, **given)
    asked = f"add_lora({_named(model)} in bfloat16, r={r}, alpha={alpha}), then a step of {lr:.0e}"
    if not isinstance(came, dict):
        _expect_a_model(trial, asked, came)
    pairs = [[to_tensor(side).float() for side in pair] for pair in came.values()]
    moved = sum(int((before != after).sum()) for before, after in pairs)
    numbers = sum(before.numel() for before, _ in pairs)
    trial.require(
        numbers > 0 and moved > 0.9 * numbers,
        asked,
        f"{moved} of {numbers} numbers in A and B moved",
        why="The others were rounded back to what they were.",
    )


# ----------------------------------------------------------------------------------- four bits
@check("load_4bit", review="QLoRA: the base in four bits", seconds=30.0)
def weights_are_doubly_quantised_nf4(trial: Trial) -> None:
    """`load_4bit` rounds the checkpoint's weights to NF4, and their scales to 8 bits."""
    model, seed = _wide_model(trial), _seed(trial)
    came = trial.observe("four_bit_weights", model=model, seed=seed)
    asked = _loading(model)
    _expect_a_model(trial, asked, came)
    trusted = _rounded_model(model, seed)
    why = "That is not what rounding the checkpoint's weight to doubly quantised NF4 gives."
    for name in scene.packed_names(model["depth"]):
        truth = trusted.get_parameter(f"{name}.weight").detach()
        _expect_weight(trial, f"{asked}: the weight of {name}", came[name], truth, why)


@check("load_4bit", review="QLoRA: the base in four bits", seconds=30.0,
       after=("weights_are_doubly_quantised_nf4",))  # fmt: skip
def products_are_bfloat16(trial: Trial) -> None:
    """The layers that `load_4bit` makes compute in bfloat16; around them is the checkpoint's."""
    model, seed, ids = _wide_model(trial), _seed(trial), _ids(trial)
    x = trial.normal(6, 2 * model["width"])
    came = trial.observe("four_bit_products", model=model, seed=seed, x=x, ids=ids)
    asked = _loading(model)
    _expect_a_model(trial, asked, came)
    trusted = _rounded_model(model, seed)
    for name in scene.packed_names(model["depth"]):
        product = came["products"][name]
        weight = trusted.get_parameter(f"{name}.weight").detach()
        truth = functional.linear(x[:, : weight.shape[1]].bfloat16(), weight.bfloat16())
        question = f"{asked}: what {name} gives for float32 numbers"
        why = "It should be their product in bfloat16."
        trial.expect(question, product, truth.float(), why=why, rtol=0.03)
        y = to_tensor(product)
        short = int((y.bfloat16().float() == y).sum())
        told = f"{short} of {y.numel()} are numbers that bfloat16 has"
        why = "The others were computed in another data type."
        trial.require(short == y.numel(), question, told, why=why)
    logits, truth = to_tensor(came["logits"]), scene.logits_of(trusted, ids)
    trial.require(
        logits.shape == truth.shape and bool((logits - truth).norm() <= 0.2 * truth.norm()),
        f"{asked}: the logits",
        f"came back: {shorten(came['logits'])}",
        why="The layers are right, and what lies around them is not the checkpoint's.",
    )


@check("load_4bit", review="QLoRA: the base in four bits", seconds=30.0, evidence="probe",
       after=("weights_are_doubly_quantised_nf4",))  # fmt: skip
def kept_in_four_bits(trial: Trial) -> None:
    """The weights that `load_4bit` loads are kept packed, two to a byte."""
    model = _wide_model(trial)
    came = trial.observe("four_bit_sizes", model=model, seed=_seed(trial))
    asked = _loading(model)
    _expect_a_model(trial, asked, came)
    base = scene.base_model(model)
    names = scene.packed_names(model["depth"])
    numbers = sum(base.get_parameter(f"{name}.weight").numel() for name in names)
    kept = sum(came[name] for name in names)
    trial.require(
        kept <= 0.6 * numbers,
        asked,
        f"{numbers} weights of linear layers are kept in {kept} bytes",
        why="Rounded weights that are stored in full save nothing.",
    )


# --------------------------------------------------------------------------- saving and loading
@check("save_adapter", review="Saving and loading an adapter")
def adapter_alone_saved(trial: Trial) -> None:
    """`save_adapter` writes the adapter's two files in PEFT's format, and no weight besides."""
    model, adapter, seed = _model(trial), _adapter(trial), _seed(trial)
    came = trial.observe("saved", model=model, adapter=adapter, seed=seed)
    asked = f"save_adapter({_named(model)} with an adapter, directory)"
    if not isinstance(came, dict):
        trial.fail(asked, came)
    for part, name in (("config", scene.CONFIG), ("adapter", scene.WEIGHTS)):
        trial.require(came[part] is not None, asked, f"there is no {name} in it", why=_found(came))
    trial.require(not came["weights"], asked, "it holds other weights too", why=_found(came))
    matrices = scene.matrices_of(scene.base_model(model), adapter["targets"], adapter["r"], seed)
    truth = {scene.saved_name(name): tensor for name, tensor in matrices.items()}
    saved = came["adapter"]
    extra = sorted(set(saved) - set(truth))
    why = "The base is elsewhere already: only what was trained belongs here."
    trial.require(not extra, f"{asked}: {scene.WEIGHTS}", f"it holds {_some(extra)}", why=why)
    missing = f"{len(set(truth) - set(saved))} of {len(truth)} matrices are not in it"
    trial.require(set(saved) == set(truth), f"{asked}: {scene.WEIGHTS}", missing)
    for name, tensor in truth.items():
        trial.expect(f"{asked}: {name}", saved[name], tensor, why="It is not the adapter's.")
    told = {"peft_type": "LORA", "r": adapter["r"], "lora_alpha": adapter["alpha"]}
    told["target_modules"] = sorted(adapter["targets"])
    why = "Without the right rank, alpha and layers the matrices cannot be used."
    trial.expect(f"{asked}: {scene.CONFIG}", came["config"], told, why=why)


@check("load_adapter", review="Saving and loading an adapter", seconds=30.0)
def adapter_on_its_base(trial: Trial) -> None:
    """`load_adapter` gives the base at `base_path` with the saved adapter on it."""
    model, adapter, seed, ids = _model(trial), _adapter(trial), _seed(trial), _ids(trial)
    other = {**model, "seed": _seed(trial)}
    came = trial.observe("loaded", model=model, other=other, adapter=adapter, seed=seed, ids=ids)
    truth = scene.logits_of(_adapted(model, seed, **adapter), ids)
    asked = f"load_adapter(base_path, directory) for {_named(model)}"
    _expect_a_model(trial, asked, came)
    why = "They are not those of this base with this adapter."
    trial.expect(f"{asked}: the logits", came["logits"], truth, why=why)


@check("save_adapter", "load_adapter", review="Saving and loading an adapter", seconds=30.0,
       after=("adapter_alone_saved", "adapter_on_its_base"))  # fmt: skip
def reloaded_equals_saved(trial: Trial) -> None:
    """What `save_adapter` wrote and `load_adapter` read answers as the model did before."""
    model, adapter, seed, ids = _model(trial), _adapter(trial), _seed(trial), _ids(trial)
    came = trial.observe("reloaded", model=model, adapter=adapter, seed=seed, ids=ids)
    truth = scene.logits_of(_adapted(model, seed, **adapter), ids)
    asked = f"save_adapter, then load_adapter, for {_named(model)}"
    _expect_a_model(trial, asked, came)
    why = "They are not those of the model that was saved."
    trial.expect(f"{asked}: the logits", came["logits"], truth, why=why)


# ------------------------------------------------------------------------------------- drawing
def _seed(trial: Trial) -> int:
    return trial.random.getrandbits(31)


def _ids(trial: Trial) -> Tensor:
    return trial.integers(3, scene.VOCABULARY, 2, trial.random.randint(8, 12))


def _model(trial: Trial, *families: str) -> dict[str, Any]:
    """Draw what makes a model; heads are grouped and the layers more than two."""
    draw = trial.random
    heads, kv_heads = draw.choice([(4, 2), (6, 2), (6, 3), (8, 2), (8, 4)])
    return {
        "family": draw.choice(families or ("llama", "mistral", "qwen2")),
        "seed": _seed(trial),
        "depth": draw.randint(3, 4),
        "width": 8 * heads,
        "heads": heads,
        "kv_heads": kv_heads,
    }


def _wide_model(trial: Trial) -> dict[str, Any]:
    """Draw a model to be quantised: every row of its weights is whole blocks."""
    model = {**_model(trial, "llama", "mistral"), "depth": trial.random.randint(2, 3)}
    return {**model, "width": BLOCK, "heads": 4, "kv_heads": 2}


def _rank_and_alpha(trial: Trial) -> tuple[int, int]:
    """Draw a rank and an alpha that no default is, and neither the other, nor twice it."""
    r = trial.random.choice(RANKS)
    return r, trial.random.choice([alpha for alpha in ALPHAS if alpha != r])


def _adapter(trial: Trial) -> dict[str, Any]:
    r, alpha = _rank_and_alpha(trial)
    targets = sorted(trial.random.sample(scene.LINEAR, 3))
    return {"targets": targets, "r": r, "alpha": alpha}


def _wrapping(trial: Trial) -> dict[str, Any]:
    """Draw two models, one of them with biases, and the rank and alpha to be put on them."""
    r, alpha = _rank_and_alpha(trial)
    models = [_model(trial, "qwen2"), _model(trial, "llama", "mistral")]
    return {"models": models, "r": r, "alpha": alpha}


def _formulas(trial: Trial) -> list[dict[str, Any]]:
    """Draw x, W, A, B and alpha: a square weight, then two that are not, one wide and one tall."""
    cases = []
    ranks = trial.random.sample(range(2, 8), 3)  # no two, so that no two scales agree thrice
    sizes = trial.random.sample([0.4, 1.6, 2.4], 3)  # of alpha / r, likewise
    for taller, r, size in zip((0, -3, 4), ranks, sizes, strict=True):
        width = trial.random.randint(9, 13)
        batch = [trial.random.randint(2, 4) for _ in range(trial.random.randint(1, 2))]
        cases.append({
            "x": trial.normal(*batch, width),
            "weight": trial.normal(width + taller, width),
            "A": trial.normal(r, width),
            "B": trial.normal(width + taller, r),
            "alpha": r * size * trial.random.uniform(1, 1.3),
        })  # fmt: skip
    return cases


# --------------------------------------------------------------------------------- the truth
class Lora(nn.Module):
    """A frozen linear layer with an update beside it, by the formula and without PEFT."""

    def __init__(self, layer: nn.Linear, A: Tensor, B: Tensor, scale: float) -> None:
        super().__init__()
        self.layer, self.scale = layer, scale
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b + scale B A x for every row of ``x``."""
        y: Tensor = self.layer(x)
        return y + self.scale * functional.linear(functional.linear(x, self.A), self.B)


def _adapted(model: dict[str, Any], seed: int, targets: list[str], r: int, alpha: int) -> nn.Module:
    """Return the model, frozen, with a filled adapter on the layers named ``targets``."""
    base = scene.base_model(model).requires_grad_(requires_grad=False)
    matrices = scene.matrices_of(base, targets, r, seed)
    for name, layer in scene.layers_of(base, targets).items():
        lora = Lora(layer, matrices[f"{name}.A"], matrices[f"{name}.B"], alpha / r)
        base.set_submodule(name, lora)
    return base


def _report(case: dict[str, Any]) -> list[int]:
    """Return the numbers that are trained and all there are, of one case of the scene."""
    model = scene.reported_model(**case)
    sizes = {id(p): (p.numel(), p.requires_grad) for p in model.parameters()}
    return [sum(n for n, trained in sizes.values() if trained), sum(n for n, _ in sizes.values())]


def _merged(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    return weight.double() + torch.einsum("or,ri->oi", B.double(), A.double()) * alpha / len(A)


def _lora(x: Tensor, weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    return functional.linear(x.double(), _merged(weight, A, B, alpha))


def _slopes(
    x: Tensor, weight: Tensor, A: Tensor, B: Tensor, alpha: float, slope: Tensor
) -> dict[str, Tensor]:
    """Return the gradients of x, A and B when ``slope`` is that of the output."""
    product = torch.einsum("...o,...i->oi", slope.double(), x.double()) * alpha / len(A)
    return {
        "x": slope.double() @ _merged(weight, A, B, alpha),
        "A": B.double().T @ product,
        "B": product @ A.double().T,
    }


def _sizes(model: dict[str, Any], r: int) -> dict[str, list[int]]:
    """Return the shapes of the matrices A and B that are asked for, by name."""
    told: dict[str, list[int]] = {}
    for name, layer in scene.layers_of(scene.base_model(model), ATTENTION).items():
        told |= {f"{name}.A": [r, layer.in_features], f"{name}.B": [layer.out_features, r]}
    return told


def nf4_round_trip(weight: Tensor) -> Tensor:
    """Return a float32 weight as doubly quantised NF4 keeps it.

    Each block of 64 weights is divided by its largest size, its scale, and rounded to the nearest
    of the 16 values. The scales, less their mean, are kept in 8 bits (QLoRA, section 3).
    """
    blocks = weight.reshape(-1, BLOCK)
    scales = blocks.abs().amax(dim=1)
    codes = torch.bucketize(blocks / scales[:, None], (NF4[1:] + NF4[:-1]) / 2)
    offset = scales.mean()
    scales = dequantize_blockwise(*quantize_blockwise(scales - offset, blocksize=256)) + offset
    return (NF4[codes] * scales[:, None]).reshape(weight.shape)


def _rounded_model(model: dict[str, Any], seed: int) -> nn.Module:
    """Return the checkpoint's model in float32, its linear layers rounded as QLoRA does."""
    trusted: nn.Module = scene.uneven_model(model, seed).float()
    for layer in scene.layers_of(trusted, scene.LINEAR).values():
        layer.weight.data = nf4_round_trip(layer.weight.data)
    return trusted


# --------------------------------------------------------------------------------- the verdict
def _expect_a_model(trial: Trial, asked: str, came: Any) -> None:
    if isinstance(came, Raised) and came.type == "NotAModel":
        why = "What comes after works with the model that is returned."
        trial.require(False, asked, f"came back: {came.text}, which is no model", why=why)
    if not isinstance(came, dict):
        trial.fail(asked, came)


def _expect_twice(trial: Trial, asked: list[str], came: Any, truth: list[Tensor], why: str) -> None:
    """Raise `Failure` unless each call gave the truth, and the same call gave it again."""
    if isinstance(came, Raised):
        trial.fail(asked[0], came)
    for question, answers, true in zip(asked, came, truth, strict=True):
        if isinstance(answers, Raised):
            trial.fail(question, answers)
        first, second = answers
        trial.expect(question, first, true, why=why)
        again = "The first call was right, and left its tensors changed."
        trial.expect(f"{question}, called again", second, true, why=again)


def _expect_sizes(trial: Trial, asked: str, told: dict[str, Any], truth: dict[str, Any]) -> None:
    """Raise `Failure` unless A and B of the right shapes, and nothing else, get a gradient."""
    others, adapters = told["others"], told["adapters"]
    why = "Only the adapter is to be trained, and all of it."
    trial.require(not others, asked, f"there is a gradient on {_some(others)}", why=why)
    layers = {name.rpartition(".")[0] for name in adapters}
    leaves = {layer.rpartition(".")[2] for layer in layers}
    where = f"a gradient reaches adapters on {_list(sorted(leaves))} ({len(layers)} layers)"
    where = where if layers else "no gradient reaches any adapter"
    trial.require(set(adapters) == set(truth), asked, where, why="Asked for are q, k, v and o.")
    for name, shape in adapters.items():
        came = f"{name} is of shape {tuple(shape)}"
        trial.require(shape == truth[name], asked, came, why="A has r rows, B has r columns.")


def _expect_logits(
    trial: Trial, inputs: dict[str, Any], came: Any, truth: list[Tensor], when: str, why: str
) -> None:
    if isinstance(came, Raised):
        trial.fail(_adding(inputs), came)
    for model, logits, true in zip(inputs["models"], came, truth, strict=True):
        asked = _adding(inputs, model)
        if isinstance(logits, Raised):
            _expect_a_model(trial, asked, logits)
        trial.expect(f"{asked}: the logits {when}", logits, true, why=why)


def _expect_weight(trial: Trial, asked: str, came: Any, truth: Tensor, why: str) -> None:
    """Raise `Failure` unless ``came`` is ``truth`` to a hundredth of each block's scale.

    A weight half way between two values may be rounded to either; there are few of them.
    """
    weight = to_tensor(came).float()
    right = weight.shape == truth.shape
    trial.require(right, asked, f"is of shape {tuple(weight.shape)}", why=why)
    scales = truth.reshape(-1, BLOCK).abs().amax(dim=1, keepdim=True)
    off = ((weight - truth).reshape(-1, BLOCK).abs() > 0.01 * scales).float().mean()
    told = f"{float(off):.0%} of its numbers are off by over a hundredth of their block's largest"
    trial.require(float(off) <= 0.005, asked, told, why=why)


# ----------------------------------------------------------------------------------- the words
def _named(model: dict[str, Any]) -> str:
    return f"a {model['family']} of {model['depth']} layers"


def _adding(inputs: dict[str, Any], model: dict[str, Any] | None = None) -> str:
    named = _named(model) if model else "model"
    return f"add_lora({named}, r={inputs['r']}, alpha={inputs['alpha']})"


def _loading(model: dict[str, Any]) -> str:
    return f"load_4bit(path) of {_named(model)}"


def _asked(call: str, case: dict[str, Any]) -> str:
    out, width = case["weight"].shape
    given = f"for W ({out}, {width}) and r = {len(case['A'])}"
    return f"{call}weight, A, B, alpha={case['alpha']:.3g}) {given}"


def _some(names: list[str]) -> str:
    return " and ".join(names[:1] + [f"{len(names) - 1} more"] * (len(names) > 1))


def _list(names: list[str]) -> str:
    return ", ".join(names)


def _found(came: dict[str, Any]) -> str:
    """Return a sentence on what else is in the folder."""
    told = [f"{kind} file with {len(shapes)} tensors" for kind, shapes in came["weights"]]
    told += came["others"]
    return f"Found instead: {_list(told)}." if told else "Nothing else is there."
