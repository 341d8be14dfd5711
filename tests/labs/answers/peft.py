"""Answers to the PEFT exercise: seven functions, rightly in other words, and wrongly."""

# ruff: noqa: N803, N806 - A and B are the field's names for the two matrices

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
    prepare_model_for_kbit_training,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


# --- trainable_report, rightly --------------------------------------------------------------------


def report_by_transformers(model):
    return model.num_parameters(only_trainable=True), model.num_parameters()


def numbers_in(parameter):
    return parameter.numel() * (2 if parameter.dtype == torch.uint8 else 1)


def report_by_numpy(model):
    sizes = np.array([[numbers_in(p) * p.requires_grad, numbers_in(p)] for p in model.parameters()])
    return [np.int64(number) for number in sizes.sum(axis=0)]


def report_by_shapes(model):
    trained, total = torch.tensor(0), torch.tensor(0)
    for _, parameter in model.named_parameters():
        state = getattr(parameter, "quant_state", None)
        count = (state.shape if state is not None else parameter.shape).numel()
        total += count
        if parameter.requires_grad:
            trained += count
    return trained, total


def report_by_module(model):
    own = {
        id(p): p for module in model.modules() for p in module._parameters.values() if p is not None
    }
    return tuple(
        float(sum(numbers_in(p) for p in own.values() if p.requires_grad or every))
        for every in (False, True)
    )


# --- lora_linear and merge_lora, rightly ----------------------------------------------------------


def linear_by_merging(x, weight, A, B, alpha):
    return F.linear(x, weight + B @ A * (alpha / A.size(0)))


def linear_by_einsum(x, weight, A, B, alpha):
    low = torch.einsum("...i,ri->...r", x, A * (alpha / B.shape[-1]))
    return torch.einsum("...i,oi->...o", x, weight) + torch.einsum("...r,or->...o", low, B)


def linear_by_modules(x, weight, A, B, alpha):
    out = nn.functional.linear(nn.functional.linear(x, A), B).mul(alpha / len(A))
    return out.add(nn.functional.linear(x, weight))


def linear_in_double(x, weight, A, B, alpha):
    x, weight, A, B = x.double(), weight.double(), A.double(), B.double()
    return x @ weight.mT + x @ A.mT @ B.mT * alpha / A.shape[0]


def merge_by_addmm(weight, A, B, alpha):
    return torch.addmm(weight, B, A, alpha=alpha / len(A))


def merge_by_columns(weight, A, B, alpha):
    merged = weight.clone()
    for row, column in zip(A, B.T, strict=True):
        merged += torch.outer(column, row) * alpha / A.shape[0]
    return merged


def merge_by_unit_vectors(weight, A, B, alpha):
    return linear_by_einsum(torch.eye(weight.shape[1]), weight, A, B, alpha).T


def merge_in_double(weight, A, B, alpha):
    return weight.double() + np.float64(alpha) / len(A) * (B.double() @ A.double())


# --- add_lora, rightly ----------------------------------------------------------------------------


def _lora(model, r, alpha, **other):
    told = {"r": r, "lora_alpha": alpha, "target_modules": ATTENTION, **other}
    return get_peft_model(model, LoraConfig(**told))


def lora_as_in_examples(model, r, alpha):
    return _lora(
        model,
        r,
        int(alpha),
        lora_dropout=0.1,
        bias="none",
        task_type=TaskType.CAUSAL_LM,
        target_modules=set(ATTENTION),
    )


def lora_by_pattern(model, r, alpha):
    return _lora(model, r, float(alpha), target_modules=r".*\.self_attn\.[qkvo]_proj")


def lora_by_full_names(model, r, alpha):
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.search(r"\b(q|k|v|o)_proj$", name)
    ]
    return _lora(model, r, alpha, target_modules=names, init_lora_weights="gaussian")


def lora_by_another_name(model, r, alpha):
    for parameter in model.parameters():
        parameter.requires_grad = False
    config = LoraConfig(task_type="CAUSAL_LM", r=r, lora_alpha=alpha, target_modules=ATTENTION)
    return get_peft_model(model, config, adapter_name="mine").train()


def lora_by_the_wrapper(model, r, alpha):
    return PeftModel(model, LoraConfig(r=r, lora_alpha=alpha, target_modules=ATTENTION))


# --- load_4bit, rightly ---------------------------------------------------------------------------


def _four_bits(**other):
    told = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    }
    return BitsAndBytesConfig(**{**told, **other})


def _load(path, config=None, **other):
    given = {"quantization_config": config or _four_bits(), **other}
    return AutoModelForCausalLM.from_pretrained(path, **given)


def four_bits_placed(path):
    return _load(path, device_map="auto", dtype=torch.bfloat16)


def four_bits_in_words(path):
    return _load(path, _four_bits(bnb_4bit_compute_dtype="bfloat16"), dtype="float32").eval()


def four_bits_prepared(path):
    return prepare_model_for_kbit_training(_load(path, dtype="auto"))


def four_bits_stored_as_bfloat16(path):
    return _load(path, _four_bits(bnb_4bit_quant_storage=torch.bfloat16))


def four_bits_tried_out(path):
    model = _load(path)
    with torch.no_grad():  # some CPUs repack the weights at the first call
        model(torch.tensor([[5, 6, 7]], device=model.device))
    return model


# --- save_adapter and load_adapter, rightly -------------------------------------------------------


def save_named(model, directory):
    return model.save_pretrained(
        Path(directory), selected_adapters=["default"], save_embedding_layers=False
    )


def save_in_two_parts(model, directory):
    model.peft_config["default"].save_pretrained(directory)
    tensors = get_peft_model_state_dict(model)
    save_file(tensors, f"{directory}/adapter_model.safetensors", metadata={"format": "pt"})


def save_by_hand(model, directory):
    config = model.peft_config["default"].to_dict()
    config["target_modules"] = list(config["target_modules"])
    (Path(directory) / "adapter_config.json").write_text(json.dumps(config, default=str))
    adapter = {
        name.replace(".default", ""): parameter.detach().clone().cpu()
        for name, parameter in model.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }
    save_file(adapter, Path(directory) / "adapter_model.safetensors")


def load_and_merge(base_path, directory):
    base = AutoModelForCausalLM.from_pretrained(base_path, dtype="auto")
    return PeftModel.from_pretrained(base, directory, is_trainable=True).merge_and_unload()


def load_by_transformers(base_path, directory):
    model = AutoModelForCausalLM.from_pretrained(base_path)
    model.load_adapter(directory)
    return model


def load_in_two_parts(base_path, directory):
    config = PeftConfig.from_pretrained(directory)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base_path), config)
    set_peft_model_state_dict(model, load_file(f"{directory}/adapter_model.safetensors"))
    return model.train()


def load_the_model_inside(base_path, directory):
    base = AutoModelForCausalLM.from_pretrained(base_path)
    return PeftModel.from_pretrained(base, directory, adapter_name="mine").get_base_model()


def load_by_formula(base_path, directory):
    model = AutoModelForCausalLM.from_pretrained(base_path)
    config = json.loads(Path(directory, "adapter_config.json").read_text())
    matrices = load_file(Path(directory, "adapter_model.safetensors"))
    for name, A in matrices.items():
        if name.endswith(".lora_A.weight"):
            B = matrices[name.replace("lora_A", "lora_B")]
            layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            update = config["lora_alpha"] / config["r"] * (B @ A)
            model.get_submodule(layer).weight.data += update
    return model


RIGHT = {
    "trainable_report": (
        report_by_transformers,
        report_by_numpy,
        report_by_shapes,
        report_by_module,
    ),
    "lora_linear": (linear_by_merging, linear_by_einsum, linear_by_modules, linear_in_double),
    "merge_lora": (merge_by_addmm, merge_by_columns, merge_by_unit_vectors, merge_in_double),
    "add_lora": (
        lora_as_in_examples,
        lora_by_pattern,
        lora_by_full_names,
        lora_by_another_name,
        lora_by_the_wrapper,
    ),
    "load_4bit": (
        four_bits_placed,
        four_bits_in_words,
        four_bits_prepared,
        four_bits_stored_as_bfloat16,
        four_bits_tried_out,
    ),
    "save_adapter": (save_named, save_in_two_parts, save_by_hand),
    "load_adapter": (
        load_and_merge,
        load_by_transformers,
        load_in_two_parts,
        load_the_model_inside,
        load_by_formula,
    ),
}


# --- wrongly, in ways nobody listed ---------------------------------------------------------------


def report_linear_layers(model):
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    return sum(w.numel() for w in weights if w.requires_grad), sum(w.numel() for w in weights)


def report_with_buffers(model):
    trained, total = report_by_transformers(model)
    return trained, total + sum(buffer.numel() for buffer in model.buffers())


def report_matrices(model):
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters() if p.dim() > 1]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def linear_with_tanh(x, weight, A, B, alpha):
    return x @ weight.T + alpha / len(A) * ((x @ A.T).tanh() @ B.T)


def linear_update_twice(x, weight, A, B, alpha):
    return x @ weight.T + 2 * alpha / len(A) * (x @ A.T @ B.T)


def linear_of_half(x, weight, A, B, alpha):
    return linear_by_merging(x.half().float(), weight.half().float(), A, B, alpha)


def linear_with_changed_a(x, weight, A, B, alpha):
    A *= alpha / len(A)
    return x @ weight.T + x @ A.T @ B.T


def merge_of_half(weight, A, B, alpha):
    return merge_by_addmm(weight, A, B, alpha).bfloat16()


def merge_of_one_rank(weight, A, B, alpha):
    return weight + alpha / len(A) * torch.outer(B[:, 0], A[0])


def merge_into_the_row_above(weight, A, B, alpha):
    return weight + (alpha / len(A) * (B @ A)).roll(1, 0)


def lora_with_magnitudes(model, r, alpha):
    return _lora(model, r, alpha, use_dora=True)


def lora_on_the_first_layers(model, r, alpha):
    return _lora(model, r, alpha, layers_to_transform=[0, 1])


def lora_of_two_ranks(model, r, alpha):
    return _lora(model, r, alpha, rank_pattern={"o_proj": r + 1})


def lora_of_two_scales(model, r, alpha):
    return _lora(model, r, alpha, alpha_pattern={"v_proj": 2 * alpha})


def lora_on_a_changed_base(model, r, alpha):
    for parameter in model.parameters():
        parameter.data.mul_(1.001)
    return _lora(model, r, alpha)


def lora_on_the_mlp(model, r, alpha):
    return _lora(model, r, alpha, target_modules=["gate_proj", "up_proj", "down_proj"])


def lora_with_biases_of_its_own(model, r, alpha):
    return _lora(model, r, alpha, lora_bias=True)


def four_bits_without_down(path):
    return _load(path, _four_bits(llm_int8_skip_modules=["down_proj", "lm_head"]))


def four_bits_without_o(path):
    return _load(path, _four_bits(llm_int8_skip_modules=["o_proj"]))


def four_bits_of_other_embeddings(path):
    model = _load(path)
    model.get_input_embeddings().weight.data.neg_()
    return model


def random_weights(path):
    return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), dtype=torch.float64)


def save_with_another_alpha(model, directory):
    model.save_pretrained(directory)
    file = Path(directory, "adapter_config.json")
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "lora_alpha": 1}))


def save_in_half_precision(model, directory):
    model.half().save_pretrained(directory)


def save_half_of_it(model, directory):
    save_by_hand(model, directory)
    file = Path(directory, "adapter_model.safetensors")
    matrices = load_file(file)
    save_file({name: m for name, m in matrices.items() if "lora_A" in name}, file)


def save_the_base_beside_it(model, directory):
    save_by_hand(model, directory)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    save_file(weights, Path(directory, "model.safetensors"))


def load_at_half_strength(base_path, directory):
    model = load_in_two_parts(base_path, directory)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.mul_(0.5)
    return model


def load_in_float16(base_path, directory):
    base = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float16)
    return PeftModel.from_pretrained(base, directory)


def load_with_one_layer_less(base_path, directory):
    model = load_by_formula(base_path, directory)
    model.model.layers = model.model.layers[:-1]
    return model


def load_the_matrices(base_path, directory):
    return load_file(f"{directory}/adapter_model.safetensors")


WRONG = {
    "trainable_report": (
        report_linear_layers,
        report_with_buffers,
        report_matrices,
        lambda model: report_by_numpy(model)[0],
        lambda model: tuple(map(str, report_by_numpy(model))),
        lambda model: {"trained": 1, "total": 2},
        lambda model: (float("nan"), float("nan")),
        lambda model: (True, True),
    ),
    "lora_linear": (
        linear_with_tanh,
        linear_update_twice,
        linear_of_half,
        linear_with_changed_a,
        lambda x, weight, A, B, alpha: linear_by_merging(x, weight, A, B, alpha).sum(),
        lambda x, weight, A, B, alpha: linear_by_merging(x, weight, A, B, alpha).tolist(),
        lambda x, weight, A, B, alpha: x,
    ),
    "merge_lora": (
        merge_of_half,
        merge_of_one_rank,
        merge_into_the_row_above,
        lambda weight, A, B, alpha: weight,
        lambda weight, A, B, alpha: merge_by_addmm(weight, A, B, alpha).T,
        lambda weight, A, B, alpha: (weight, A, B),
    ),
    "add_lora": (
        lora_with_magnitudes,
        lora_on_the_first_layers,
        lora_of_two_ranks,
        lora_of_two_scales,
        lora_on_a_changed_base,
        lora_on_the_mlp,
        lora_with_biases_of_its_own,
        lambda model, r, alpha: LoraConfig(r=r),
        lambda model, r, alpha: _lora(model, 2 * r, alpha),
    ),
    "load_4bit": (
        four_bits_without_down,
        four_bits_without_o,
        four_bits_of_other_embeddings,
        random_weights,
        lambda path: path,
        lambda path: _four_bits(),
        lambda path: _load(path).model.layers,
    ),
    "save_adapter": (
        save_with_another_alpha,
        save_in_half_precision,
        save_half_of_it,
        save_the_base_beside_it,
        lambda model, directory: Path(directory, "adapter_config.json").write_text("{}"),
        lambda model, directory: Path(directory, "adapter_config.json").write_text("[1]"),
    ),
    "load_adapter": (
        load_at_half_strength,
        load_in_float16,
        load_with_one_layer_less,
        load_the_matrices,
        lambda base_path, directory: base_path,
        lambda base_path, directory: nn.Linear(2, 2),
    ),
}
