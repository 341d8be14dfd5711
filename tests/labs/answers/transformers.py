"""The transformers lab in other words: right ways, and mistakes that no misconception names."""

from __future__ import annotations

import collections
import math
import re
import types

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

# --- components -----------------------------------------------------------------------------------


def parts_by_class_name(model):
    ends = {"attention": "Attention", "mlp": "MLP", "norm": "Norm"}
    return {
        kind: [name for name, it in model.named_modules() if type(it).__name__.endswith(end)]
        for kind, end in ends.items()
    }


def parts_by_structure(model):
    found = collections.defaultdict(set)
    for name, it in model.named_modules():
        children = dict(it.named_children())
        if "o_proj" in children:
            found["attention"].add(name)
        elif "down_proj" in children:
            found["mlp"].add(name)
        elif not children and hasattr(it, "variance_epsilon"):
            found["norm"].add(name)
    return found


def parts_by_pattern(model):
    names = "\n".join(name for name, _ in model.named_modules())
    layer = r"^.*layers\.\d+"
    return {
        "attention": tuple(re.findall(rf"{layer}\.self_attn$", names, re.MULTILINE)),
        "mlp": re.findall(rf"{layer}\.mlp$", names, re.MULTILINE)[::-1],
        "norm": re.findall(r"^.*norm$", names, re.MULTILINE),
        "embedding": ["a further key does no harm"],
    }


def parts_by_isinstance(model):
    norms = (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Phi3RMSNorm)
    modules = dict(model.named_modules())
    found = {
        "attention": (name for name in modules if name.split(".")[-1] == "self_attn"),
        "mlp": {name: modules[name] for name in modules if name.endswith(".mlp")},
        "norm": frozenset(name for name, it in modules.items() if isinstance(it, norms)),
    }
    return types.MappingProxyType(found)


def parts_by_walking(model, start=""):
    found = {"attention": [], "mlp": [], "norm": []}
    kinds = {
        "self_attn": "attention",
        "mlp": "mlp",
        "norm": "norm",
        "input_layernorm": "norm",
        "post_attention_layernorm": "norm",
    }
    for child, it in model.named_children():
        if child in kinds:
            found[kinds[child]].append(start + child)
        else:
            for kind, names in parts_by_walking(it, f"{start}{child}.").items():
                found[kind] += names
    return found


def parts_by_the_layers(model):
    """Find where the list of layers is, then build the names."""
    (layers,) = [name for name, it in model.named_modules() if isinstance(it, nn.ModuleList)]
    each = [f"{layers}.{i}." for i in range(len(model.get_submodule(layers)))]
    norms = [f"{start}{which}_layernorm" for start in each for which in ("input", "post_attention")]
    return {
        "attention": [f"{start}self_attn" for start in each],
        "mlp": [f"{start}mlp" for start in each],
        "norm": [*norms, layers.removesuffix("layers") + "norm"],
    }


def parts_and(change):
    return lambda model: change(parts_by_class_name(model))


# --- attention_projections ------------------------------------------------------------------------


def projections_by_path(model):
    """A name for every layer: repeated, which LoRA does not mind."""
    names = [name.split(".") for name, it in model.named_modules() if isinstance(it, nn.Linear)]
    return [path[-1] for path in names if "self_attn" in path]


def projections_of_one_block(model):
    block = next(it for it in model.modules() if type(it).__name__.endswith("Attention"))
    return {name for name, it in block.named_children() if "Linear" in type(it).__name__}


def projections_by_their_weights(model):
    found = {}
    for name, weight in model.named_parameters():
        inside = re.search(r"self_attn\.(\w+)\.weight$", name)
        if inside and weight.ndim == 2:
            found[inside[1]] = weight.shape
    return found.keys()


def projections_by_watching(model):
    """See which linear layers are called while an attention block is."""
    blocks, found = [], set()
    names = {it: name for name, it in model.named_modules()}

    def enter(block, *_):
        blocks.append(block)

    def leave(*_):
        blocks.pop()

    def note(layer, *_):
        if blocks:
            found.add(names[layer].rpartition(".")[2])

    for it in model.modules():
        if type(it).__name__.endswith("Attention"):
            it.register_forward_pre_hook(enter)
            it.register_forward_hook(leave)
        if isinstance(it, nn.Linear):
            it.register_forward_hook(note)
    model(torch.tensor([[1, 2, 3]], device=model.device))
    return tuple(found)


# --- causal_attention -----------------------------------------------------------------------------


def split(x, w, heads):
    return F.linear(x, w).unflatten(-1, (heads, -1)).transpose(1, 2)


def merged(heads, wo):
    return F.linear(heads.transpose(1, 2).flatten(-2), wo)


def attention_by_torch(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    q, k, v = split(x, wq, num_heads), split(x, wk, num_kv_heads), split(x, wv, num_kv_heads)
    return merged(F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), wo)


def attention_by_loops(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    batch, length, width = x.shape
    size, group = width // num_heads, num_heads // num_kv_heads
    out = torch.zeros_like(x)
    for b in range(batch):
        for h in range(num_heads):
            own = slice(h * size, (h + 1) * size)
            shared = slice(h // group * size, (h // group + 1) * size)
            q, k, v = x[b] @ wq[own].T, x[b] @ wk[shared].T, x[b] @ wv[shared].T
            for t in range(length):
                shares = torch.softmax(k[: t + 1] @ q[t] / math.sqrt(size), 0)
                out[b, t, own] = shares @ v[: t + 1]
    return out @ wo.T


def attention_by_einsum(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """Groups as a dimension of their own: nothing is repeated."""
    size = x.shape[-1] // num_heads
    x = x.double()
    wq, wk, wv, wo = (w.double() for w in (wq, wk, wv, wo))
    q = torch.einsum("btd,kgsd->bkgts", x, wq.view(num_kv_heads, -1, size, x.shape[-1]))
    k = torch.einsum("btd,ksd->bkts", x, wk.view(num_kv_heads, size, -1))
    v = torch.einsum("btd,ksd->bkts", x, wv.view(num_kv_heads, size, -1))
    powers = (torch.einsum("bkgts,bkus->bkgtu", q, k) / size**0.5).exp().tril()
    shares = powers / powers.sum(-1, keepdim=True)
    return torch.einsum("bkgtu,bkus->btkgs", shares, v).flatten(2) @ wo.T


def attention_by_adding_a_mask(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """Repeat the weights instead of the heads, and add a large negative number."""
    length, size = x.shape[1], x.shape[-1] // num_heads

    def wide(w):
        each = w.view(num_kv_heads, 1, size, -1).expand(-1, num_heads // num_kv_heads, -1, -1)
        return each.reshape(num_heads * size, -1)

    q, k, v = (split(x, w, num_heads) for w in (wq * size**-0.5, wide(wk), wide(wv)))
    mask = torch.zeros(length, length)
    mask[np.triu_indices(length, 1)] = torch.finfo(torch.float32).min
    return merged(F.softmax(q @ k.mT + mask, dim=-1) @ v, wo)


def attention_by_torchs_module(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    width = x.shape[-1]
    size, group = width // num_heads, num_heads // num_kv_heads
    wk, wv = (
        w.unflatten(0, (-1, size)).repeat_interleave(group, 0).flatten(0, 1) for w in (wk, wv)
    )
    module = nn.MultiheadAttention(width, num_heads, bias=False, batch_first=True)
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.cat([wq, wk, wv]))
        module.out_proj.weight.copy_(wo)
    later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    return module(x, x, x, attn_mask=later, need_weights=False)[0]


def attention_by_transformers(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    """The library's own module, with angles of 0."""
    width = x.shape[-1]
    config = LlamaConfig(
        hidden_size=width,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        head_dim=width // num_heads,
        attn_implementation="sdpa",
    )
    module = LlamaAttention(config, 0).eval()
    weights = {"q_proj": wq, "k_proj": wk, "v_proj": wv, "o_proj": wo}
    module.load_state_dict({f"{name}.weight": w for name, w in weights.items()})
    still = torch.ones(1), torch.zeros(1)
    return module(x, tuple(angle.expand(*x.shape[:2], width // num_heads) for angle in still))[0]


def attention_but(change):
    """Return an attention that is right but for ``change``, of scores (B, heads, T, T)."""

    def attention(x, wq, wk, wv, wo, num_heads, num_kv_heads):
        q, k, v = split(x, wq, num_heads), split(x, wk, num_kv_heads), split(x, wv, num_kv_heads)
        k, v = (it.repeat_interleave(num_heads // num_kv_heads, 1) for it in (k, v))
        return merged(change(q @ k.mT / q.shape[-1] ** 0.5) @ v, wo)

    return attention


def hidden(scores, number=float("-inf"), diagonal=1):
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(diagonal), number)


def windowed(scores):
    return hidden(scores).masked_fill(
        torch.ones_like(scores, dtype=torch.bool).tril(-2), float("-inf")
    )


def output_and(change):
    return lambda *given: change(attention_by_torch(*given))


def attention_in_half_precision(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    given = (it.bfloat16() for it in (x, wq, wk, wv, wo))
    return attention_by_torch(*given, num_heads, num_kv_heads).float()


def first_kv_head_for_all(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    size = x.shape[-1] // num_heads
    return attention_by_torch(x, wq, wk[-size:], wv[-size:], wo, num_heads, 1)


def over_the_whole_batch(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    flat = x.flatten(0, 1)[None]
    return attention_by_torch(flat, wq, wk, wv, wo, num_heads, num_kv_heads).view(x.shape)


def values_of_the_next_head(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    size = x.shape[-1] // num_heads
    return attention_by_torch(x, wq, wk, wv.roll(size, 0), wo, num_heads, num_kv_heads)


def keys_for_queries(x, wq, wk, wv, wo, num_heads, num_kv_heads):
    q, k, v = split(x, wk, num_heads), split(x, wq, num_kv_heads), split(x, wv, num_kv_heads)
    return merged(F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), wo)


# --- decoder_block --------------------------------------------------------------------------------


def block_in_steps(x, attention, mlp, norm1, norm2):
    residual = x
    hidden = norm1(x)
    hidden = attention(hidden)
    hidden = residual + hidden
    residual = hidden
    hidden = norm2(hidden)
    hidden = mlp(hidden)
    return residual + hidden


def block_by_loop(x, attention, mlp, norm1, norm2):
    for norm, sublayer in zip((norm1, norm2), (attention, mlp), strict=True):
        x = torch.add(x, sublayer(norm(x)))
    return x


def block_on_a_copy(x, attention, mlp, norm1, norm2):
    x = x.clone()
    x += attention(norm1(x))
    x += mlp(norm2(x))
    return x


def block_as_a_sum(x, attention, mlp, norm1, norm2):
    brought = attention(norm1(x))
    return torch.stack([x, brought, mlp(norm2(brought + x))]).sum(0)


def block_and(change):
    def block(x, *parts):
        return change(x, block_in_steps(x, *parts))

    return block


RIGHT = {
    "components": (
        parts_by_class_name,
        parts_by_structure,
        parts_by_pattern,
        parts_by_isinstance,
        parts_by_walking,
        parts_by_the_layers,
    ),
    "attention_projections": (
        projections_by_path,
        projections_of_one_block,
        projections_by_their_weights,
        projections_by_watching,
    ),
    "causal_attention": (
        attention_by_torch,
        attention_by_loops,
        attention_by_einsum,
        attention_by_adding_a_mask,
        attention_by_torchs_module,
        attention_by_transformers,
    ),
    "decoder_block": (block_in_steps, block_by_loop, block_on_a_copy, block_as_a_sum),
}

WRONG = {
    "components": (
        parts_and(lambda found: {**found, "norm": [*found["norm"], found["norm"][-1]]}),
        parts_and(lambda found: {kind: names[1::2] for kind, names in found.items()}),
        parts_and(lambda found: {kind: " ".join(names) for kind, names in found.items()}),
        parts_and(lambda found: {f"{kind}s": names for kind, names in found.items()}),
        parts_and(lambda found: tuple(found.values())),
        parts_and(lambda found: {**found, "mlp": found["attention"]}),
        parts_and(lambda found: {**found, "attention": [*found["attention"], "lm_head"]}),
        lambda model: [name for name, _ in model.named_modules()],
        lambda model: None,
    ),
    "attention_projections": (
        lambda model: ["q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj"],
        lambda model: ["qkv_proj", "o_proj"],
        lambda model: [*projections_by_path(model), "lm_head"],
        lambda model: ",".join(projections_by_path(model)),
        lambda model: "all-linear",
        lambda model: [],
        lambda model: None,
        lambda model: model.model.layers[0].self_attn,
    ),
    "causal_attention": (
        attention_but(lambda scores: hidden(scores, -1.0).softmax(-1)),
        attention_but(lambda scores: windowed(scores).softmax(-1)),
        attention_but(lambda scores: hidden(scores / 1.02).softmax(-1)),
        attention_but(lambda scores: hidden(scores, 0.0)),
        attention_but(lambda scores: hidden(scores.relu(), 0.0)),
        attention_but(lambda scores: hidden(scores).softmax(-1).round(decimals=2)),
        attention_but(lambda scores: hidden(0 * scores).softmax(-1)),
        attention_but(lambda scores: F.dropout(hidden(scores).softmax(-1), 0.1)),
        attention_but(
            lambda scores: F.one_hot(hidden(scores).argmax(-1), scores.shape[-1]).float()
        ),
        output_and(lambda y: (y, None)),
        output_and(lambda y: y.transpose(0, 1)),
        output_and(lambda y: y.mean(1)),
        output_and(lambda y: y + 0.01),
        output_and(lambda y: y.tolist()),
        attention_in_half_precision,
        first_kv_head_for_all,
        over_the_whole_batch,
        values_of_the_next_head,
        keys_for_queries,
        lambda x, *_: x,
        lambda x, *_: torch.zeros_like(x),
        lambda x, *_: None,
        lambda x, wq, wk, wv, wo, *_: x.cumsum(1) @ wq.T @ wo.T,
    ),
    "decoder_block": (
        lambda x, attention, mlp, norm1, norm2: x + attention(norm1(x)) + mlp(norm2(norm1(x))),
        lambda x, attention, mlp, norm1, norm2: x + mlp(norm2(attention(norm1(x)))),
        lambda x, attention, mlp, norm1, norm2: block_in_steps(
            x, attention, mlp, norm1, lambda h: norm2(norm1(h))
        ),
        lambda x, attention, mlp, norm1, norm2: block_in_steps(x, mlp, attention, norm1, norm2),
        block_and(lambda x, y: x + y),
        block_and(lambda x, y: y - x),
        block_and(lambda x, y: (x + y) / 2),
        block_and(lambda x, y: y.mean(1)),
        block_and(lambda x, y: y * 1.001),
        block_and(lambda x, y: (y,)),
        block_and(lambda x, y: None),
        lambda x, *parts: x,
    ),
}
