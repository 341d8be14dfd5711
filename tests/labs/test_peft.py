"""The PEFT lab: listed mistakes are there, four bits are four bits, the lesson's numbers hold."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, get_4bit_type, quantize_4bit
from peft import LoraConfig, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULTS
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tests.conftest import PROJECT
from tests.labs.answers import failed
from verify.judging import Bench
from verify.labs import find_labs
from verify.tiny import tiny_model

LAB = next(lab for lab in find_labs(PROJECT / "labs") if lab.skill == "peft")
BENCH = Bench(LAB)
SCENE, CHECKS_MODULE = sys.modules["scene"], sys.modules["checks"]
CHECKS = {check.name: check for check in BENCH.checks}
NAMED = {wrong.name: wrong for wrong in BENCH.misconceptions}
LESSON = (LAB.folder / "README.md").read_text("utf-8")
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]

LISTED = {
    "counting tensors": ("tensors_counted",),
    "frozen as total": ("frozen_as_total",),
    "no scale": ("scale_missing", "merged_without_scale"),
    "alpha not over r": ("alpha_not_over_r", "merged_alpha_not_over_r"),
    "scale by width": ("scale_by_width", "merged_scale_by_width"),
    "scale by the root of the rank": ("scale_by_root_of_rank", "merged_scale_by_root_of_rank"),
    "bytes of packed weights": ("packed_bytes_as_parameters",),
    "base replaced": ("base_replaced", "update_alone"),
    "only q and v": ("only_q_and_v", "nothing_told"),
    "all linear layers": ("all_linear_layers",),
    "fixed rank": ("rank_left_out", "rank_of_an_example"),
    "alpha = r": ("alpha_is_rank",),
    "base unfrozen": ("base_unfrozen",),
    "B not zero at start": ("update_random_at_the_start",),
    "fp4": ("fp4", "fp4_with_plain_scales"),
    "no double quantisation": ("scales_not_quantised",),
    "fp32 compute": ("float32_compute",),
    "8-bit": ("eight_bits",),
    "not quantised": ("not_quantised",),
    'merged model saved as "adapter"': ("merged_model_saved",),
    "adapter forgotten": ("adapter_forgotten",),
    "freshly initialised on load": ("freshly_initialised",),
}


@pytest.mark.parametrize("phrase", LISTED)
def test_every_listed_mistake_is_a_misconception(phrase: str) -> None:
    for name in LISTED[phrase]:
        wrong = NAMED[name]
        found = failed(BENCH, 3, **{wrong.function: wrong.run})
        assert found, name
        assert {verdict.misconception for verdict in found.values()} == {name}


def test_a_hint_that_serves_several_mistakes_names_each() -> None:
    named = {
        "adapter_forgotten": ("never loaded", "`strict=False`", "`unload`"),
        "freshly_initialised": ("`get_peft_model`", "`load_state_dict(..., strict=False)`"),
        "adapter_frozen": ("`inference_mode=True`", "freezing all parameters after"),
        "no_adapter_left": ("configuration was made", "merged or unloaded"),
        "wrapper_dropped": ("model inside", "`add_adapter`"),
        "biases_trained": ('`bias="all"`', '`"lora_only"`'),
        "merged_twice": ("in place", "merged again"),
    }
    for name, words in named.items():
        assert all(word in NAMED[name].hint for word in words), name


def test_what_is_a_probe_and_what_is_advice() -> None:
    probes = {check.name for check in BENCH.checks if check.evidence == "probe"}
    assert probes == {"adapters_where_asked", "kept_in_four_bits"}
    advice = {check.name for check in BENCH.checks if check.level == "advice"}
    assert advice == {"small_steps_count"}


# --- the same observation, written otherwise ------------------------------------------------------


def in_four_bits_alone(path: str) -> Any:
    config = BitsAndBytesConfig(load_in_4bit=True)
    return AutoModelForCausalLM.from_pretrained(path, quantization_config=config)


def nf4_alone(path: str) -> Any:
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    return AutoModelForCausalLM.from_pretrained(path, quantization_config=config)


def doubly_quantised_nf4(path: str) -> Any:
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    return AutoModelForCausalLM.from_pretrained(path, quantization_config=config)


def default_lora(model: Any, r: int, alpha: int) -> Any:
    return get_peft_model(model, LoraConfig(r=r, lora_alpha=alpha, task_type="CAUSAL_LM"))


def lora_biases(model: Any, r: int, alpha: int) -> Any:
    config = LoraConfig(r=r, lora_alpha=alpha, target_modules=ATTENTION, bias="lora_only")
    return get_peft_model(model, config)


def injected(model: Any, r: int, alpha: int) -> Any:
    model.add_adapter(LoraConfig(r=r, lora_alpha=alpha, target_modules=ATTENTION))
    return model


def merged_at_once(model: Any, r: int, alpha: int) -> Any:
    config = LoraConfig(r=r, lora_alpha=alpha, target_modules=ATTENTION)
    return get_peft_model(model, config).merge_and_unload().requires_grad_(requires_grad=False)


def all_frozen(model: Any, r: int, alpha: int) -> Any:
    adapted = BENCH.solution["add_lora"](model, r, alpha)
    for parameter in adapted.parameters():
        parameter.requires_grad = False
    return adapted


@pytest.mark.parametrize(
    ("function", "way", "told"),
    [
        ("load_4bit", in_four_bits_alone, "fp4_with_plain_scales"),
        ("load_4bit", nf4_alone, "scales_not_quantised"),
        ("load_4bit", doubly_quantised_nf4, "float32_compute"),
        ("add_lora", default_lora, "only_q_and_v"),
        ("add_lora", lora_biases, "biases_trained"),
        ("add_lora", injected, "wrapper_dropped"),
        ("add_lora", merged_at_once, "no_adapter_left"),
        ("add_lora", all_frozen, "adapter_frozen"),
    ],
)
def test_usual_ways_of_making_a_mistake_are_told_its_hint(
    function: str, way: Any, told: str
) -> None:
    for seed in range(3):
        found = failed(BENCH, seed, **{function: way})
        first = next(iter(found.values()))
        assert first.misconception == told, (seed, found)


@pytest.mark.parametrize("function", LAB.functions)
def test_strange_answers_never_pass(function: str) -> None:
    class Strange:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    for answer in (Strange(), float("nan"), b"", [], {}, torch.zeros(3), math, True, 10**400):
        found = failed(BENCH, 0, **{function: lambda *_a, _answer=answer, **_k: _answer})
        assert found, answer
        assert {verdict.status for verdict in found.values()} == {"failed"}, answer


def test_messages_never_hold_the_true_answer() -> None:
    model = {"family": "llama", "seed": 1, "depth": 3, "width": 32, "heads": 4, "kv_heads": 2}
    sizes = CHECKS_MODULE._sizes(model, 7)
    assert sizes["model.layers.2.self_attn.k_proj.B"] == [16, 7]
    for name in ("rank_left_out", "tensors_counted", "scale_missing", "nothing_saved"):
        wrong = NAMED[name]
        (verdict,) = failed(BENCH, 5, **{wrong.function: wrong.run}).values()
        came = verdict.message.partition(": ")[2]
        assert "expected" not in came, came
        if name == "rank_left_out":
            assert "(8, " in came
            asked = int(re.search(r"r=(\d+)", verdict.message)[1])  # type: ignore[index]
            assert f"({asked}, " not in came


# --- the judge's own arithmetic -------------------------------------------------------------------


def test_what_is_trained_is_r_times_in_plus_out() -> None:
    """The judge counts by shapes; this is the formula, on a model whose sizes are known."""
    width, kv, depth, r = 32, 16, 3, 5
    model = tiny_model("llama", 0, width=width, depth=depth, heads=4, kv_heads=2)
    adapted = BENCH.solution["add_lora"](model, r, 10)
    trained, total = BENCH.solution["trainable_report"](adapted)
    in_and_out = (width + width) + 2 * (width + kv) + (width + width)
    assert trained == depth * r * in_and_out
    assert total == trained + sum(p.numel() for p in tiny_model("llama", 0, depth=3).parameters())


@pytest.mark.parametrize("shape", [(64, 64), (32, 64), (128, 192)])
def test_the_judges_round_trip_is_that_of_bitsandbytes(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(shape, generator=generator) * torch.rand(shape[0], 1, generator=generator)
    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    truth = dequantize_4bit(packed, state)
    assert torch.allclose(CHECKS_MODULE.nf4_round_trip(weight), truth, atol=1e-6)
    for other in ({"quant_type": "fp4", "compress_statistics": True}, {"quant_type": "nf4"}):
        packed, state = quantize_4bit(weight, **other)
        assert not torch.allclose(dequantize_4bit(packed, state), truth, atol=1e-3)


def test_nf4s_values_are_quantiles_of_the_normal_distribution() -> None:
    assert torch.allclose(CHECKS_MODULE.NF4, get_4bit_type("nf4", "cpu"), atol=1e-6)
    normal, edge = torch.distributions.Normal(0.0, 1.0), 0.9677083
    above = normal.icdf(torch.linspace(0.5, edge, 9))[1:]
    below = -normal.icdf(torch.linspace(0.5, edge, 8))[1:]
    values = torch.cat([below, torch.zeros(1), above]).sort().values / above.max()
    assert torch.allclose(CHECKS_MODULE.NF4, values, atol=1e-6)


def test_the_judges_adapter_is_pefts_own() -> None:
    """The reference is written without PEFT; here PEFT is asked whether it agrees."""
    ids = torch.arange(3, 15).reshape(1, 12)
    for family in ("llama", "mistral", "qwen2"):
        model = {"family": family, "seed": 4, "depth": 3, "width": 32, "heads": 4, "kv_heads": 2}
        adapter = {"targets": ["q_proj", "o_proj", "down_proj"], "r": 3, "alpha": 7}
        peft = SCENE.with_adapter(SCENE.base_model(model), **adapter)
        SCENE.fill(peft, 9)
        ours = SCENE.logits_of(CHECKS_MODULE._adapted(model, 9, **adapter), ids)
        base = SCENE.logits_of(SCENE.base_model(model), ids)
        assert torch.allclose(SCENE.logits_of(peft, ids), ours, atol=1e-5)
        assert (ours - base).abs().max() > 0.1 * base.abs().max()  # the adapter is heard


def test_a_bfloat16_base_keeps_float32_adapters_and_passes() -> None:
    base = tiny_model("llama", 0, depth=3).to(torch.bfloat16)
    adapted = BENCH.solution["add_lora"](base, 4, 8)
    trained = {p.dtype for p in adapted.parameters() if p.requires_grad}
    frozen = {p.dtype for p in adapted.parameters() if not p.requires_grad}
    assert (trained, frozen) == ({torch.float32}, {torch.bfloat16})


# --- a folder that is called like a library -------------------------------------------------------


@pytest.mark.parametrize("folder", [PROJECT, PROJECT / "labs", PROJECT / "labs" / "peft"])
def test_peft_stays_the_library_wherever_python_is_started(folder: Any) -> None:
    told = "import peft; print(peft.LoraConfig.__module__)"
    came = subprocess.run(
        [sys.executable, "-c", told], cwd=folder, capture_output=True, text=True, check=True
    )
    assert came.stdout.split()[-1] == "peft.tuners.lora.config"


# --- the lesson -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson() -> dict[str, Any]:
    """The names that the lesson's code leaves behind; ``told`` is what it printed."""
    blocks = re.findall(r"^```python\n(.*?)^```", LESSON, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "lesson"}
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec("\n".join(blocks), names)
    return {**names, "told": told.getvalue()}


def rows(first: str) -> list[list[str]]:
    """Return the cells of the table whose header starts with ``first``."""
    lines = LESSON.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first}"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_table_of_bytes_is_computed() -> None:
    memory = Bench(next(lab for lab in find_labs(PROJECT / "labs") if lab.skill == "memory"))
    weights, training = memory.solution["weight_bytes"], memory.solution["training_bytes"]
    Bench(LAB)  # its modules are the ones of their names again
    params, adapters = 70e9, 16 * 80 * (2 * (8192 + 8192) + 2 * (8192 + 1024))
    assert round(adapters / 1e6, 1) == 65.5
    adapter = training(adapters, adapters, 32, 32, 64, 0)
    assert adapter == 16 * adapters
    expected = {
        "full, all in bf16": training(params, params, 16, 16, 32, 0),
        "full, mixed precision": training(params, params),
        "LoRA": weights(params, 16) + adapter,
        "QLoRA": weights(params, 4.127) + adapter,
    }
    table = {row[0]: row for row in rows("| what is trained")}
    for name, size in expected.items():
        told = float(re.search(r"([\d,]+) GB", table[name][4])[1].replace(",", ""))  # type: ignore[index]
        assert told == round(size / 1e9), name
        parts, _, total = table[name][2].partition(" = ")
        assert sum(map(int, parts.split(" + "))) == int(total)
    assert table["QLoRA"][3] == f"{weights(1, 4.127):.3f} (4.127 bits)"
    assert "The 280 GB" in LESSON
    assert 4 * 70 == 280
    assert 45 < (expected["QLoRA"] / 1e9) + 3 + 5 < 55


def test_the_table_of_one_layer_is_computed() -> None:
    whole = 4096 * 4096
    for name, numbers, share in rows("| numbers | share")[1:]:
        r = int(name.rpartition("= ")[2])
        assert numbers == f"{r * (4096 + 4096):,}"
        assert share == f"{100 * r * 8192 / whole:.1f} %"
    assert rows("| numbers | share")[0][1] == f"{whole:,}"


def test_the_shares_of_eight_billion_are_pefts_own(lesson: dict[str, Any]) -> None:
    printed = re.findall(r"trainable params: ([\d,]+) .* trainable%: ([\d.]+)", lesson["told"])
    table = rows("r = 16 on an 8B Llama")
    assert len(printed) == len(table) == 3
    for (trained, share), (_, told, told_share) in zip(printed, table, strict=True):
        assert trained == told
        assert told_share == f"{float(share):.2f} %"


def test_the_losses_of_the_forgetting_are_measured(lesson: dict[str, Any]) -> None:
    """Within what 300 steps may come to differ in on another processor."""
    names = ("base", "full", "LoRA", "adapter off")
    for name, row in zip(names, rows("loss | on the old language"), strict=True):
        told = [float(cell) for cell in row[1:]]
        assert lesson["losses"][name] == pytest.approx(told, abs=0.25), name
    old = {name: losses[0] for name, losses in lesson["losses"].items()}
    new = {name: losses[1] for name, losses in lesson["losses"].items()}
    assert old["base"] == old["adapter off"]
    assert old["base"] + 1 < old["LoRA"] < old["full"] - 0.3, "less forgetting, not none"
    assert new["full"] < new["LoRA"] < new["base"] - 1, "and less learning"


def test_what_the_lesson_says_of_its_output_is_so(lesson: dict[str, Any]) -> None:
    told = lesson["told"]
    for line in (
        "W replaced by rank 4: 97% of it is gone",
        "rank of the update 4\n",
        "rank of W + update 256\n",
        "the same as one weight: True",
        "both zero: gradients of A and B are 0.000 and 0.000",
        "nothing has changed yet: True",
        "NF4            rounds 9.2% of the weight away",
        "16 even steps  rounds 10.1% of the weight away",
        "double quantisation False 4.500 bits",
        "double quantisation True  4.127 bits",
        "LlamaForCausalLM differs by",
    ):
        assert line in told, line
    assert "gradients of A and B are 0.000 and 0.000" not in told.partition("both zero")[0]
    trained = re.search(r"([\d,]+) of [\d,]+ are trained", told)[1].replace(",", "")  # type: ignore[index]
    assert f"layers: {trained}\n" in told
    second, third = (
        [float(number) for number in re.findall(r"\d\.\d", line)]
        for line in told.splitlines()
        if line.startswith("with ")
    )
    assert second[0] < third[0]
    assert third[1] < second[1]
    assert lesson["gap"] < 1e-4


def test_the_lessons_other_facts_hold(lesson: dict[str, Any]) -> None:
    fp4 = get_4bit_type("fp4", "cpu").unique()
    weight = lesson["weight"]
    error = (lesson["rounded"](weight, fp4) - weight).norm() / weight.norm()
    assert f"It loses {100 * error:.1f} %" in LESSON
    default = BitsAndBytesConfig(load_in_4bit=True)
    assert default.bnb_4bit_quant_type == "fp4"
    assert not default.bnb_4bit_use_double_quant
    assert default.bnb_4bit_compute_dtype == torch.float32
    assert all(DEFAULTS[name] == ["q_proj", "v_proj"] for name in ("llama", "mistral", "qwen2"))
    head = 2 * 128_256 * 8192 * (16 - 4.127) / 8 / 1e9  # embeddings and head, not in 4 bits
    assert f"come {head:.0f} GB because" in LESSON
    phi3 = get_peft_model(tiny_model("phi3", 0), LoraConfig(target_modules=ATTENTION))
    found = {name.split(".lora_")[0][-6:] for name, _ in phi3.named_parameters() if "lora_" in name}
    assert found == {"o_proj"}
    with pytest.raises(ValueError, match="cast"):
        lesson["packed"].to(torch.bfloat16)


def test_the_lesson_says_what_the_source_page_has_wrong() -> None:
    for told in (
        "560 GB",
        "1,120 GB",
        "45 to 55 GB",
        "It is the update that has a low rank, not the model",
        "less, not nothing",
        "the usual choice today",
        "the classic choice",
        "in **float32**. That is right",
    ):
        assert told in LESSON, told
    assert "W ≈" not in LESSON


# --- the picture ----------------------------------------------------------------------------------


def figure() -> ModuleType:
    """Return the script that draws the lesson's picture."""
    folder = PROJECT / "docs" / "figures"
    spec = importlib.util.spec_from_file_location("lora_figure", folder / "peft.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.path[:]
    sys.path.append(str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


def test_the_picture_shows_what_the_table_says() -> None:
    drawn = figure()
    model = drawn.eight_billion()
    for row, leaves in zip(
        rows("r = 16 on an 8B Llama"), reversed(drawn.TARGETS.values()), strict=True
    ):
        assert row[1] == f"{16 * drawn.inputs_and_outputs(model, leaves):,}"
