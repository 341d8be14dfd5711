"""`invoke memory.plan`: its sums against real steps and the lesson; what it says and refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from labs import memory_plan
from labs.memory_plan import __main__ as program
from labs.memory_plan import measuring, models, options, parts, room, run, step
from labs.memory_plan.measuring import Measured
from labs.memory_plan.models import Model
from labs.memory_plan.room import Room
from labs.quickstart import fit, held, memory, optimizers, shape
from labs.quickstart.memory import MOMENTS
from labs.quickstart.plan import Plan
from tests.conftest import PROJECT
from tests.lab.conftest import Said
from tests.labs.test_quickstart_memory import NO_LOGITS, WIDE, config
from verify.lab.problems import Misuse, Problem
from verify.room import Free

CPU = torch.device("cpu")
SHAPES = {
    "llama": config(),
    "llama, wide and tied": config(**(WIDE | {"tied": True})),
    "llama, deep": config(**NO_LOGITS),
    "mistral": config("mistral"),
    "qwen2": config("qwen2", tied=True),
    "qwen3": config("qwen3"),
    "phi3": config("phi3"),
}
PLANS = {
    "full, bfloat16": Plan("full", 4, 48, "bfloat16"),
    "full, mixed": Plan("full", 4, 48),
    "full, float32": Plan("full", 1, 16, "float32"),
    "full, 8-bit AdamW": Plan("full", 4, 48, "bfloat16", optimizer="adamw-8bit"),
    "full, SGD, two passes": Plan("full", 2, 24, optimizer="sgd", accumulate=2),
    "lora": Plan("lora", 4, 48),
    "lora, attention": Plan("lora", 4, 48, rank=4, targets="attention"),
    "lora, float32": Plan("lora", 1, 16, "float32"),
    "qlora": Plan("qlora", 4, 48),
    "qlora, float32": Plan("qlora", 2, 24, "float32"),
    "qlora, 8-bit AdamW": Plan("qlora", 4, 48, optimizer="adamw-8bit", accumulate=2),
}
KNOWN = {  # parameters, as the publishers of these models tell them
    "llama-7b": 6_738_415_616,
    "llama-8b": 8_030_261_248,
    "llama-70b": 70_553_706_496,
    "tinyllama-1.1b": 1_100_048_384,
    "mistral-7b": 7_248_023_552,
    "qwen2-0.5b": 494_032_768,
    "qwen2-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
    "phi3-mini": 3_821_079_552,
}


# ------------------------------------------------------------------- predicted against a real step
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("how", PLANS)
@pytest.mark.parametrize("family", SHAPES)
def test_a_real_step_takes_what_was_predicted(family: str, how: str, checkpointing: bool) -> None:
    made = SHAPES[family]
    plan = Plan(**(vars(PLANS[how]) | {"checkpointing": checkpointing}))
    took = step.measured(made, plan, CPU)["moments"]
    prediction = memory.predict(shape.read(made), plan)
    assert 0.96 < prediction.peak / max(took.values()) < 1.08
    assert prediction.total("update") == pytest.approx(took["update"], rel=0.003)


def test_the_step_measures_the_model_of_the_quickstart(tmp_path: Path) -> None:
    """Made from the config, a quantised model holds what a loaded one does."""
    from labs.memory_plan import building
    from labs.quickstart.measure import held_by
    from tests.labs.test_quickstart_memory import built

    made, plan = config(), Plan("qlora", 1, 8)
    loaded, drawn = built(made, plan, tmp_path), building.build(made, plan, CPU)
    sizes = [
        {name: (it.shape, it.dtype) for name, it in model.named_parameters()}
        for model in (loaded, drawn)
    ]
    assert sizes[0] == sizes[1]
    took = [sum(it.numel() * it.element_size() for it in held_by(m)) for m in (loaded, drawn)]
    assert took[0] == took[1]


# ----------------------------------------------------------------------- sizes no machine here has
@pytest.mark.parametrize("name", KNOWN)
def test_a_bundled_shape_has_as_many_parameters_as_the_model(name: str) -> None:
    assert models.find(name).shape.parameters == KNOWN[name]


def test_every_bundled_shape_is_known_here_and_every_family_has_one() -> None:
    assert models.names() == sorted(KNOWN)
    assert {models.find(it).config.model_type for it in KNOWN} == set(shape.KNOWN)


@pytest.mark.parametrize(
    ("name", "plan", "told", "close"),
    [  # the lesson's table; it counts 7 and 70 billion parameters
        ("llama-70b", Plan("full", 1, 1, "bfloat16"), 560e9, 0.01),
        ("llama-70b", Plan("full", 1, 1), 1120e9, 0.01),
        ("llama-70b", Plan("lora", 1, 1, targets="attention"), 140.9e9, 0.01),
        ("llama-7b", Plan("full", 1, 1, "bfloat16"), 56e9, 0.04),
        ("llama-7b", Plan("full", 1, 1), 112e9, 0.04),
        ("llama-7b", Plan("lora", 1, 1, targets="attention"), 14.2e9, 0.04),
    ],
)
def test_before_activations_it_is_what_the_lesson_says(
    name: str, plan: Plan, told: float, close: float
) -> None:
    found = models.find(name).shape
    assert parts.before_activations(found, plan) == pytest.approx(told, rel=close)
    lesson = (PROJECT / "labs" / "memory" / "README.md").read_text("utf-8")
    assert f"{told / 1e9:,.1f}".removesuffix(".0") + " GB" in lesson


def test_qlora_is_the_lessons_sum_and_what_stays_in_16_bits() -> None:
    found, plan = models.find("llama-70b").shape, Plan("qlora", 1, 1, targets="attention")
    rest = found.embedding + found.small
    lesson = (70e9 * 4.127 / 8) + 16 * held.adapter_parameters(found, plan)
    assert lesson == pytest.approx(37.0e9, rel=0.01)
    own = parts.before_activations(found, plan) - rest * (2 - held.NF4_BITS / 8)
    assert own == pytest.approx(lesson * found.parameters / 70e9, rel=0.01)


@pytest.mark.parametrize("name", ["llama-8b", "llama-70b"])
def test_the_largest_take_no_memory_to_plan_for(name: str, said: Said) -> None:
    before = _resident()
    made = run_(said, "--model", name, "--method", "full", "--checkpointing")
    assert made == 1
    assert _resident() - before < 200e6
    assert "It does not fit" in said.text


class Made(TorchDispatchMode):
    """Counts the elements of tensors that have storage."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for it in tree_leaves(result):
            if isinstance(it, torch.Tensor) and not it.is_meta:
                self.elements += it.numel()
        return result


def test_no_weight_is_loaded_or_made(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", refuse)
    with Made() as made:
        assert run_(said, "--model", "llama-70b", "--batch", "1") == 1
    assert made.elements < 100_000


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# ------------------------------------------------------------------------- arithmetic of the parts
@pytest.mark.parametrize("how", PLANS)
def test_the_rows_of_a_moment_add_up_to_its_sum(how: str) -> None:
    found, plan = models.find("llama-8b").shape, PLANS[how]
    rows, prediction = parts.parts(found, plan), memory.predict(found, plan)
    for moment in MOMENTS:
        assert sum(row.moments[moment] for row in rows) == prediction.total(moment)
    for row in rows:
        assert row.whole >= max(row.moments.values()) or row.name in ("activations", "gradients")


def _computed(formula: str) -> float:
    """Return what a row's arithmetic gives, read as a learner would."""
    text = re.sub(r"\((?:AdamW|three float32|embedding[\w ,]*|tensors[\w ,:]*)\)", "", formula)
    text = re.sub(r", .*(?:frozen|copy|update).*$", "", text.replace(" AdamW", ""))
    bits = "bits" in text
    for word, one in (("billion", 1e9), ("million", 1e6)):
        text = re.sub(rf"([\d.]+) {word}", lambda it, one=one: str(float(it[1]) * one), text)
    text = text.split(", and")[0].replace(",", "").replace(" x ", " * ")
    text = re.sub(r"[a-z]+", "", text).replace("16-", "")
    return float(eval(text)) / (8 if bits else 1)  # a formula of ours


@pytest.mark.parametrize("how", PLANS)
def test_the_arithmetic_shown_gives_the_size_shown(how: str) -> None:
    rows = parts.parts(models.find("llama-8b").shape, PLANS[how])
    for row in rows:
        if row.whole and row.name != "working":
            assert _computed(row.formula) == pytest.approx(row.whole, rel=0.01), row
    assert {"weights", "gradients", "optimizer", "activations", "logits"} <= {
        it.name for it in rows
    }
    assert (parts.CONSTANTS in {it.name for it in rows}) == how.startswith("qlora")


def test_8_bit_adamw_counts_small_tensors_as_bitsandbytes_keeps_them() -> None:
    assert optimizers.state_bytes("adamw-8bit", [(3, 4096)], 4) == 3 * 2 * (4096 + 4 * 16)
    assert optimizers.state_bytes("adamw-8bit", [(1, 4095)], 2) == 2 * 4 * 4095
    assert optimizers.state_bytes("sgd", [(1, 4096)], 4) == 0
    assert optimizers.state_bytes("adamw", [(2, 10)], 2) == 80


# -------------------------------------------------------------------------------- what is on screen
@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    monkeypatch.setattr(room, "look", lambda _: Room(free(20e9), 10**9))
    return Said()


def free(count: float) -> Free:
    return Free(int(count), "a test", "others hold it", "ps")


def asked(*words: str) -> options.Options:
    return options.read(options.parser().parse_args(words))


def run_(said: Said, *words: str) -> int:
    return run.run(asked(*words), said)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a config and no weights."""
    folder = tmp_path / "small"
    config().save_pretrained(folder)
    return folder


def test_the_screen_tells_parts_sums_and_whether_it_fits(small: Path, said: Said) -> None:
    assert run_(said, "--model", str(small), "--batch", "4", "--length", "48") == 0
    for told in (
        r"Model .*: llama, 816,000 parameters in 3 blocks of width 128",
        r"Plan +qlora, [\d,]+ trained, mixed precision, adamw, without checkpointing",
        r"Batch +4 rows x 48 tokens = 192",
        r"N NF4 weights +[\d.]+ MB +[\d.]+ MB .* x 4 bits, frozen",
        r"Q quantisation constants .* / 64 x \(8 \+ 32 / 256\) bits",
        r"G gradients .* trained x 4 bytes, whole at the update",
        r"L logits .*192 tokens x 1,024 words x 12 bytes",
        r"at the loss +[WNQDOGALT]{48} +[\d.]+ MB",
        r"may be taken +-{48}> +19\.0 GB",
        r"\+ It fits the \w+ here: .* 20\.0 GB are free by a test, of which 1\.0 GB stay free",
    ):
        assert re.search(told, said.text.replace("\N{CHECK MARK}", "+")), (told, said.text)
    assert "\x1b" not in said.text


def test_every_bar_has_the_length_of_its_share(said: Said) -> None:
    from labs.memory_plan import picture

    for plan in PLANS.values():
        rows = parts.parts(models.find("llama-8b").shape, plan)
        prediction = memory.predict(models.find("llama-8b").shape, plan)
        *shown, room_ = [it.plain for it in picture.bars(rows, prediction.peak // 2)]
        for line, moment in zip(shown, MOMENTS, strict=True):
            letters = len(line[14:].split()[0])
            assert letters == pytest.approx(48 * prediction.total(moment) / prediction.peak, abs=1)
        assert room_[14:].split()[0] == "-" * 24 or room_[14:].split()[0] == "-" * 23


def test_colour_can_be_switched_off(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labs.memory_plan import picture

    rows = parts.parts(models.find(str(small)).shape, PLANS["qlora"])
    shown = []
    for without in (False, True):
        console = Console(force_terminal=True, no_color=without, color_system="standard", width=120)
        with console.capture() as capture:
            console.print(picture.bars(rows, 1)[0])
        shown.append(capture.get())
    assert re.search("\x1b\\[1?;?[39]", shown[0])
    assert not re.search("\x1b\\[[0-9;]*[39][0-7]", shown[1])


def test_what_does_not_fit_ends_with_a_command_that_does(said: Said) -> None:
    assert run_(said, "--model", "llama-8b", "--method", "full", "--mixed", "--batch", "8") == 1
    told = said.text.splitlines()[-1]
    assert told.startswith("Type: invoke memory.plan --model llama-8b --method qlora")
    words = told.partition("memory.plan ")[2].partition("  #")[0].split()
    assert run_(Said(), *words) == 0, "what is proposed fits"


def test_what_fits_in_no_way_is_told(said: Said) -> None:
    assert run_(said, "--model", "llama-70b", "--method", "full", "--measure") == 1
    assert "Not measured: a step that does not fit ends in the middle." in said.text
    assert "Type: invoke memory.plan --model qwen2-0.5b" in said.text


def test_what_is_left_out_or_unwise_is_told(said: Said) -> None:
    run_(said, "--model", "phi3-mini", "--length", "2047")
    assert "Not counted: rows of 2,047 tokens and more need a mask" in said.text
    again = Said()
    run_(again, "--model", "phi3-mini", "--length", "2046", "--method", "full")
    assert "Not counted" not in again.text
    assert "Everything in bfloat16 loses small updates; --mixed" in again.text


def test_the_command_asks_for_the_same_plan_again(said: Said) -> None:
    model = models.find("llama-8b")
    for how, plan in PLANS.items():
        for checkpointing in (False, True):
            wanted = Plan(**(vars(plan) | {"checkpointing": checkpointing}))
            words = run.command("llama-8b", wanted).split()[2:]
            assert run.plan_of(asked(*words), model) == wanted, how


def test_defaults_are_those_of_the_quickstart_and_the_bundled_model_is_the_default(
    small: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    from labs.quickstart import options as quickstart

    monkeypatch.setenv("LAB_MODEL", str(small))
    model = models.find(None)
    assert model.name == str(small)
    plan, theirs = run.plan_of(asked(), model), quickstart.parser().parse_args([])
    for name in ("method", "batch", "accumulate", "length", "rank"):
        assert getattr(plan, name) == getattr(theirs, name)
    assert (plan.precision, plan.targets, plan.optimizer) == ("mixed", "all-linear", "adamw")
    made = config(max_position_embeddings=0)
    made.max_position_embeddings = 100
    assert run.plan_of(asked(), Model("m", made, model.shape)).length == 100


@pytest.mark.parametrize(
    ("words", "precision"),
    [
        (["--method", "full"], "bfloat16"),
        (["--method", "full", "--mixed"], "mixed"),
        (["--method", "full", "--dtype", "float32"], "float32"),
        (["--method", "lora"], "mixed"),
        (["--method", "lora", "--dtype", "float32"], "float32"),
    ],
)
def test_the_type_of_numbers_is_as_asked_for(words: list[str], precision: str) -> None:
    assert run.plan_of(asked(*words), models.find("llama-8b")).precision == precision


# -------------------------------------------------------------------------------- where a model is
def test_a_folder_a_file_and_a_cached_model_of_the_hub_are_found(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert models.find(str(small)).shape == models.find(str(small / "config.json")).shape
    monkeypatch.setattr(models, "try_to_load_from_cache", lambda *_: str(small / "config.json"))
    assert models.find("some/model").shape == models.find(str(small)).shape


@pytest.mark.parametrize("offline", [None, "1"])
def test_a_model_that_is_not_here_is_not_fetched_unasked(
    offline: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if offline:
        monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(models, "hf_hub_download", lambda *_: pytest.fail("it was asked for"))
    with pytest.raises(Misuse) as told:
        models.find("nobody/nothing")
    assert told.value.type_this.startswith("HF_HUB_OFFLINE=0 invoke memory.plan --model nobody/")


def test_what_the_hub_refuses_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: str) -> str:
        raise OSError("gated\nmore")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(models, "hf_hub_download", refuse)
    with pytest.raises(Problem, match=r"hub: gated$") as told:
        models.find("nobody/nothing")
    assert told.value.code == 3


@pytest.mark.parametrize("name", ["lama-8b", "./nothing", "a/b/c"])
def test_a_mistyped_model_is_told_with_the_shapes_there_are(name: str) -> None:
    with pytest.raises(Misuse, match="There is no model in") as told:
        models.find(name)
    assert "llama-70b" in told.value.cause
    assert "invoke memory.plan --model llama-8b" in told.value.type_this


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"no config\.json in it"):
        models.find(str(tmp_path))


@pytest.mark.parametrize("kind", ["gpt2", "mamba", "no-such-thing", None])
def test_an_unknown_architecture_is_refused_with_what_to_type(kind: str | None) -> None:
    with pytest.raises(Misuse, match=f"of type {kind}") as told:
        models.build("mine", {"model_type": kind})
    assert "llama, mistral, qwen2, qwen3, phi3" in told.value.happened
    assert told.value.type_this.startswith("invoke memory.plan --model llama-8b")
    assert told.value.code == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"model_type": "llama", "hidden_size": "wide"}',
        b'{"model_type": "llama", "hidden_size": -4}',
        b'{"model_type": "llama", "num_attention_heads": 0}',
        b'{"model_type": "llama", "num_hidden_layers": 0}',
        b'{"model_type": "llama", "vocab_size": null}',
        b'{"model_type": ["llama"]}',
    ],
)
def test_a_broken_config_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(Misuse) as told:
        models.find(str(tmp_path))
    assert told.value.code == 2
    assert told.value.type_this


# ------------------------------------------------------------------------------------ wrong usage
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "prefix"], "invalid choice"),
        (["--batch", "0"], "0 is not a number from 1 on"),
        (["--length", "many"], "many is not a number from 1 on"),
        (["--optimizer", "lion"], "invalid choice"),
        (["--dtype", "float16"], "invalid choice"),
        (["--mesure"], "Unrecognized arguments: --mesure"),
        (["--method", "lora", "--mixed"], "--mixed is for --method full"),
        (["--method", "full", "--mixed", "--dtype", "float32"], "are two things"),
        (["--model", "tinyllama-1.1b", "--length", "4096"], "more than the 2048 tokens"),
        (["--model", "lama-8b"], "There is no model in lama-8b"),
    ],
)
def test_wrong_usage_ends_with_2_and_what_to_type(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "settle", lambda: None)  # it is for a process of its own
    assert program.main(words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.splitlines()[-1].startswith("Type: ")


# --------------------------------------------------------------------------------- the real program
def start(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-m", memory_plan.__name__, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_the_program_measures_and_writes_the_numbers(small: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    words = ["--model", str(small), "--batch", "4", "--length", "48", "--measure"]
    done = start(*words, "--json", str(file), "--no-color")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^peak +[\d.]+ MB +[\d.]+ MB +[+-]\d+\.\d %$", done.stdout, re.MULTILINE)
    told = json.loads(file.read_text())
    assert abs(told["measured"]["error"]) < 0.1
    assert told["measured"]["peak"] == max(told["measured"]["moments"].values())
    assert told["peak"] == max(told["moments"].values())
    assert told["fits"] is True
    assert told["plan"]["method"] == "qlora"
    for moment in MOMENTS:
        assert sum(it[moment] for it in told["parts"].values()) == told["moments"][moment]
    assert told["trained"] == 3 * 16 * (4 * 128 + 2 * 128 + 2 * 64 + 3 * (128 + 352))


def test_a_file_that_cannot_be_written_is_a_fault(small: Path, said: Said, tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"cannot be written: No such file") as told:
        run_(said, "--model", str(small), "--json", str(tmp_path / "none" / "plan.json"))
    assert told.value.code == 3


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (f"raise SystemExit({step.OUT_OF_MEMORY})", "ran out of memory"),
        ("import os; os.kill(os.getpid(), 9)", "ran out of memory"),
        ("raise ValueError('no kernel')", "failed: ValueError: no kernel"),
    ],
)
def test_a_step_that_does_not_end_is_told(
    script: str, told: str, small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{script}"\n')
    python.chmod(0o755)
    monkeypatch.setattr(measuring.sys, "executable", str(python))
    with pytest.raises(Problem, match=re.escape(told)) as ended:
        measuring.measure(models.find(str(small)), PLANS["qlora"], CPU)
    assert ended.value.code == 3
    assert ended.value.type_this


def test_the_error_is_of_what_was_measured(said: Said) -> None:
    prediction = memory.predict(models.find("llama-8b").shape, PLANS["lora"])
    took = {it: prediction.total(it) * 2 for it in MOMENTS}
    run._compare(prediction, Measured(took, "a test"), said)
    assert said.text.count("-50.0 %") == 4
    assert said.text.splitlines()[-1] == "by a test"


def test_the_floor_is_the_labs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from verify import memory_guard

    monkeypatch.setenv(memory_guard.SETTING, "3")
    found = room.look(CPU)
    assert found.floor == 3 * 2**30
    assert found.usable.bytes == max(0, found.free.bytes - found.floor)
    assert Room(free(1), 2).usable.bytes == 0


def test_smaller_plans_of_full_go_over_adapters_to_nf4() -> None:
    found = models.find("tinyllama-1.1b").shape
    seen = [it.method for it in fit.smaller(found, Plan("full", 4, 512), free(1e15))]
    assert list(dict.fromkeys(seen)) == ["full", "lora", "qlora"]
