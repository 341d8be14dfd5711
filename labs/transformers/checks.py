"""The checks of the transformers lab: names from the models' making, values by torch in float64."""

from __future__ import annotations

from typing import Any

import scene
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from verify.authoring import check
from verify.compare import ATOL, RTOL, same
from verify.plain import Array, Plain, Raised
from verify.shorten import shorten
from verify.tensors import plain, to_tensor
from verify.trial import Trial

FAMILIES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "phi3": "Phi-3"}
IN_A_LAYER = {
    "attention": ("self_attn",),
    "mlp": ("mlp",),
    "norm": ("input_layernorm", "post_attention_layernorm"),
}
WORDS = {  # one of them, all of them
    "attention": ("the dotted name of an attention block of this model", "attention blocks"),
    "mlp": ("the dotted name of an MLP block of this model", "MLP blocks"),
    "norm": ("the dotted name of a norm of this model", "norms"),
}
FUSED, SEPARATE = ("qkv_proj", "o_proj"), ("q_proj", "k_proj", "v_proj", "o_proj")
OTHER_FUSED = (
    ("query_key_value", "dense"),  # as in GPT-NeoX and Falcon
    ("Wqkv", "out"),
    ("c_attn", "c_out"),
    ("wqkv", "wo"),
    ("pack", "merge"),
)
OTHER_SEPARATE = (
    ("query", "key", "value", "dense"),
    ("wq", "wk", "wv", "wo"),
    ("q", "k", "v", "o"),
    ("to_q", "to_k", "to_v", "to_out"),
    ("q_lin", "k_lin", "v_lin", "out_lin"),
)
INNER_NORMS = (  # of queries and keys, by head
    ("q_norm", "k_norm"),  # as in Qwen3 and Gemma 3
    ("q_layernorm", "k_layernorm"),
    ("query_norm", "key_norm"),
)
WRAPPERS = ("module", "_orig_mod", "base_model", "backbone", "policy", "student")
WRONG_AT_0 = (
    "Position 0 sees itself alone, whatever its scores are: look at values, heads and `wo`, or at "
    "whether it sees more than itself."
)
WRONG_LATER = (
    "Position 0, which sees itself alone, is right: look at queries, keys, scale, mask and softmax."
)
GROUPED = ((4, 2), (6, 2), (6, 3), (8, 2), (8, 4))  # heads, kv heads: 1 < kv heads < heads


# ------------------------------------------------------------------------------ names in a model
@check("components", review="Finding the parts by name")
def attention_blocks_named(trial: Trial) -> None:
    """`components` names the attention block of every layer, in four families of models."""
    _blocks_named(trial, "attention")


@check("components", review="Finding the parts by name", after=("attention_blocks_named",))
def mlp_blocks_named(trial: Trial) -> None:
    """`components` names the MLP block of every layer, in four families of models."""
    _blocks_named(trial, "mlp")


@check("components", review="Finding the parts by name", after=("attention_blocks_named",))
def every_norm_named(trial: Trial) -> None:
    """`components` names every norm, those of the layers and the final one."""
    _blocks_named(trial, "norm")


@check(
    "components",
    review="Finding the parts by name",
    after=("mlp_blocks_named", "every_norm_named"),
)
def named_inside_a_wrapper(trial: Trial) -> None:
    """`components` gives names that hold where the decoder sits inside another module."""
    models = _models(trial)[:2]
    for model, depth in zip(models, (1, 2), strict=True):
        model["inside"] = trial.random.sample(WRAPPERS, depth)
    came = trial.observe("blocks", models=models, kinds=list(IN_A_LAYER))
    _expect_names(trial, came, models, list(IN_A_LAYER))


@check("attention_projections", review="Finding the parts by name")
def projections_named(trial: Trial) -> None:
    """`attention_projections` names the linear layers of the attention, fused ones included."""
    models = _models(trial)
    came = trial.observe("projections", models=models)
    truths = [list(FUSED if model["family"] == "phi3" else SEPARATE) for model in models]
    _expect_projections(trial, came, models, truths)


@check("attention_projections", review="Finding the parts by name", after=("projections_named",))
def projections_named_otherwise(trial: Trial) -> None:
    """`attention_projections` finds these layers, and no others, in the way of other families."""
    models, truths = [], []
    for model in sorted(_models(trial), key=lambda model: model["family"] != "phi3")[:2]:
        fused = model["family"] == "phi3"
        names = trial.random.choice(OTHER_FUSED if fused else OTHER_SEPARATE)
        model["called"] = dict(zip(FUSED if fused else SEPARATE, names, strict=True))
        model["norms"] = list(trial.random.choice(INNER_NORMS))
        models.append(model)
        truths.append(list(names))
    came = trial.observe("projections", models=models)
    _expect_projections(trial, came, models, truths)


# ------------------------------------------------------------------------------------- attention
@check("causal_attention", review="Who sees whom")
def no_token_sees_a_later_one(trial: Trial) -> None:
    """`causal_attention` lets a changed token change what comes from it on, and nothing before."""
    many = trial.random.choice((4, 6, 8))
    cases = [
        _attention_case(trial, *counts) for counts in (trial.random.choice(GROUPED), (many, many))
    ]
    for case in cases:
        case["changed"] = trial.random.randrange(2, case["x"].shape[1] - 1)
        case["other"] = case["x"].clone()
        case["other"][:, case["changed"]] = trial.normal(*case["x"][:, 0].shape)
    came = trial.observe("attended_twice", cases=cases)
    for case, answers in zip(cases, came, strict=True):
        _expect_causal(trial, case, answers)


@check("causal_attention", review="Heads", after=("no_token_sees_a_later_one",))
def attention_equals_a_trusted_one(trial: Trial) -> None:
    """`causal_attention` gives the values of grouped-query attention, for any number of heads."""
    many = trial.random.choice((4, 6, 8))
    heads = [trial.random.choice(GROUPED), trial.random.choice(GROUPED), (many, many), (many, 1)]
    cases = [_attention_case(trial, *counts) for counts in heads]
    came = trial.observe("attended", cases=cases)
    for case, answer in zip(cases, came, strict=True):
        asked = _asked_attention(case)
        output, truth = _output(trial, asked, answer, case["x"].shape), _attention(case)
        off = (output - truth).abs().amax((0, 2)) > ATOL + RTOL * float(truth.abs().max())
        wrong = off.nonzero().flatten().tolist()
        told = f"wrong at {len(wrong)} of {len(off)} positions, first at {min(wrong, default='')}"
        trial.require(
            not wrong, asked, told, why=WRONG_LATER if min(wrong, default=0) else WRONG_AT_0
        )


# ------------------------------------------------------------------------------------- the block
@check("decoder_block", review="The residual stream")
def block_adds_two_sublayers(trial: Trial) -> None:
    """`decoder_block` adds attention and MLP to the stream, each fed from its own norm."""
    cases = [_block_case(trial), _block_case(trial)]
    came = trial.observe("block_outputs", cases=cases)
    why = (
        "The four parts are plain functions here, so the values show in which order they were "
        "called, on what, and what was added to what."
    )
    truths = [_block({name: value.double() for name, value in case.items()}) for case in cases]
    trial.expect_each([_asked_block(case["x"]) for case in cases], came, truths, why=why)


@check("decoder_block", review="The residual stream", after=("block_adds_two_sublayers",))
def block_equals_a_real_layer(trial: Trial) -> None:
    """`decoder_block` with the parts of a real layer computes what that layer computes."""
    model = _models(trial)[0]
    x = trial.normal(2, trial.random.randint(4, 7), 24, scale=2.0)
    came = trial.observe("real_block_output", model={**model, "width": 24}, x=x)
    whole = scene.layer_model(**model, width=24)
    with torch.no_grad():
        truth = whole.model.layers[-1](x, position_embeddings=scene.angles_for(whole, x))
    asked = f"{_asked_block(x)} and the parts of a {FAMILIES[model['family']]} layer"
    why = "That layer is a pre-norm block: what it computes is known."
    trial.expect(asked, came, truth, why=why)


@check("decoder_block", review="The residual stream", after=("block_adds_two_sublayers",))
def stream_left_as_it_was(trial: Trial) -> None:
    """`decoder_block` leaves the tensor it was given as it is."""
    case = _block_case(trial)
    came = trial.observe("stream_afterwards", case=case)
    asked, why = _asked_block(case["x"]), "It is the caller's, and autograd may still need it."
    if isinstance(came, Raised):
        trial.fail(asked, came)
    told = f"afterwards x is {shorten(came)}"
    trial.require(same(came, plain(case["x"])), asked, told, why=why)


# ------------------------------------------------------------------------------------ the details
def _models(trial: Trial) -> list[dict[str, Any]]:
    """Draw one model of each family, in any order, of 4 to 7 layers and no two alike."""
    depths = trial.random.sample(range(4, 8), len(FAMILIES))
    models = []
    for family, depth in zip(trial.random.sample(list(FAMILIES), 4), depths, strict=True):
        heads, kv_heads = trial.random.choice(((4, 2), (4, 1), (2, 2), (2, 1)))
        seed = trial.random.getrandbits(31)
        told = {"depth": depth, "heads": heads, "kv_heads": kv_heads}
        models.append({"family": family, "seed": seed, **told})
    return models


def _blocks_named(trial: Trial, kind: str) -> None:
    models = _models(trial)
    came = trial.observe("blocks", models=models, kinds=[kind])
    _expect_names(trial, came, models, [kind])


def _expect_names(
    trial: Trial, came: Plain, models: list[dict[str, Any]], kinds: list[str]
) -> None:
    """Raise `Failure` unless each model's blocks of each kind are named, each once."""
    if isinstance(came, Raised):
        trial.fail("components(model)", came)
    assert isinstance(came, list)
    asked = [(model, kind) for model in models for kind in kinds]
    for (model, kind), names in zip(asked, came, strict=True):
        question = f'components(model)["{kind}"] for {_described(model)}'
        if isinstance(names, dict):
            why = "Asked for is a dict with the keys attention, mlp and norm."
            trial.fail(question, names["returned"], why=why)
        truth = _true_names(model, kind)
        _expect_set(trial, question, names, truth, *WORDS[kind])
        assert isinstance(names, list)
        told = f"{len(names)} names came back for {len(truth)} {WORDS[kind][1]}"
        trial.require(len(names) == len(truth), question, told, why="Each is to be there once.")


def _expect_projections(
    trial: Trial, came: Plain, models: list[dict[str, Any]], truths: list[list[str]]
) -> None:
    """Raise `Failure` unless the names of each model's projections came back."""
    if isinstance(came, Raised):
        trial.fail("attention_projections(model)", came)
    assert isinstance(came, list)
    words = ("the last part of a linear layer's name in this attention", "layers")
    for model, names, truth in zip(models, came, truths, strict=True):
        question = f"attention_projections(model) for {_described(model)}"
        _expect_set(trial, question, names, truth, *words)


def _expect_set(
    trial: Trial, asked: str, came: Plain, truth: list[str], one: str, many: str
) -> None:
    """Raise `Failure` unless ``came`` is a list of the names in ``truth``, in any order."""
    if not isinstance(came, list) or not all(isinstance(name, str) for name in came):
        trial.fail(asked, came, why="Asked for is a list of names, as text.")
    assert isinstance(came, list)
    strange = [name for name in came if name not in truth]
    missing = len(set(truth) - set(map(str, came)))
    told = f"{len(came)} name{'s' * (len(came) != 1)} came back"
    if strange:
        told += f", {len(strange)} of them not {one}, such as {shorten(strange[0])}"
    if missing:
        everything = "both" if missing == 2 else f"all {missing}"
        share = everything if missing == len(truth) else f"{missing} of the {len(truth)}"
        told += f"; {share} {many} {'is' if missing == 1 else 'are'} missing"
    trial.require(not strange and not missing, asked, told)


def _described(model: dict[str, Any]) -> str:
    text = f"a {FAMILIES[model['family']]} of {model['depth']} layers"
    if model.get("inside"):
        text += f" inside {len(model['inside'])} other module{'s' * (len(model['inside']) > 1)}"
    return text + " with other names, and norms in its attention" * bool(model.get("called"))


def _true_names(model: dict[str, Any], kind: str) -> list[str]:
    """Return the names of a model's blocks of one kind."""
    start = "".join(f"{name}." for name in model.get("inside", [])) + "model."
    layers = range(model["depth"])
    names = [f"{start}layers.{i}.{block}" for i in layers for block in IN_A_LAYER[kind]]
    return [*names, f"{start}norm"] if kind == "norm" else names


def _attention_case(trial: Trial, num_heads: int, num_kv_heads: int) -> dict[str, Any]:
    """Draw x and the four weights; heads are 10, 12 or 14 wide, which no number of heads is."""
    width = trial.random.choice((10, 12, 14))
    wide, narrow = num_heads * width, num_kv_heads * width
    shapes = {"wq": wide, "wk": narrow, "wv": narrow, "wo": wide}
    weights = {name: trial.normal(out, wide, scale=1.3 / wide**0.5) for name, out in shapes.items()}
    x = trial.normal(trial.random.randint(2, 3), trial.random.randint(5, 9), wide)
    return {"x": x, **weights, "num_heads": num_heads, "num_kv_heads": num_kv_heads}


def _expect_causal(trial: Trial, case: dict[str, Any], answers: list[Plain]) -> None:
    """Raise `Failure` unless the outputs differ from the changed position on and only there."""
    changed, shape = case["changed"], case["x"].shape
    asked = f"{_asked_attention(case)}, and again with another token at position {changed}"
    outputs = [_output(trial, asked, answer, shape) for answer in answers]
    moved = (outputs[0] - outputs[1]).abs().amax((0, 2))  # by how much, at each position
    size = float(outputs[0].abs().max())
    before = [t for t in range(changed) if moved[t] > RTOL * size]
    trial.require(
        not before,
        asked,
        f"the output changed at position {max(before, default='')} too",
        why="A token may use itself and earlier ones; when it is written, no later one is there.",
    )
    still = [t for t in range(changed, shape[1]) if moved[t] <= ATOL * size]
    trial.require(
        not still,
        asked,
        f"the output did not change at position {min(still, default='')}",
        why="A token and all that follow it see it, each to some degree.",
    )


def _attention(case: dict[str, Any]) -> Tensor:
    """Return the true output of a case, in float64, by torch's own attention."""
    x = case["x"].double()
    batch, length, width = x.shape
    heads, kv_heads = case["num_heads"], case["num_kv_heads"]

    def split(name: str, count: int) -> Tensor:
        projected = F.linear(x, case[name].double())
        shared = projected.view(batch, length, count, -1).repeat_interleave(heads // count, 2)
        return shared.transpose(1, 2)

    q, k, v = split("wq", heads), split("wk", kv_heads), split("wv", kv_heads)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.linear(mixed.transpose(1, 2).reshape(batch, length, width), case["wo"].double())


def _asked_attention(case: dict[str, Any]) -> str:
    heads = f"num_heads={case['num_heads']}, num_kv_heads={case['num_kv_heads']}"
    shape = tuple(case["x"].shape)
    return f"causal_attention(x, wq, wk, wv, wo, {heads}) for x of shape {shape}"


def _output(trial: Trial, asked: str, came: Plain, shape: torch.Size) -> Tensor:
    """Return what came back as a tensor; raise `Failure` unless it is finite and of ``shape``."""
    if not isinstance(came, Array) or came.shape != tuple(shape):
        trial.fail(asked, came, why="Asked for is a tensor of the shape of x.")
    assert isinstance(came, Array)
    output = to_tensor(came).double()
    odd = ~output.isfinite()
    trial.require(
        not odd.any(),
        asked,
        f"{int(odd.sum())} of {output.numel()} values are nan or infinite",
        why="A softmax over nothing but minus infinity is nan.",
    )
    return output


def _block_case(trial: Trial) -> dict[str, Tensor]:
    """Draw x and the numbers that make the four parts; each part is far from doing nothing."""
    width = trial.random.randint(6, 10)
    shape = trial.random.randint(2, 3), trial.random.randint(4, 7), width
    root = width**-0.5
    return {
        "x": trial.normal(*shape, scale=1.5),
        "mixing": trial.normal(width, width, scale=root),
        "up": trial.normal(width, 2 * width, scale=root),
        "down": trial.normal(2 * width, width, scale=root),
        "scale1": trial.normal(width).abs() + 0.5,
        "scale2": trial.normal(width).abs() + 0.5,
    }


def _block(case: dict[str, Tensor]) -> Tensor:
    """Return what a pre-norm block makes of a case: x + attention, then + MLP."""
    attention, mlp, norm1, norm2 = scene.parts(case)
    middle = case["x"] + attention(norm1(case["x"]))
    return middle + mlp(norm2(middle))


def _asked_block(x: Tensor) -> str:
    return f"decoder_block(x, attention, mlp, norm1, norm2) for x of shape {tuple(x.shape)}"
