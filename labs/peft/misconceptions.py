"""The known mistakes of the PEFT lab; each docstring is the hint a learner reads."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from peft import (
    AutoPeftModelForCausalLM,
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
)
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, BitsAndBytesConfig

from verify.authoring import misconception

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]

# A check that waits for another one is played only when that one passed: these fail in one place.
COUNTED, PACKED = ("parameters_counted",), ("packed_weights_counted",)
ADDED, GRADIENTS = ("update_added_at_its_scale",), ("gradients_pass_both_ways",)
MERGED, IN_A_MODEL = ("weight_merged",), ("weight_merged", "merged_model_answers_alike")
WHERE, START = ("adapters_where_asked",), ("starts_as_the_base",)
SCALED = ("scaled_by_alpha_over_r", "base_stays_as_it_is")
SMALL = ("small_steps_count",)
VALUES, PRODUCTS = ("weights_are_doubly_quantised_nf4",), ("products_are_bfloat16",)
KEPT = ("kept_in_four_bits",)
SAVED, LOADED = ("adapter_alone_saved",), ("adapter_on_its_base",)
AGAIN = ("adapter_on_its_base", "reloaded_equals_saved")


# --- trainable_report -----------------------------------------------------------------------------


def _count(parameters, size=torch.Tensor.numel):
    return sum(size(parameter) for parameter in parameters)


def _trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@misconception("trainable_report")
def trainable_report_not_written(model):
    """Go over `model.parameters()`: each has a number of elements and says whether it wants a
    gradient. The lesson's section "What is trained, and how much that is" has both."""
    raise NotImplementedError


@misconception("trainable_report", checks=COUNTED)
def tensors_counted(model):
    """These are numbers of tensors. A weight matrix is one tensor and has thousands of parameters:
    add up their elements (`numel`)."""
    return len(_trained(model)), len(list(model.parameters()))


@misconception("trainable_report", checks=COUNTED)
def frozen_as_total(model):
    """The second number is that of the frozen parameters alone. The total has the trained ones in
    it too; otherwise the share comes out too large."""
    trained = _count(_trained(model))
    return trained, _count(model.parameters()) - trained


@misconception("trainable_report", checks=COUNTED)
def total_first(model):
    """The two numbers are the wrong way round: what is trained comes first, then all there is."""
    return _count(model.parameters()), _count(_trained(model))


@misconception("trainable_report", checks=COUNTED)
def all_taken_for_trained(model):
    """Every parameter was counted as trained. A frozen one is a parameter too: only those with
    `requires_grad` are trained."""
    return _count(model.parameters()), _count(model.parameters())


@misconception("trainable_report", checks=COUNTED)
def shared_counted_twice(model):
    """A tensor that two modules share was counted twice. Tied embeddings are one matrix under two
    names, in `state_dict()` too; `parameters()` gives each tensor once."""
    both = [p for _, p in model.named_parameters(remove_duplicate=False)]
    return _count(p for p in both if p.requires_grad), _count(both)


@misconception("trainable_report", checks=COUNTED)
def total_from_the_state_dict(model):
    """The total was taken from `state_dict()`, which holds a tensor that two modules share once for
    each of them. `parameters()` gives each tensor once."""
    return _count(_trained(model)), _count(model.state_dict().values())


@misconception("trainable_report", checks=COUNTED)
def bytes_counted(model):
    """These are bytes. A parameter is a number, however many bytes it takes: `numel` alone, without
    `element_size`."""
    return _count(_trained(model), lambda p: p.nbytes), _count(
        model.parameters(), lambda p: p.nbytes
    )


@misconception("trainable_report", checks=COUNTED)
def share_as_total(model):
    """The second number is a share in percent. Return the two counts; who wants their share divides
    them."""
    trained = _count(_trained(model))
    return trained, 100 * trained / _count(model.parameters())


@misconception("trainable_report", checks=COUNTED)
def only_with_an_adapter(model):
    """`get_nb_trainable_parameters` is a method of PEFT's wrapper: a model without an adapter does
    not have it. Count the parameters yourself, and any model will do."""
    return model.get_nb_trainable_parameters()


@misconception("trainable_report", checks=COUNTED)
def printed_only(model):
    """`print_trainable_parameters` prints and returns nothing, and only PEFT's wrapper has it.
    Count the parameters and return the two numbers."""
    return model.print_trainable_parameters()


@misconception("trainable_report", checks=PACKED)
def packed_bytes_as_parameters(model):
    """A 4-bit weight was counted by `numel()` as it is stored: packed, two to a byte, so a 7B model
    seems to have about 3.6 billion parameters and the trained share seems twice as large. Count
    a `Params4bit` twice for every byte."""
    return _count(_trained(model)), _count(model.parameters())


# --- lora_linear ----------------------------------------------------------------------------------


def _with_scale(scale):
    def lora_linear(x, weight, A, B, alpha):
        return x @ weight.T + scale(weight, A, alpha) * (x @ A.T @ B.T)

    return lora_linear


@misconception("lora_linear")
def lora_linear_not_written(x, weight, A, B, alpha):
    """It is the frozen layer's output plus a second one that goes through A and then through B,
    scaled. The lesson's "An update of low rank" has the formula and the shapes."""
    raise NotImplementedError


@misconception("lora_linear", checks=ADDED)
def scale_missing(x, weight, A, B, alpha):
    """The update is not scaled: it is to be multiplied by alpha / r."""
    return _with_scale(lambda w, a, alpha: 1)(x, weight, A, B, alpha)


@misconception("lora_linear", checks=ADDED)
def alpha_not_over_r(x, weight, A, B, alpha):
    """The update is multiplied by alpha alone. It is alpha / r: then a larger rank does not by
    itself make a larger update."""
    return _with_scale(lambda w, a, alpha: alpha)(x, weight, A, B, alpha)


@misconception("lora_linear", checks=ADDED)
def alpha_times_r(x, weight, A, B, alpha):
    """The update is multiplied by alpha * r; it is alpha / r."""
    return _with_scale(lambda w, a, alpha: alpha * len(a))(x, weight, A, B, alpha)


@misconception("lora_linear", checks=ADDED)
def scale_upside_down(x, weight, A, B, alpha):
    """The scale is upside down: alpha / r, not r / alpha. A larger alpha makes the update
    larger."""
    return _with_scale(lambda w, a, alpha: len(a) / alpha)(x, weight, A, B, alpha)


@misconception("lora_linear", checks=ADDED)
def scale_by_width(x, weight, A, B, alpha):
    """alpha was divided by the layer's width: A is (r, in), so the rank is its first dimension, not
    its last."""
    return _with_scale(lambda w, a, alpha: alpha / a.shape[1])(x, weight, A, B, alpha)


@misconception("lora_linear", checks=ADDED)
def scale_by_outputs(x, weight, A, B, alpha):
    """alpha was divided by the number of outputs: B is (out, r), so the rank is its last dimension,
    not its first."""
    return _with_scale(lambda w, a, alpha: alpha / w.shape[0])(x, weight, A, B, alpha)


@misconception("lora_linear", checks=ADDED)
def scale_by_root_of_rank(x, weight, A, B, alpha):
    """The scale is alpha / sqrt(r), that of rank-stabilised LoRA. It has its uses, but LoRA, and
    PEFT unless told otherwise, scales by alpha / r."""
    return _with_scale(lambda w, a, alpha: alpha / math.sqrt(len(a)))(x, weight, A, B, alpha)


@misconception("lora_linear", checks=ADDED)
def base_replaced(x, weight, A, B, alpha):
    """That is the update alone; the frozen weight is missing. B A does not replace W, it is what
    training adds to it."""
    return alpha / len(A) * (x @ A.T @ B.T)


@misconception("lora_linear", checks=ADDED)
def base_scaled_too(x, weight, A, B, alpha):
    """The frozen layer's output was scaled as well. alpha / r belongs to the update alone: without
    an update the layer must answer as before."""
    return alpha / len(A) * (x @ weight.T + x @ A.T @ B.T)


@misconception("lora_linear", checks=ADDED)
def update_not_transposed(x, weight, A, B, alpha):
    """B A is a weight, (out, in), like W, so x has to be multiplied by its transpose: x A^T B^T.
    With a square layer no error tells you so."""
    return x @ weight.T + alpha / len(A) * (x @ (B @ A))


@misconception("lora_linear", checks=ADDED)
def weight_not_transposed(x, weight, A, B, alpha):
    """x was multiplied by W as it is. A linear layer keeps its weight as (out, in) and computes x
    W^T; with a square layer no error tells you so."""
    return x @ weight + alpha / len(A) * (x @ A.T @ B.T)


@misconception("lora_linear", checks=ADDED)
def matrices_do_not_fit(x, weight, A, B, alpha):
    """The shapes never fit, or only by chance: A and B are in the wrong order, or not transposed. x
    (.., in) meets A^T (in, r) first and B^T (r, out) second."""
    return x @ weight.T + alpha / len(A) * (x @ B.T @ A.T)


@misconception("lora_linear", checks=ADDED)
def weight_changed(x, weight, A, B, alpha):
    """The update was added into the caller's weight, so a second call adds it again. The base is
    frozen: compute with it and leave it as it is."""
    weight += alpha / len(A) * (B @ A)
    return x @ weight.T


@misconception("lora_linear", checks=ADDED)
def alpha_truncated(x, weight, A, B, alpha):
    """The scale was computed in whole numbers (`//` or `int`) and lost its fraction. Divide with
    `/`."""
    return _with_scale(lambda w, a, alpha: alpha // len(a))(x, weight, A, B, alpha)


@misconception("lora_linear", checks=GRADIENTS)
def base_without_gradient(x, weight, A, B, alpha):
    """The base's part was computed under `no_grad` (or detached), so no gradient passes through it
    to the layers before, and their adapters learn from a part of the truth. Frozen means that
    the weight itself gets no gradient, not that none goes through."""
    with torch.no_grad():
        y = x @ weight.T
    return y + alpha / len(A) * (x @ A.T @ B.T)


@misconception("lora_linear", checks=GRADIENTS)
def input_detached_from_adapter(x, weight, A, B, alpha):
    """The adapter was given `x.detach()`: A and B learn, but the gradient that goes through them to
    the layers before is lost."""
    return x @ weight.T + alpha / len(A) * (x.detach() @ A.T @ B.T)


@misconception("lora_linear", checks=GRADIENTS)
def adapter_without_gradient(x, weight, A, B, alpha):
    """The adapter's part was computed under `no_grad` (or detached): A and B get no gradient and
    can never learn. They are the only thing that is trained."""
    with torch.no_grad():
        update = alpha / len(A) * (x @ A.T @ B.T)
    return x @ weight.T + update


# --- merge_lora -----------------------------------------------------------------------------------


@misconception("merge_lora")
def merge_lora_not_written(weight, A, B, alpha):
    """The update is a matrix of the weight's shape, B times A, and has a scale. Add it to the
    weight: the lesson's "Merging"."""
    raise NotImplementedError


@misconception("merge_lora", checks=IN_A_MODEL)
def merged_without_scale(weight, A, B, alpha):
    """The product was added as it is. It is scaled by alpha / r, in the merged weight as it is
    beside it."""
    return weight + B @ A


@misconception("merge_lora", checks=IN_A_MODEL)
def merged_alpha_not_over_r(weight, A, B, alpha):
    """The product was multiplied by alpha alone: the scale is alpha / r."""
    return weight + alpha * (B @ A)


@misconception("merge_lora", checks=IN_A_MODEL)
def merged_alpha_times_r(weight, A, B, alpha):
    """The product was multiplied by alpha * r: the scale is alpha / r."""
    return weight + alpha * len(A) * (B @ A)


@misconception("merge_lora", checks=IN_A_MODEL)
def merged_scale_upside_down(weight, A, B, alpha):
    """The scale is upside down: it is alpha / r, not r / alpha."""
    return weight + len(A) / alpha * (B @ A)


@misconception("merge_lora", checks=IN_A_MODEL)
def merged_scale_by_width(weight, A, B, alpha):
    """alpha was divided by the layer's width: A is (r, in), so the rank is its first dimension."""
    return weight + alpha / A.shape[1] * (B @ A)


@misconception("merge_lora", checks=IN_A_MODEL)
def merged_scale_by_root_of_rank(weight, A, B, alpha):
    """The product was multiplied by alpha / sqrt(r), the scale of rank-stabilised LoRA. LoRA, and
    PEFT unless told otherwise, scales by alpha / r, merged or not."""
    return weight + alpha / math.sqrt(len(A)) * (B @ A)


@misconception("merge_lora", checks=MERGED)
def merged_scale_by_outputs(weight, A, B, alpha):
    """alpha was divided by the number of outputs: B is (out, r), so the rank is its last
    dimension."""
    return weight + alpha / B.shape[0] * (B @ A)


@misconception("merge_lora", checks=IN_A_MODEL)
def update_alone(weight, A, B, alpha):
    """That is the update alone. The merged weight is the frozen one plus the update."""
    return alpha / len(A) * (B @ A)


@misconception("merge_lora", checks=IN_A_MODEL)
def unmerged(weight, A, B, alpha):
    """The update was taken away, which is how a merged weight is unmerged. Merging adds it."""
    return weight - alpha / len(A) * (B @ A)


@misconception("merge_lora", checks=IN_A_MODEL)
def merged_twice(weight, A, B, alpha):
    """The update is in it twice: it was added in place and then once more, or a merged weight was
    merged again. Add it once."""
    return weight + 2 * alpha / len(A) * (B @ A)


@misconception("merge_lora", checks=MERGED)
def merged_transposed(weight, A, B, alpha):
    """The transpose of the update was added. W is (out, in), and so is B A; with a square weight no
    error tells you that A^T B^T is not."""
    return weight + alpha / len(A) * (A.T @ B.T)


@misconception("merge_lora", checks=MERGED)
def product_in_the_wrong_order(weight, A, B, alpha):
    """The shapes do not fit: A B is not the update. B is (out, r) and A is (r, in), so it is B A
    that has the weight's shape (out, in)."""
    return weight + alpha / len(A) * (A @ B)


@misconception("merge_lora", checks=MERGED)
def merged_in_place(weight, A, B, alpha):
    """The caller's weight was changed, so merging a second time, or another adapter, starts from a
    weight that is merged already. Return a new one (`weight + ...`, not `+=` or `add_`)."""
    weight += alpha / len(A) * (B @ A)
    return weight


# --- add_lora -------------------------------------------------------------------------------------


def _lora(model, r, alpha, **other):
    told = {"r": r, "lora_alpha": alpha, "target_modules": ATTENTION, **other}
    return get_peft_model(model, LoraConfig(**told))


@misconception("add_lora")
def add_lora_not_written(model, r, alpha):
    """Two steps with PEFT: a `LoraConfig` that says the rank, alpha and the layers, and the
    function that puts it on the model. The lesson's "Adding adapters with PEFT" shows both."""
    raise NotImplementedError


@misconception("add_lora", checks=WHERE)
def only_q_and_v(model, r, alpha):
    """Only `q_proj` and `v_proj` have an adapter: that is what PEFT does by itself when it is not
    told where. Name all four projections in `target_modules`."""
    return _lora(model, r, alpha, target_modules=["q_proj", "v_proj"])


@misconception("add_lora", checks=WHERE)
def nothing_told(model, r, alpha):
    """PEFT chose everything by itself: rank 8, and only `q_proj` and `v_proj`. Say in the
    `LoraConfig` what you want: `r`, `lora_alpha` and `target_modules`."""
    return get_peft_model(model, LoraConfig())


@misconception("add_lora", checks=WHERE)
def output_projection_forgotten(model, r, alpha):
    """`o_proj` has no adapter. Attention has four linear layers: what makes queries, keys and
    values, and what brings the result back to the model's width."""
    return _lora(model, r, alpha, target_modules=ATTENTION[:3])


@misconception("add_lora", checks=WHERE)
def all_linear_layers(model, r, alpha):
    """The MLP's layers have adapters as well ("all-linear"). It is the usual choice today, but
    asked for are the four attention projections alone: fewer numbers to train."""
    return _lora(model, r, alpha, target_modules="all-linear")


@misconception("add_lora", checks=WHERE)
def rank_left_out(model, r, alpha):
    """The rank is 8, PEFT's default, whatever `r` says. Hand it on: `LoraConfig(r=r, ...)`."""
    return _lora(model, 8, alpha)


@misconception("add_lora", checks=WHERE)
def rank_of_an_example(model, r, alpha):
    """The rank is 16, as in many examples, whatever `r` says. Hand on the argument."""
    return _lora(model, 16, alpha)


@misconception("add_lora", checks=WHERE)
def rank_and_alpha_exchanged(model, r, alpha):
    """Rank and alpha are exchanged: `r` is the number of rows of A, `lora_alpha` only scales."""
    return _lora(model, alpha, r)


@misconception("add_lora", checks=SCALED)
def alpha_is_rank(model, r, alpha):
    """alpha was set to the rank, so the update's scale is 1 whatever `alpha` says. Hand on the
    argument: `lora_alpha=alpha`."""
    return _lora(model, r, r)


@misconception("add_lora", checks=SCALED)
def alpha_twice_the_rank(model, r, alpha):
    """alpha was set to twice the rank, a common rule of thumb, whatever `alpha` says. Hand on the
    argument: `lora_alpha=alpha`."""
    return _lora(model, r, 2 * r)


@misconception("add_lora", checks=SCALED)
def alpha_left_out(model, r, alpha):
    """alpha is 8, PEFT's default, whatever `alpha` says. Hand it on: `lora_alpha=alpha`."""
    return _lora(model, r, 8)


@misconception("add_lora", checks=SCALED)
def alpha_of_an_example(model, r, alpha):
    """alpha is 16, as in many examples, whatever `alpha` says. Hand on the argument."""
    return _lora(model, r, 16)


@misconception("add_lora", checks=SCALED)
def alpha_scaled_before(model, r, alpha):
    """alpha was divided by the rank already, and PEFT does it again. Hand it on as it is."""
    return _lora(model, r, alpha / r)


@misconception("add_lora", checks=SCALED)
def rank_stabilised(model, r, alpha):
    """The scale is alpha / sqrt(r): `use_rslora` is on. LoRA scales by alpha / r."""
    return _lora(model, r, alpha, use_rslora=True)


@misconception("add_lora", checks=WHERE)
def base_unfrozen(model, r, alpha):
    """The base is trained too: all its parameters want a gradient. PEFT froze them; leave that as
    it is, or it is full fine-tuning with an adapter on top."""
    return _lora(model, r, alpha).requires_grad_(requires_grad=True)


@misconception("add_lora", checks=WHERE)
def biases_trained(model, r, alpha):
    """The base's biases are trained too (`bias="all"` or `"lora_only"`). Then the base is no longer
    what it was, even with the adapter switched off. Leave `bias` at `"none"`."""
    return _lora(model, r, alpha, bias="all")


@misconception("add_lora", checks=WHERE)
def head_trained_too(model, r, alpha):
    """A whole copy of the LM head is trained and saved (`modules_to_save`). It is needed when
    tokens were added; here it is most of what is trained, and not asked for."""
    return _lora(model, r, alpha, modules_to_save=["lm_head"])


@misconception("add_lora", checks=WHERE)
def adapter_frozen(model, r, alpha):
    """Nothing is trained: the adapter is frozen as well. `inference_mode=True` does that, and so
    does freezing all parameters after the adapter was added. PEFT freezes the base by itself."""
    return _lora(model, r, alpha, inference_mode=True)


@misconception("add_lora", checks=START)
def update_random_at_the_start(model, r, alpha):
    """B was drawn at random (`init_lora_weights=False`), so the untrained adapter changes every
    answer. A is random and B zero: their product is zero, and training starts from the model."""
    return _lora(model, r, alpha, init_lora_weights=False)


@misconception("add_lora", checks=WHERE)
def wrapper_dropped(model, r, alpha):
    """The adapter is there, but the model inside came back, not the wrapper. PEFT puts adapters
    into the model that it is given and returns a `PeftModel` around it, as `add_adapter` does
    not; that one saves and loads adapters. Return it."""
    _lora(model, r, alpha)
    return model


@misconception("add_lora", checks=WHERE)
def no_adapter_left(model, r, alpha):
    """There is no adapter on the model that came back: only a configuration was made, or the
    adapter was merged or unloaded again. Return what PEFT gives back."""
    return model.requires_grad_(requires_grad=False)


@misconception("add_lora")
def nothing_returned(model, r, alpha):
    """Nothing was returned. PEFT gives back a model with the adapter in it: return that."""
    _lora(model, r, alpha)


@misconception("add_lora", checks=SMALL)
def adapters_in_bfloat16(model, r, alpha):
    """A and B are bfloat16 like the base, and small steps are rounded away. PEFT keeps them in
    float32 unless `autocast_adapter_dtype=False`, or the model is cast, says otherwise: they are
    small, so that costs nothing."""
    config = LoraConfig(r=r, lora_alpha=alpha, target_modules=ATTENTION)
    return get_peft_model(model, config, autocast_adapter_dtype=False)


# --- load_4bit ------------------------------------------------------------------------------------


def _four_bits(**other):
    told = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    }
    return BitsAndBytesConfig(**{**told, **other})


def _load_4bit(path, **other):
    return AutoModelForCausalLM.from_pretrained(path, quantization_config=_four_bits(**other))


@misconception("load_4bit")
def load_4bit_not_written(path):
    """A `BitsAndBytesConfig` says how to quantise and is handed to `from_pretrained`. The lesson's
    "QLoRA: the base in four bits" explains its four settings."""
    raise NotImplementedError


@misconception("load_4bit", checks=VALUES)
def fp4(path):
    """The weights are FP4, which is what `load_in_4bit` alone gives. NF4's 16 values lie where the
    weights of a normal distribution do: `bnb_4bit_quant_type="nf4"`."""
    return _load_4bit(path, bnb_4bit_quant_type="fp4")


@misconception("load_4bit", checks=VALUES)
def fp4_with_plain_scales(path):
    """The weights are FP4 and their scales are not quantised: that is what `load_in_4bit` alone
    gives. Ask for `bnb_4bit_quant_type="nf4"` and `bnb_4bit_use_double_quant=True`."""
    return _load_4bit(path, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=False)


@misconception("load_4bit", checks=VALUES)
def scales_not_quantised(path):
    """The weights are NF4 and their scales are still float32: half a bit for every weight. Double
    quantisation keeps the scales in 8 bits: `bnb_4bit_use_double_quant=True`."""
    return _load_4bit(path, bnb_4bit_use_double_quant=False)


@misconception("load_4bit", checks=PRODUCTS)
def float32_compute(path):
    """The layers compute in float32, which is the default and slow on a GPU. 4 bits are only how
    weights are kept; say in what to compute: `bnb_4bit_compute_dtype=torch.bfloat16`."""
    return _load_4bit(path, bnb_4bit_compute_dtype=torch.float32)


@misconception("load_4bit", checks=PRODUCTS)
def float16_compute(path):
    """The layers compute in float16, whose range ends at 65504. Say
    `bnb_4bit_compute_dtype=torch.bfloat16`."""
    return _load_4bit(path, bnb_4bit_compute_dtype=torch.float16)


@misconception("load_4bit", checks=VALUES)
def eight_bits(path):
    """The weights are in 8 bits (`load_in_8bit`): twice the memory of 4. Ask for `load_in_4bit`."""
    config = BitsAndBytesConfig(load_in_8bit=True)
    return AutoModelForCausalLM.from_pretrained(path, quantization_config=config)


@misconception("load_4bit", checks=VALUES)
def not_quantised(path):
    """The weights are the checkpoint's own, not quantised at all: the configuration has to be
    handed to `from_pretrained` as `quantization_config`."""
    return AutoModelForCausalLM.from_pretrained(path)


@misconception("load_4bit", checks=KEPT)
def dequantised_again(path):
    """The weights were rounded to 4 bits and then written out in 16 again (`dequantize`): all of
    the error and none of the saving. Return the model as it was loaded."""
    return _load_4bit(path).dequantize()


@misconception("load_4bit", checks=VALUES)
def cast_after_loading(path):
    """The quantised model was cast (`.to(torch.bfloat16)`), and Transformers refuses that: packed
    weights have no other data type. What it computes in is `bnb_4bit_compute_dtype`."""
    return _load_4bit(path).to(torch.bfloat16)


@misconception("load_4bit", checks=VALUES)
def without_a_head(path):
    """`AutoModel` loads the decoder without its LM head: there are no logits. A model that is to
    say the next token is `AutoModelForCausalLM`."""
    return AutoModel.from_pretrained(path, quantization_config=_four_bits())


# --- save_adapter ---------------------------------------------------------------------------------


@misconception("save_adapter", checks=SAVED)
def save_adapter_not_written(model, directory):
    """The model that PEFT returns can write its adapter by itself: "Saving and loading an
    adapter"."""
    raise NotImplementedError


@misconception("save_adapter", checks=SAVED)
def merged_model_saved(model, directory):
    """A merged model was saved: as large as the base, and the adapter is no longer to be had from
    it. Save the adapter itself, without merging."""
    model.merge_and_unload().save_pretrained(directory)


@misconception("save_adapter", checks=SAVED)
def model_inside_saved(model, directory):
    """The model inside the wrapper was saved, base weights and all. It is the `PeftModel` itself
    that knows which weights are the adapter's."""
    model.get_base_model().save_pretrained(directory)


@misconception("save_adapter", checks=SAVED)
def state_dict_pickled(model, directory):
    """All weights were written by `torch.save`, the base's too. An adapter in PEFT's format is its
    own matrices and a configuration; and such a file runs code when it is read."""
    torch.save(model.state_dict(), Path(directory, "model.pt"))


@misconception("save_adapter", checks=SAVED)
def adapter_pickled(model, directory):
    """The adapter's matrices are in a file of `torch.save`, and there is no configuration with
    them. Others cannot load that, and reading it runs code: use PEFT's own format."""
    torch.save(get_peft_model_state_dict(model), Path(directory, "adapter_model.bin"))


@misconception("save_adapter", checks=SAVED)
def safetensors_switched_off(model, directory):
    """The matrices were written by `torch.save` (`safe_serialization=False`), and such a file runs
    code when it is read. Leave that at its default: `adapter_model.safetensors`."""
    model.save_pretrained(directory, safe_serialization=False)


@misconception("save_adapter", checks=SAVED)
def configuration_missing(model, directory):
    """The matrices are there without `adapter_config.json`: nobody can know their alpha, nor where
    they belong. PEFT writes both at once."""
    save_file(get_peft_model_state_dict(model), Path(directory, "adapter_model.safetensors"))


@misconception("save_adapter", checks=SAVED)
def matrices_missing(model, directory):
    """Only the configuration was saved, which holds no weight. What was learned is in the
    matrices."""
    model.peft_config["default"].save_pretrained(directory)


@misconception("save_adapter", checks=SAVED)
def base_in_the_adapter_file(model, directory):
    """The whole `state_dict` was written under the adapter's name, the base with it. Only the
    matrices A and B belong there: that is why an adapter takes megabytes, not gigabytes."""
    model.peft_config["default"].save_pretrained(directory)
    save_file(model.state_dict(), Path(directory, "adapter_model.safetensors"))


@misconception("save_adapter", checks=SAVED)
def in_a_folder_below(model, directory):
    """The adapter was saved in a folder below the one that was named. Use `directory` itself."""
    model.save_pretrained(str(Path(directory, "adapter")))


@misconception("save_adapter", checks=SAVED)
def nothing_saved(model, directory):
    """The folder is empty: what was learned has to be written into `directory`. PEFT's wrapper does
    it with one call."""
    get_peft_model_state_dict(model)


# --- load_adapter ---------------------------------------------------------------------------------


def _base(path, **other):
    return AutoModelForCausalLM.from_pretrained(path, **other)


@misconception("load_adapter", checks=LOADED)
def load_adapter_not_written(base_path, directory):
    """First the base, as ever; then PEFT puts the saved adapter on it. The lesson's "Saving and
    loading an adapter" has both lines."""
    raise NotImplementedError


@misconception("load_adapter", checks=AGAIN)
def adapter_forgotten(base_path, directory):
    """That is the base without the adapter. Either it was never loaded, or its weights were given
    to the base with `strict=False`, which skips every name that it does not know, or `unload`
    threw it away (`merge_and_unload` would keep it)."""
    return _base(base_path)


@misconception("load_adapter", checks=AGAIN)
def freshly_initialised(base_path, directory):
    """The adapter is a new one, made from the saved configuration, and B is zero: what was learned
    is not in it. `PeftModel.from_pretrained` reads the matrices too; `get_peft_model` does not,
    and `load_state_dict(..., strict=False)` skips names that do not fit."""
    return get_peft_model(_base(base_path), PeftConfig.from_pretrained(directory))


@misconception("load_adapter", checks=LOADED)
def base_from_the_configuration(base_path, directory):
    """The base was not loaded from `base_path`: `AutoPeftModelForCausalLM` (and `from_pretrained`
    of an adapter's folder) takes the one that the adapter's configuration names, and what lies
    there may be another model by now. Load the base yourself."""
    return AutoPeftModelForCausalLM.from_pretrained(directory)


@misconception("load_adapter", checks=LOADED)
def random_base(base_path, directory):
    """The adapter is on a base with random weights: `from_config` makes a model of the right shape
    and loads nothing. An adapter is worth something only on the base it was trained on."""
    base = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base_path))
    return PeftModel.from_pretrained(base, directory)


@misconception("load_adapter", checks=LOADED)
def base_in_bfloat16(base_path, directory):
    """The base was rounded to bfloat16, and its checkpoint is float32: the answers are no longer
    those of the model that was saved. Load it in its own data type, which is the default."""
    return PeftModel.from_pretrained(_base(base_path, dtype=torch.bfloat16), directory)


@misconception("load_adapter", checks=LOADED)
def adapter_switched_off(base_path, directory):
    """The adapter is loaded and switched off (`disable_adapter_layers`): the model answers as the
    base does."""
    model = PeftModel.from_pretrained(_base(base_path), directory)
    model.base_model.disable_adapter_layers()  # type: ignore[operator]
    return model


@misconception("load_adapter", checks=LOADED)
def adapter_merged_twice(base_path, directory):
    """The adapter is in it twice: it was merged into the base and then loaded once more. Do one or
    the other."""
    merged = PeftModel.from_pretrained(_base(base_path), directory).merge_and_unload()
    return PeftModel.from_pretrained(merged, directory)


@misconception("load_adapter", checks=LOADED)
def model_not_returned(base_path, directory):
    """Nothing was returned. PEFT returns the model with the adapter in it: return that."""
    PeftModel.from_pretrained(_base(base_path), directory)
