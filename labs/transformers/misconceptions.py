"""The known mistakes of the transformers lab; each docstring is the hint a learner reads."""

from __future__ import annotations

import torch
from torch import nn

from verify.authoring import misconception

ATTENTION, MLP, NORM = ("attention_blocks_named",), ("mlp_blocks_named",), ("every_norm_named",)
BLOCKS, ALL = (*ATTENTION, *MLP), (*ATTENTION, *MLP, *NORM)
WRAPPED = ("named_inside_a_wrapper",)
FOUND, OTHERWISE = ("projections_named",), ("projections_named_otherwise",)
STREAM, KEPT = ("block_adds_two_sublayers",), ("stream_left_as_it_was",)


# --- components -----------------------------------------------------------------------------------


def _last(name):
    return name.rpartition(".")[2]


def _named(model, attention=None, mlp=None, norm=None):
    """Return the right lists but for the kinds whose test of a name is given."""
    tests = {
        "attention": attention or (lambda name: _last(name) == "self_attn"),
        "mlp": mlp or (lambda name: _last(name) == "mlp"),
        "norm": norm or (lambda name: _last(name).endswith("norm")),
    }
    names = [name for name, _ in model.named_modules()]
    return {kind: list(filter(test, names)) for kind, test in tests.items()}


def _by_heart(depth):
    layers = [f"model.layers.{i}" for i in range(depth)]
    norms = ("input_layernorm", "post_attention_layernorm")
    return {
        "attention": [f"{layer}.self_attn" for layer in layers],
        "mlp": [f"{layer}.mlp" for layer in layers],
        "norm": [f"{layer}.{norm}" for layer in layers for norm in norms] + ["model.norm"],
    }


@misconception("components")
def components_not_written(model):
    """Start by printing every name of `model.named_modules()` for a small model and see how the
    wanted blocks' names end: the lesson's section "Finding the parts by name".
    """
    raise NotImplementedError


@misconception("components", checks=BLOCKS)
def children_too(model):
    """The layers inside the blocks are listed as well: their names contain the block's name. Look
    at the last part of each dotted name alone, `name.rpartition(".")[2]`.
    """
    return _named(model, lambda name: "self_attn" in name, lambda name: ".mlp" in name)


@misconception("components", checks=BLOCKS)
def everything_with_the_word(model):
    """Every name that contains "attn" or "mlp" is listed: the layers inside the blocks too, and
    Phi-3's `resid_attn_dropout` and `resid_mlp_dropout`, which stand beside them. Compare the last
    part of the name with the block's whole name.
    """
    return _named(model, lambda name: "attn" in name, lambda name: "mlp" in name)


@misconception("components", checks=BLOCKS)
def dropouts_too(model):
    """Phi-3's `resid_attn_dropout` and `resid_mlp_dropout` are listed as blocks. They stand beside
    attention and MLP and drop parts of what these add; compare whole names, not parts of them.
    """
    return _named(model, lambda name: "attn" in _last(name), lambda name: "mlp" in _last(name))


@misconception("components", checks=BLOCKS)
def linear_layers_for_blocks(model):
    """These are the linear layers inside the blocks. Here the block itself is asked for, one name
    for each layer of the model; its linear layers are the next function's subject.
    """
    found = _named(model)
    for kind in ("attention", "mlp"):
        inside = [
            f"{block}.{name}"
            for block in found[kind]
            for name, module in model.get_submodule(block).named_modules()
            if isinstance(module, nn.Linear)
        ]
        found[kind] = inside
    return found


@misconception("components", checks=ALL)
def first_layer_only(model):
    """Only the first layer's blocks are named. Every layer has its own, with weights of its own: go
    over all modules.
    """
    found = _named(model)
    return {
        kind: [name for name in names if ".0." in name or name == "model.norm"]
        for kind, names in found.items()
    }


@misconception("components", checks=ALL)
def depth_of_the_example(model):
    """The number of layers is fixed at 3, that of the models which come with this lab. Others have
    up to more than a hundred: go over what is there, with `named_modules`.
    """
    return _by_heart(3)


@misconception("components", checks=ALL)
def depth_of_a_7b(model):
    """The number of layers is fixed at 32, that of a 7B model. Others have from a few to more than
    a hundred: go over what is there, with `named_modules`.
    """
    return _by_heart(32)


@misconception("components", checks=ALL)
def modules_for_names(model):
    """These are the modules themselves. Asked for are their dotted names: `named_modules` gives
    both, name first.
    """
    return {
        kind: [model.get_submodule(name) for name in names] for kind, names in _named(model).items()
    }


@misconception("components", checks=ALL)
def last_parts_only(model):
    """Only the last part of each name is there, the same for every layer. The whole dotted name
    says which layer's block it is, and `get_submodule` finds the block by it.
    """
    return {kind: [_last(name) for name in names] for kind, names in _named(model).items()}


@misconception("components", checks=ALL)
def class_names(model):
    """These are the names of classes. Asked for is where a block is in the model: the dotted name
    that `named_modules` gives.
    """
    return {
        kind: [type(model.get_submodule(name)).__name__ for name in names]
        for kind, names in _named(model).items()
    }


@misconception("components", checks=ALL)
def parameter_names(model):
    """These are names of parameters (they end in `weight` or `bias`). A block is a module: go over
    `named_modules` instead of `named_parameters` or the state dict.
    """
    names = [name for name, _ in model.named_parameters()]
    words = {"attention": "self_attn", "mlp": "mlp", "norm": "norm"}
    return {kind: [name for name in names if word in name] for kind, word in words.items()}


@misconception("components", checks=ALL)
def names_from_the_inside(model):
    """The names start at the decoder inside (`model.model`), so the model you were given does not
    know them. Call `named_modules` on what was handed over.
    """
    return _named(model.model)


@misconception("components", checks=ATTENTION)
def attention_by_the_word(model):
    """Listed is what has "attention" in its name, and that is the norm *after* the attention,
    `post_attention_layernorm`. The block itself is called `self_attn` in these families.
    """
    return _named(model, lambda name: "attention" in _last(name))


@misconception("components", checks=ATTENTION)
def norm_as_attention(model):
    """`post_attention_layernorm` is listed as attention for its name's sake (and Phi-3's dropout).
    It is the norm that comes after the attention; the block itself is `self_attn`.
    """
    return _named(model, lambda name: "att" in _last(name))


@misconception("components", checks=ATTENTION)
def rotary_as_attention(model):
    """The rotary embedding is listed as attention. It only computes the angles by which queries and
    keys are turned, once for all layers, and has nothing to train: none of the three.
    """
    return _named(model, lambda name: _last(name) in ("self_attn", "rotary_emb"))


@misconception("components", checks=ATTENTION)
def mlp_as_attention(model):
    """The MLP blocks are listed as attention too: their layers also end in `_proj`, but they mix
    the channels of one token, never tokens. Attention is `self_attn` alone.
    """
    return _named(model, lambda name: _last(name) in ("self_attn", "mlp"))


@misconception("components", checks=BLOCKS)
def whole_layers(model):
    """These are whole decoder layers. Each of them holds an attention block, an MLP block and two
    norms: name these.
    """

    def is_layer(name):
        return _last(name).isdigit()

    return _named(model, is_layer, is_layer)


@misconception("components", checks=MLP)
def head_as_mlp(model):
    """The LM head is listed as an MLP. It is one linear layer that comes once, after everything
    else, and turns the stream into logits: none of the three.
    """
    return _named(model, mlp=lambda name: _last(name) in ("mlp", "lm_head"))


@misconception("components", checks=NORM)
def final_norm_missed(model):
    """The final norm is missing. It comes once, after the last layer, and is called `norm`, without
    "layer": look for names that end in `norm`.
    """
    return _named(model, norm=lambda name: "layernorm" in name)


@misconception("components", checks=NORM)
def final_norm_only(model):
    """Only the final norm is listed. Each layer has two more, one before the attention and one
    before the MLP; their names only end in `norm`.
    """
    return _named(model, norm=lambda name: _last(name) == "norm")


@misconception("components", checks=NORM)
def input_norms_only(model):
    """Each layer's second norm, `post_attention_layernorm`, is missing. For all its name it is the
    norm before the MLP.
    """
    return _named(model, norm=lambda name: _last(name) in ("input_layernorm", "norm"))


@misconception("components", checks=NORM)
def only_layernorm_class(model):
    """No norm was found: none of these is a `torch.nn.LayerNorm`. Today's decoders use RMSNorm,
    each family with a class of its own: go by the names, or by what the class's name ends in.
    """
    found = _named(model)
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)]
    return {**found, "norm": norms}


@misconception("components", checks=WRAPPED)
def prefix_by_heart(model):
    """The names are built from a pattern that starts with `model.layers`, and here the decoder sits
    inside another module, as under PEFT or `torch.compile`. Take the names from `named_modules`.
    """
    return _by_heart(model.config.num_hidden_layers)


@misconception("components", checks=WRAPPED)
def dots_counted(model):
    """The blocks are recognised by how many dots their names have. Inside another module every name
    has more: compare the last part alone.
    """

    def in_a_layer(part):
        return lambda name: _last(name) == part and name.count(".") == 3

    return _named(model, in_a_layer("self_attn"), in_a_layer("mlp"))


# --- attention_projections ------------------------------------------------------------------------


def _linear(model, inside=""):
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and inside in name
    ]


def _leaves(names):
    return sorted({_last(name) for name in names})


@misconception("attention_projections")
def attention_projections_not_written(model):
    """Start from the attention blocks that `components` finds: `get_submodule` gives the block, and
    `named_modules` what is in it. The lesson's section "Finding the parts by name" shows both.
    """
    raise NotImplementedError


@misconception("attention_projections", checks=FOUND)
def mlp_layers_too(model):
    """The linear layers of the MLP are listed as attention (`gate_proj`, `up_proj`, `down_proj`;
    Phi-3: `gate_up_proj`, `down_proj`). Take only those inside `self_attn`.
    """
    return _leaves(_linear(model, "layers"))


@misconception("attention_projections", checks=FOUND)
def every_linear_layer(model):
    """These are all linear layers of the model, MLP and LM head among them. Asked for are those of
    the attention alone: the ones inside `self_attn`.
    """
    return _leaves(_linear(model))


@misconception("attention_projections", checks=FOUND)
def llama_by_heart(model):
    """That is the list of a Llama, whatever the model. Phi-3 has its queries, keys and values in
    one fused layer under another name: look at the model you are given.
    """
    return ["q_proj", "k_proj", "v_proj", "o_proj"]


@misconception("attention_projections", checks=FOUND)
def three_by_heart(model):
    """The fourth projection is missing: what the heads found goes through one more linear layer
    back into the stream. And a list by heart does not fit Phi-3: look at the model.
    """
    return ["q_proj", "k_proj", "v_proj"]


@misconception("attention_projections", checks=FOUND)
def queries_and_values_only(model):
    """`q_proj` and `v_proj` are what the first LoRA experiments adapted, and many old examples do.
    The attention has more linear layers, and Phi-3 has none of these two: look at the model.
    """
    return ["q_proj", "v_proj"]


@misconception("attention_projections", checks=FOUND)
def output_projection_missed(model):
    """The output projection is missing. It is a linear layer of the attention like the others: it
    mixes what the heads found and brings it back to the width of the stream.
    """
    return _leaves(name for name in _linear(model, "self_attn") if not name.endswith("o_proj"))


@misconception("attention_projections", checks=FOUND)
def whole_dotted_names(model):
    """These are whole dotted names, one for every layer. LoRA's `target_modules` takes the last
    part, which stands for that layer in every block: `name.rpartition(".")[2]`.
    """
    return _linear(model, "self_attn")


@misconception("attention_projections", checks=FOUND)
def block_and_leaf(model):
    """The block's name stands before the layer's (`self_attn.…`). Asked for is the last part alone:
    `name.rpartition(".")[2]`.
    """
    return sorted({".".join(name.split(".")[-2:]) for name in _linear(model, "self_attn")})


@misconception("attention_projections", checks=FOUND)
def the_block_itself(model):
    """That is the attention block. LoRA adapts linear layers: name those that are inside it."""
    return ["self_attn"]


@misconception("attention_projections", checks=FOUND)
def parameters_not_layers(model):
    """These are names of parameters, `weight` or `bias`. Asked for are the layers that hold them:
    go over `named_modules` and take the linear ones.
    """
    return _leaves(name for name, _ in model.named_parameters() if "self_attn" in name)


@misconception("attention_projections", checks=OTHERWISE)
def known_names_only(model):
    """Nothing was found, since only names that are known by heart, or that end in `_proj`, are
    looked for. Other families call these layers otherwise: a projection is whatever `nn.Linear`
    there is inside the attention block.
    """
    return _leaves(name for name in _linear(model, "self_attn") if name.endswith("_proj"))


@misconception("attention_projections", checks=OTHERWISE)
def every_child_of_the_block(model):
    """Everything in the attention block is listed. There can be other things in it, such as the
    norms that Qwen3 has for queries and keys, or a dropout. LoRA adapts the linear layers: ask each
    child whether it is an `nn.Linear`.
    """
    (block, *_) = (module for name, module in model.named_modules() if _last(name) == "self_attn")
    return [name for name, _ in block.named_children()]


# --- causal_attention -----------------------------------------------------------------------------


def _split(x, w, count):
    return (x @ w.T).view(*x.shape[:2], count, -1).transpose(1, 2)


def _repeat(heads, times):
    return heads.repeat_interleave(times, dim=1)


def _project(x, wq, wk, wv, heads, kv_heads, repeat=_repeat):
    """Return q, k, v as (B, heads, T, width)."""
    q, k, v = _split(x, wq, heads), _split(x, wk, kv_heads), _split(x, wv, kv_heads)
    return q, repeat(k, heads // kv_heads), repeat(v, heads // kv_heads)


def _scores(q, k):
    return q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5


def _later(scores, diagonal=1):
    """Return which scores are a later key's, from ``diagonal`` on."""
    return torch.ones_like(scores, dtype=torch.bool).triu(diagonal)


def _masked(scores, diagonal=1, fill=float("-inf")):
    return scores.masked_fill(_later(scores, diagonal), fill)


def _merge(heads):
    return heads.transpose(1, 2).flatten(2)


def _causal(q, k, v, wo):
    return _merge(_masked(_scores(q, k)).softmax(-1) @ v) @ wo.T


@misconception("causal_attention")
def causal_attention_not_written(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """Start with one head: project x three times, score every query against every key, hide the
    later ones, softmax, weigh the values, project. "What q, k, v and o are" does it by hand;
    "Heads" says how to do several at once.
    """
    raise NotImplementedError


@misconception("causal_attention")
def no_mask(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """There is no causal mask: every token sees the whole text, the answer included, so training
    teaches it to copy. Set the scores of later keys to minus infinity before the softmax.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _merge(_scores(q, k).softmax(-1) @ v) @ wo.T


@misconception("causal_attention")
def next_token_seen(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The mask is off by one: each token also sees the next, the very one it is to predict. Hide
    everything *above* the diagonal, `triu(1)`.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _merge(_masked(_scores(q, k), 2).softmax(-1) @ v) @ wo.T


@misconception("causal_attention")
def token_hidden_from_itself(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The mask is off by one: it hides each token from itself, and for the first nothing is left,
    which makes nan. A token sees itself and all earlier ones: hide from `triu(1)` on.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _merge(_masked(_scores(q, k), 0).softmax(-1) @ v) @ wo.T


@misconception("causal_attention")
def itself_hidden_by_a_large_number(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The mask is off by one: it hides each token from itself. With a large negative number for
    minus infinity nothing warns of it, and the first token attends to everything, equally. Hide
    from `triu(1)` on.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _merge(_masked(_scores(q, k), 0, -1e9).softmax(-1) @ v) @ wo.T


@misconception("causal_attention")
def earlier_tokens_hidden(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The mask is the wrong way round: each token sees itself and the *later* ones. In scores of
    shape (query, key) the later keys are above the diagonal: hide those.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    scores = _scores(q, k)
    return _merge(scores.masked_fill(~_later(scores, 0), float("-inf")).softmax(-1) @ v) @ wo.T


@misconception("causal_attention")
def zero_before_the_softmax(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """Hidden scores were set to 0 (or multiplied by a mask of 0 and 1) before the softmax, and
    exp(0) is 1: later tokens still count. Set them to minus infinity, whose exp is 0.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _merge(_masked(_scores(q, k), fill=0.0).softmax(-1) @ v) @ wo.T


@misconception("causal_attention")
def masked_after_the_softmax(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The weights were set to 0 after the softmax, so a row no longer adds up to 1, and the later
    tokens have had a say in the rest. Hide the scores before the softmax.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _merge(_masked(_scores(q, k).softmax(-1), fill=0.0) @ v) @ wo.T


@misconception("causal_attention")
def no_scale(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The scores are not scaled. The sum of d products grows like the root of d, and a softmax of
    large scores puts everything on one token: divide by the root of the head's width.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _merge(_masked(q @ k.transpose(-2, -1)).softmax(-1) @ v) @ wo.T


@misconception("causal_attention")
def scaled_by_model_width(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The scores are divided by the root of the model's width. A score is a sum over *one head's*
    channels: divide by the root of the head's width, the model's divided by the number of heads.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    scores = q @ k.transpose(-2, -1) / x.shape[-1] ** 0.5
    return _merge(_masked(scores).softmax(-1) @ v) @ wo.T


@misconception("causal_attention")
def scaled_without_a_root(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The scores are divided by the head's width itself: either the root is missing, or they were
    scaled twice (torch's `scaled_dot_product_attention` does it by itself). Divide once, by the
    root of the width.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _merge(_masked(q @ k.transpose(-2, -1) / q.shape[-1]).softmax(-1) @ v) @ wo.T


@misconception("causal_attention")
def scaled_by_number_of_heads(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The scores are divided by the root of the *number* of heads. It is the root of a head's width
    that counts: the number of products in each sum.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    scores = q @ k.transpose(-2, -1) / num_heads**0.5
    return _merge(_masked(scores).softmax(-1) @ v) @ wo.T


@misconception("causal_attention")
def softmax_over_queries(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The softmax runs over the queries, so a key's column adds up to 1. Each *query* shares out
    its attention: softmax over the keys, the last dimension of (query, key).
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _merge(_masked(_scores(q, k)).softmax(-2) @ v) @ wo.T


@misconception("causal_attention")
def softmax_over_heads(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The softmax runs over the heads. Each head shares out its attention by itself, among the
    keys: take the softmax over the last dimension.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _merge(_masked(_scores(q, k)).softmax(1) @ v) @ wo.T


@misconception("causal_attention")
def kv_heads_tiled(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The key and value heads were repeated in the wrong order, as 0 1 0 1 (`repeat`, `tile`).
    Neighbouring query heads share one: 0 0 1 1, which is what `repeat_interleave` makes.
    """

    def tile(heads, times):
        return heads.repeat(1, times, 1, 1)

    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads, repeat=tile)
    return _causal(q, k, v, wo)


@misconception("causal_attention")
def kv_heads_not_repeated(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """There are fewer key and value heads than query heads, and torch cannot match them. Each is
    shared by a group of query heads: repeat it for its group with `repeat_interleave`.
    """
    q, k = _split(x, wq, num_heads), _split(x, wk, num_kv_heads)
    return _causal(q, k, _split(x, wv, num_kv_heads), wo)


@misconception("causal_attention")
def keys_split_like_queries(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """Keys and values were split into `num_heads` heads, but they have only `num_kv_heads`, each as
    wide as a query head. Split them into these, then repeat each for its group.
    """
    q, k = _split(x, wq, num_heads), _split(x, wk, num_heads)
    return _causal(q, k, _split(x, wv, num_heads), wo)


@misconception("causal_attention")
def output_projection_left_out(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The output projection is missing: `wo` was never used. Without it the heads' results stand
    side by side and are never mixed.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _merge(_masked(_scores(q, k)).softmax(-1) @ v)


@misconception("causal_attention")
def output_projection_transposed(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """`wo` was used the wrong way round, which its square shape lets pass. Weights are stored as
    (out, in): multiply by the transpose, `@ wo.T`, or use `F.linear`.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _causal(q, k, v, wo.T)


@misconception("causal_attention")
def queries_weight_transposed(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The queries come from `x @ wq`, and `wq`, being square, lets that pass. It is stored as (out,
    in) like the other weights: `x @ wq.T`, or `F.linear(x, wq)`.
    """
    q, k, v = _project(x, wq.T, wk, wv, num_heads, num_kv_heads)
    return _causal(q, k, v, wo)


@misconception("causal_attention")
def all_weights_transposed(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The weights were multiplied as they are stored, (out, in). A linear layer computes
    `x @ w.T` (`F.linear(x, w)`); where a weight is square the mistake raises no error.
    """
    q, k, v = _project(x, wq.T, wk.T, wv.T, num_heads, num_kv_heads)
    return _causal(q, k, v, wo.T)


@misconception("causal_attention")
def heads_ignored(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The heads were not split: one big attention, whose keys are narrower than its queries where
    heads are shared. Split the projections into heads first, and let each attend by itself.
    """
    q, k, v = x @ wq.T, x @ wk.T, x @ wv.T
    return _masked(_scores(q, k)).softmax(-1) @ v @ wo.T


@misconception("causal_attention")
def heads_split_without_transpose(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The heads were split with a single `view` to (B, heads, T, width), which mixes up tokens and
    channels. A token's channels lie together: view as (B, T, heads, width), then transpose.
    """

    def split(w, count):
        return (x @ w.T).reshape(x.shape[0], count, x.shape[1], -1)

    groups = num_heads // num_kv_heads
    k, v = (_repeat(split(w, num_kv_heads), groups) for w in (wk, wv))
    return _causal(split(wq, num_heads), k, v, wo)


@misconception("causal_attention")
def heads_merged_without_transpose(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The heads were put together with a single `reshape` from (B, heads, T, width), which mixes up
    tokens and channels. Transpose back to (B, T, heads, width) first.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return (_masked(_scores(q, k)).softmax(-1) @ v).reshape(x.shape) @ wo.T


@misconception("causal_attention")
def heads_viewed_in_and_out(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The heads were split with one `view` to (B, heads, T, width) and put together with one `view`
    back. The shapes fit, but each "head" is a stretch of the text with all its channels. View as
    (B, T, heads, width) and transpose; on the way out transpose first.
    """

    def split(w, count):
        return (x @ w.T).reshape(x.shape[0], count, x.shape[1], -1)

    groups = num_heads // num_kv_heads
    k, v = (_repeat(split(w, num_kv_heads), groups) for w in (wk, wv))
    mixed = _masked(_scores(split(wq, num_heads), k)).softmax(-1) @ v
    return mixed.reshape(x.shape) @ wo.T


@misconception("causal_attention")
def queries_and_keys_swapped(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """Queries and keys are swapped: row t of the scores holds what others ask of token t. A row is
    one *query* against all keys: `q @ k.transpose(-2, -1)`.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return _causal(k, q, v, wo)


@misconception("causal_attention")
def keys_as_values(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The keys were used as values too. A key says what a token can be found by, a value what it
    hands over: that is what `wv` is for.
    """
    q, k, v = _project(x, wq, wk, wk, num_heads, num_kv_heads)
    return _causal(q, k, v, wo)


@misconception("causal_attention")
def attention_over_the_batch(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The attention runs over the batch: texts look at each other, not tokens. The first dimension
    of x is the batch, the second the tokens.
    """
    q, k, v = _project(x.transpose(0, 1), wq, wk, wv, num_heads, num_kv_heads)
    return _causal(q, k, v, wo).transpose(0, 1)


@misconception("causal_attention")
def residual_inside(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """x was added to the result. The residual connection belongs to the block, around the
    attention; added here too it would count twice.
    """
    q, k, v = _project(x, wq, wk, wv, num_heads, num_kv_heads)
    return x + _causal(q, k, v, wo)


# --- decoder_block --------------------------------------------------------------------------------


@misconception("decoder_block")
def decoder_block_not_written(x, attention, mlp, norm1, norm2):
    """Two lines: the stream plus the attention of its norm, then that plus the MLP of its norm. The
    lesson's section "The residual stream" has a drawing.
    """
    raise NotImplementedError


@misconception("decoder_block", checks=STREAM)
def post_norm(x, attention, mlp, norm1, norm2):
    """That is post-norm: the norm comes after each addition, as in the first transformers. In
    today's decoders it comes before each sublayer and the stream itself is never normed.
    """
    h = norm1(x + attention(x))
    return norm2(h + mlp(h))


@misconception("decoder_block", checks=STREAM)
def sublayers_output_normed(x, attention, mlp, norm1, norm2):
    """What the sublayers give is normed instead of what they are given. In a pre-norm block the
    norm comes before the sublayer: `attention(norm1(x))`.
    """
    h = x + norm1(attention(x))
    return h + norm2(mlp(h))


@misconception("decoder_block", checks=STREAM)
def no_residuals(x, attention, mlp, norm1, norm2):
    """There are no residual connections: each sublayer replaces the stream. They have to be added
    to it, or deep models get no gradient to their first layers.
    """
    return mlp(norm2(attention(norm1(x))))


@misconception("decoder_block", checks=STREAM)
def attention_not_added(x, attention, mlp, norm1, norm2):
    """The residual connection around the attention is missing: its output replaces the stream. Add
    it to x.
    """
    h = attention(norm1(x))
    return h + mlp(norm2(h))


@misconception("decoder_block", checks=STREAM)
def mlp_not_added(x, attention, mlp, norm1, norm2):
    """The residual connection around the MLP is missing: its output replaces the stream. Add it to
    what the attention left.
    """
    return mlp(norm2(x + attention(norm1(x))))


@misconception("decoder_block", checks=STREAM)
def second_residual_from_the_input(x, attention, mlp, norm1, norm2):
    """The MLP's output is added to the block's input, so what the attention added is lost. Add it
    to the stream as it is after the attention.
    """
    return x + mlp(norm2(x + attention(norm1(x))))


@misconception("decoder_block", checks=STREAM)
def sublayers_in_parallel(x, attention, mlp, norm1, norm2):
    """Attention and MLP both read the block's input. Some models do that (GPT-J, Falcon); in this
    one the MLP reads the stream after the attention was added.
    """
    return x + attention(norm1(x)) + mlp(norm2(x))


@misconception("decoder_block", checks=STREAM)
def residual_of_the_normed(x, attention, mlp, norm1, norm2):
    """The normed stream is what was added to. The norm is for the sublayer's input only: add to the
    stream as it was before it.
    """
    normed = norm1(x)
    h = normed + attention(normed)
    normed = norm2(h)
    return normed + mlp(normed)


@misconception("decoder_block", checks=STREAM)
def first_norm_twice(x, attention, mlp, norm1, norm2):
    """`norm1` is used for both sublayers. Each has a norm of its own with its own learned scale:
    the MLP's is `norm2`.
    """
    h = x + attention(norm1(x))
    return h + mlp(norm1(h))


@misconception("decoder_block", checks=STREAM)
def norms_swapped(x, attention, mlp, norm1, norm2):
    """The two norms are swapped: `norm1` belongs before the attention, `norm2` before the MLP."""
    h = x + attention(norm2(x))
    return h + mlp(norm1(h))


@misconception("decoder_block", checks=STREAM)
def mlp_not_normed(x, attention, mlp, norm1, norm2):
    """The MLP reads the stream as it is, without a norm. The stream grows from layer to layer; each
    sublayer gets it through its own norm.
    """
    h = x + attention(norm1(x))
    return h + mlp(h)


@misconception("decoder_block", checks=STREAM)
def attention_not_normed(x, attention, mlp, norm1, norm2):
    """The attention reads the stream as it is, without a norm. Each sublayer gets it through its
    own: `attention(norm1(x))`.
    """
    h = x + attention(x)
    return h + mlp(norm2(h))


@misconception("decoder_block", checks=STREAM)
def no_norms(x, attention, mlp, norm1, norm2):
    """No norm is used. The stream grows from layer to layer, so each sublayer reads it through a
    norm: `norm1` before the attention, `norm2` before the MLP.
    """
    h = x + attention(x)
    return h + mlp(h)


@misconception("decoder_block", checks=STREAM)
def mlp_first(x, attention, mlp, norm1, norm2):
    """The MLP comes before the attention. In a decoder block it is the other way round: first the
    tokens exchange what they know, then each works on it.
    """
    h = x + mlp(norm2(x))
    return h + attention(norm1(h))


@misconception("decoder_block", checks=STREAM)
def mlp_left_out(x, attention, mlp, norm1, norm2):
    """The MLP is missing: only the attention was added. A block has two sublayers, and the second
    holds most of its parameters.
    """
    return x + attention(norm1(x))


@misconception("decoder_block", checks=STREAM)
def normed_once_more(x, attention, mlp, norm1, norm2):
    """The block's result is normed once more. There is one final norm, after the last block, and it
    is not part of any block.
    """
    h = x + attention(norm1(x))
    return norm2(h + mlp(norm2(h)))


@misconception("decoder_block", checks=KEPT)
def added_in_place(x, attention, mlp, norm1, norm2):
    """`+=` writes into the tensor that was handed over. The caller's stream is changed, and so is
    what a norm saved for the backward pass: autograd stops at it. Write `x = x + …`.
    """
    x += attention(norm1(x))
    x += mlp(norm2(x))
    return x


@misconception("decoder_block", checks=KEPT)
def attention_added_in_place(x, attention, mlp, norm1, norm2):
    """The attention is added with `+=`, which writes into the tensor that was handed over: the
    caller's stream is changed, and so is what `norm1` saved for the backward pass. Write
    `h = x + …`, which makes a new tensor.
    """
    x += attention(norm1(x))
    return x + mlp(norm2(x))
