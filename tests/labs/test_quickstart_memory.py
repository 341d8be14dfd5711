"""The prediction of memory against what real steps take, and the meter that measures them."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.helpers import disable_input_dtype_casting
from torch._subclasses import FakeTensorMode
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from labs.quickstart import fit, held, measure, memory, rows, shape
from labs.quickstart import model as models
from labs.quickstart.measure import LiveTensors, held_by, states
from labs.quickstart.plan import Plan
from tests.conftest import PROJECT
from verify.lab.problems import ENVIRONMENT_FAULT, Problem
from verify.room import Free

README = (PROJECT / "labs" / "quickstart" / "README.md").read_text("utf-8")
CPU = torch.device("cpu")
CONFIGS = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "phi3": Phi3Config,
}
SMALL = {"vocabulary": 1024, "width": 128, "mlp": 352, "depth": 3, "heads": 4, "kv_heads": 2}
WIDE = {"vocabulary": 512, "width": 320, "mlp": 800, "depth": 2, "heads": 8, "kv_heads": 8}
TINY = {"vocabulary": 64, "width": 64, "mlp": 128, "depth": 2, "heads": 4, "kv_heads": 2}
NO_LOGITS = {"vocabulary": 128, "width": 256, "mlp": 704, "depth": 6, "heads": 8, "kv_heads": 1}


def config(family: str = "llama", **sizes: Any) -> Any:
    told = SMALL | sizes
    more = {"head_dim": told["width"] // told["heads"]} if family == "qwen3" else {}
    if family == "phi3":
        more |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return CONFIGS[family](
        vocab_size=told["vocabulary"],
        hidden_size=told["width"],
        intermediate_size=told["mlp"],
        num_hidden_layers=told["depth"],
        num_attention_heads=told["heads"],
        num_key_value_heads=told["kv_heads"],
        tie_word_embeddings=told.get("tied", False),
        use_cache=False,
        **more,
    )


def built(made: Any, plan: Plan, folder: Path) -> Any:
    """Return the model of ``plan``, loaded from ``folder`` as the quickstart loads it."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(made).to(torch.bfloat16).save_pretrained(folder)
    if plan.method == "full":
        dtype = torch.bfloat16 if plan.precision == "bfloat16" else torch.float32
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    else:
        base = models.load(str(folder), plan.method, CPU)
        if plan.method == "lora" and plan.precision == "mixed":
            base = base.to(torch.bfloat16)  # as on a GPU
        if plan.targets == "attention":
            wanted = ["q_proj", "k_proj", "v_proj", "o_proj"]
            model = get_peft_model(base, LoraConfig(r=plan.rank, target_modules=wanted))
        else:
            model = models.add_adapters(base, plan.rank, 0)
    if plan.checkpointing:
        model.activation_checkpointing_enable()
    return model.train()


def step(model: Any, optimizer: Any, ids: torch.Tensor, plan: Plan) -> None:
    mixed = plan.precision == "mixed"
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        loss = model(input_ids=ids, labels=ids)["loss"]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def measured(made: Any, plan: Plan, folder: Path) -> int:
    """Return the most bytes that live at once in the second step."""
    model = built(made, plan, folder)
    trained = [it for it in model.parameters() if it.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    ids = torch.randint(0, made.vocab_size, (plan.batch, plan.length))
    with disable_input_dtype_casting(model, plan.method != "full" and plan.precision == "mixed"):
        step(model, optimizer, ids, plan)
        meter = LiveTensors(itertools.chain(held_by(model), states(optimizer)))
        meter.begin()
        step(model, optimizer, ids, plan)
        return meter.end()


CASES = [
    ("llama", {}, Plan("qlora", 4, 48)),
    ("llama", {}, Plan("qlora", 4, 48, checkpointing=True)),
    ("llama", {}, Plan("lora", 4, 48)),
    ("llama", {}, Plan("lora", 4, 48, checkpointing=True)),
    ("llama", {}, Plan("lora", 4, 48, "float32", rank=8)),
    ("llama", {}, Plan("full", 4, 48)),
    ("llama", {}, Plan("full", 4, 48, checkpointing=True)),
    ("llama", {}, Plan("full", 4, 48, "bfloat16")),
    ("llama", {}, Plan("full", 4, 48, "float32", checkpointing=True)),
    ("llama", WIDE | {"tied": True}, Plan("qlora", 2, 96, rank=4)),
    ("llama", WIDE | {"tied": True}, Plan("full", 2, 96)),
    ("llama", NO_LOGITS, Plan("qlora", 4, 64, targets="attention")),
    ("llama", NO_LOGITS, Plan("qlora", 4, 64, checkpointing=True)),
    ("llama", NO_LOGITS, Plan("lora", 1, 16, "float32", checkpointing=True)),
    ("llama", TINY, Plan("qlora", 8, 16, rank=4)),
    ("llama", TINY, Plan("lora", 8, 16, "float32", rank=4)),
    ("mistral", {}, Plan("qlora", 3, 40)),
    ("qwen2", {}, Plan("qlora", 3, 40)),
    ("qwen3", {}, Plan("qlora", 3, 40)),
    ("qwen3", {}, Plan("full", 3, 40)),
    ("phi3", {}, Plan("qlora", 3, 40)),
    ("phi3", {}, Plan("full", 3, 40, checkpointing=True)),
]


def named(case: tuple[str, dict[str, Any], Plan]) -> str:
    family, sizes, plan = case
    words = [family, plan.method, plan.precision, *(["ckpt"] if plan.checkpointing else [])]
    return "-".join([*words, str(sizes.get("width", ""))]).rstrip("-")


@pytest.mark.parametrize(("family", "sizes", "plan"), CASES, ids=map(named, CASES))
def test_a_real_step_takes_what_was_predicted(
    family: str, sizes: dict[str, Any], plan: Plan, tmp_path: Path
) -> None:
    made = config(family, **sizes)
    took = measured(made, plan, tmp_path)
    prediction = memory.predict(shape.read(made), plan)
    high = 1.01 if prediction.peak_at == "loss" else 1.08  # what passes by is counted roughly
    assert 0.99 < prediction.peak / took < high, (prediction.peak, took)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_what_autograd_keeps_is_what_was_predicted(method: Any, tmp_path: Path) -> None:
    """Another way of measuring: the tensors that autograd saves, parameters aside."""
    made, plan = config(), Plan(method, 4, 48)
    model, kept = built(made, plan, tmp_path), {}
    own = {it.untyped_storage().data_ptr() for it in model.parameters()}
    ids = torch.randint(0, made.vocab_size, (plan.batch, plan.length))

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda it: it),
        disable_input_dtype_casting(model),
        torch.autocast("cpu", torch.bfloat16),
    ):
        loss = model(input_ids=ids, labels=ids)["loss"]
    parts = memory.predict(shape.read(made), plan).moments["loss"]
    log_softmax = 4 * plan.tokens * made.vocab_size
    expected = parts["activations"] + parts["working"] + log_softmax
    assert sum(kept.values()) == pytest.approx(expected, rel=0.01)
    loss.backward()


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_loaded_model_holds_what_was_predicted(method: Any, tmp_path: Path) -> None:
    made, plan = config(), Plan(method, 1, 8, "mixed" if method == "qlora" else "float32")
    model = built(made, plan, tmp_path)
    own = {id(it) for it in model.buffers()}
    took = sum(it.numel() * it.element_size() for it in held_by(model) if id(it) not in own)
    assert took == pytest.approx(sum(held.weights(shape.read(made), plan).values()), rel=1e-3)
    assert models.trained(model) == held.adapter_parameters(shape.read(made), plan)


# ---------------------------------------------------------------- sizes that no machine here holds
LLAMA_8B = {"width": 4096, "mlp": 14336, "depth": 32, "heads": 32, "kv_heads": 8}
LLAMA_70B = {"width": 8192, "mlp": 28672, "depth": 80, "heads": 64, "kv_heads": 8}


def without_storage(model: Any) -> None:
    """Give each parameter and buffer of ``model`` a size on the CPU, and no memory."""
    for module in model.modules():
        for name, it in module._parameters.items():
            if it is not None:
                empty = torch.empty(it.shape, dtype=it.dtype)
                module._parameters[name] = torch.nn.Parameter(empty, requires_grad=it.requires_grad)
        for name, it in module._buffers.items():
            if it is not None:
                module._buffers[name] = torch.empty(it.shape, dtype=it.dtype)


@contextlib.contextmanager
def no_mask(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have no mask made, as in a real step: fake tensors count as a trace, which gets one."""
    with patch.context() as patched:
        name = "transformers.models.llama.modeling_llama.create_causal_mask"
        patched.setattr(name, lambda **_: None)
        yield


@pytest.mark.parametrize(
    ("sizes", "plan"),
    [
        (LLAMA_8B, Plan("lora", 2, 2048)),
        (LLAMA_8B, Plan("lora", 2, 2048, checkpointing=True)),
        (LLAMA_8B, Plan("full", 1, 2048, checkpointing=True)),
        (LLAMA_70B, Plan("lora", 1, 2048, checkpointing=True)),
    ],
    ids=["8B", "8B, checkpointing", "8B, full", "70B"],
)
def test_a_step_of_true_size_takes_what_was_predicted(
    sizes: dict[str, int], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(vocabulary=128_256, **sizes)
    dtype = torch.float32 if plan.method == "full" else torch.bfloat16
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(made, dtype=dtype)
        if plan.checkpointing:
            model.activation_checkpointing_enable()
        if plan.method == "lora":
            model = models.add_adapters(model, plan.rank, 0)
    model.train()
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        no_mask(monkeypatch),
        disable_input_dtype_casting(model, plan.method == "lora"),
    ):
        without_storage(model)
        ids = torch.zeros(plan.batch, plan.length, dtype=torch.long)
        meter = LiveTensors(held_by(model))
        meter.begin()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids)["loss"]
        loss.backward()
        took = meter.end()
    prediction = memory.predict(shape.read(made), plan)
    no_moments = prediction.peak - prediction.moments["loss"]["optimizer"]
    assert 0.99 < no_moments / took < 1.05


def test_a_real_step_has_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `no_mask` takes for granted."""
    from transformers.models.llama import modeling_llama

    right, made = modeling_llama.create_causal_mask, []
    monkeypatch.setattr(
        modeling_llama,
        "create_causal_mask",
        lambda **told: made.append(right(**told)) or made[-1],
    )
    AutoModelForCausalLM.from_config(config()).train()(
        input_ids=torch.zeros(2, 8, dtype=torch.long)
    )
    assert made == [None]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_on_a_gpu_the_prediction_is_within_a_tenth(
    method: Any, checkpointing: bool, tmp_path: Path
) -> None:
    made = config(vocabulary=32_000, width=1024, mlp=2816, depth=12, heads=16, kv_heads=4)
    plan, where = Plan(method, 8, 512, checkpointing=checkpointing), torch.device("cuda")
    AutoModelForCausalLM.from_config(made).to(torch.bfloat16).save_pretrained(tmp_path)
    model = models.add_adapters(models.load(str(tmp_path), method, where), plan.rank, 0).train()
    if checkpointing:
        model.activation_checkpointing_enable()
    trained = [it for it in model.parameters() if it.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    ids = torch.randint(0, made.vocab_size, (plan.batch, plan.length), device=where)
    meter = measure.meter(model, optimizer, where)
    with disable_input_dtype_casting(model):
        for number in range(2):
            if number == 1:
                meter.begin()
            with torch.autocast("cuda", torch.bfloat16):
                loss = model(input_ids=ids, labels=ids)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert memory.predict(shape.read(made), plan).peak == pytest.approx(meter.end(), rel=0.1)


# --------------------------------------------------------------------------------------- the meter
def test_the_meter_counts_each_storage_from_its_birth_to_its_end() -> None:
    before = torch.ones(1000)
    meter = LiveTensors([before, before[:10]])
    meter.begin()
    assert meter.now == 4000
    one = before + 1
    assert meter.now == 8000
    view = one.view(10, 100).t()
    assert meter.now == 8000
    del one
    assert meter.now == 8000  # the view holds it
    one = view.double()
    assert meter.now == 16_000
    del one, view
    assert meter.now == 4000
    assert meter.end() == 16_000
    _ = torch.ones(10**6)
    assert meter.peak == 16_000


# ---------------------------------------------------------------------------------- facts and fits
def test_the_parts_add_up_and_the_facts_are_right() -> None:
    assert round(held.NF4_BITS, 3) == 4.127
    seventy = shape.read(config(vocabulary=128_256, **LLAMA_70B))
    assert seventy.parameters == 70_553_706_496
    seven = shape.read(config(vocabulary=32_000, **(LLAMA_8B | {"mlp": 11008, "kv_heads": 32})))
    for found, count in ((seven, 16.8e6), (seventy, 65.5e6)):  # as the memory lesson has them
        plan = Plan("lora", 1, 1, targets="attention")
        assert held.adapter_parameters(found, plan) == pytest.approx(count, rel=0.01)
    prediction = memory.predict(seventy, Plan("qlora", 1, 2048))
    for moment, parts in prediction.moments.items():
        assert prediction.total(moment) == sum(parts.values())
    assert prediction.peak == max(map(prediction.total, prediction.moments))
    accumulated = memory.predict(seventy, Plan("qlora", 1, 2048, accumulate=4))
    gradients = held.gradient_bytes(seventy, Plan("qlora", 1, 2048))
    assert accumulated.peak == prediction.peak + gradients


def test_the_readmes_table_is_computed() -> None:
    tiny = config(vocabulary=32_000, width=2048, mlp=5632, depth=22, heads=32, kv_heads=4)
    eight = Qwen3Config(
        vocab_size=151_936, hidden_size=4096, intermediate_size=12_288, num_hidden_layers=36,
        num_attention_heads=32, num_key_value_heads=8, head_dim=128,
    )  # fmt: skip
    seventy = config(vocabulary=128_256, **LLAMA_70B)
    rows_of = {
        "TinyLlama 1.1B": (tiny, 16),
        "Qwen3-8B": (eight, 16),
        "a Llama of 70B": (seventy, 16),
        "a Llama of 70B, 1 row": (seventy, 1),
    }
    for title, (made, batch) in rows_of.items():
        found, told = shape.read(made), []
        for method in ("qlora", "lora"):
            off, on = (
                memory.predict(found, Plan(method, batch, 512, checkpointing=it)).peak  # type: ignore[arg-type]
                for it in (False, True)
            )
            told.append(f"{fit.size(off)} ({on / 1e9:.1f})")
        assert f"| {title} | {told[0]} | {told[1]} |" in README
    head = 2 * 128_256 * 4096
    assert round(head * 2 / 1e9) == 2, "what float32 embedding and head would take more"
    assert "2 GB more for an 8B" in README


def free(count: float) -> Free:
    return Free(int(count), "a test", "others hold it", "ps")


EIGHT = shape.read(config(vocabulary=128_256, **LLAMA_8B))


@pytest.mark.parametrize(
    ("plan", "gigabytes", "told"),
    [
        (Plan("qlora", 8, 512), 20, "--checkpointing on  # takes"),
        (Plan("qlora", 8, 512, checkpointing=True), 12, "--batch 4 --accumulate 2  #"),
        (Plan("lora", 8, 512), 12, "--checkpointing on --method qlora --batch 4 --accumulate 2"),
        (Plan("qlora", 1, 8192), 10, "--checkpointing on --length 1024"),
        (Plan("qlora", 8, 512), 3, "the same with a smaller model"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    plan: Plan, gigabytes: int, told: str
) -> None:
    with pytest.raises(Problem) as refused:
        fit.require(EIGHT, plan, free(gigabytes * 1e9))
    assert refused.value.code == ENVIRONMENT_FAULT
    needed = fit.size(memory.predict(EIGHT, plan).peak * fit.MARGIN)
    assert refused.value.happened.startswith(f"This run needs {needed}, and ")
    assert f"{gigabytes}.0 GB are free by a test" in refused.value.happened
    assert told in refused.value.type_this


def test_what_is_proposed_fits_and_what_fits_is_not_refused() -> None:
    plan, room = Plan("lora", 8, 512), free(12e9)
    other = next(fit.smaller(EIGHT, plan, room))
    fit.require(EIGHT, other, room)
    assert other.batch * other.accumulate == plan.batch
    exactly = memory.predict(EIGHT, plan).peak * fit.MARGIN
    fit.require(EIGHT, plan, free(exactly + 1))
    with pytest.raises(Problem):
        fit.require(EIGHT, plan, free(exactly - 1))


def test_checkpointing_is_taken_where_it_does_not_fit_without() -> None:
    plan = Plan("qlora", 8, 512)
    off = memory.predict(EIGHT, plan).peak * fit.MARGIN
    assert not fit.choose(EIGHT, plan, free(off + 1), "auto").checkpointing
    assert fit.choose(EIGHT, plan, free(off - 1), "auto").checkpointing
    assert fit.choose(EIGHT, plan, free(off + 1), "on").checkpointing
    assert not fit.choose(EIGHT, plan, free(1), "off").checkpointing


def test_the_table_has_every_part_and_the_sums() -> None:
    from rich.console import Console

    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    plan = Plan("qlora", 4, 512)
    console.print(fit.table(EIGHT, plan))
    shown = console.export_text()
    prediction = memory.predict(EIGHT, plan)
    for parts in prediction.moments.values():
        for part, count in parts.items():
            row = rf"^{part} .* {re.escape(fit.size(count))}"
            assert not count or re.search(row, shown, re.MULTILINE), part
    (sums,) = [line for line in shown.splitlines() if line.startswith("sum")]
    assert re.findall(r"[\d.,]+ [MGT]B", sums) == [
        fit.size(prediction.total(moment)) for moment in prediction.moments
    ]
    assert f"6.98 billion x {held.NF4_BITS:.3f} bits" in shown


def test_the_plan_is_for_the_length_a_batch_is_padded_to() -> None:
    example = rows.Example("", "", "", [1] * 9, [1] * 9)
    assert rows.padded([example]) == 16 == rows.collate([example], 0)["input_ids"].shape[1]
