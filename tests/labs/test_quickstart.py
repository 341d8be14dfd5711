"""The first fine-tune: a real QLoRA of a tiny model, stopped, gone on with, proved, and refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from labs import assets
from labs.assets import form
from labs.quickstart import __main__ as program
from labs.quickstart import model as models
from labs.quickstart import options as flags
from labs.quickstart import report, rows, run, runs, sources, training
from labs.quickstart.runs import Run
from tests.conftest import PROJECT
from tests.lab.conftest import Said
from verify import tiny
from verify.lab.layout import InImage
from verify.lab.problems import Misuse, Problem

CPU = torch.device("cpu")
WORDS = [f"w{number}" for number in range(24)]
SPOKEN = ["###", "Instruction:", "Response:", "Input:", "Say", "twice", "answer", *WORDS]
README = (PROJECT / "labs" / "quickstart" / "README.md").read_text("utf-8")


def row(number: int) -> dict[str, str]:
    word = WORDS[number % len(WORDS)]
    more = " ".join(WORDS[: number % 5])
    return {
        "instruction": "Say twice",
        "input": f"{word} {more}".strip(),
        "output": f"{word} {word}",
    }


def write(file: Path, data: list[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(it) + "\n" for it in data))
    return file


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and data for it."""
    root = tmp_path_factory.mktemp("quickstart")
    tokenizer = tiny.tiny_tokenizer(SPOKEN, pad=True)
    tokenizer.chat_template = form.CHAT_TEMPLATE
    tokenizer.save_pretrained(root / "model")
    model = tiny.tiny_model("llama", 3, vocabulary=64, width=64, heads=4, kv_heads=2)
    model.to(torch.bfloat16).save_pretrained(root / "model")
    write(root / "data" / "train.jsonl", [row(number) for number in range(80)])
    write(root / "data" / "test.jsonl", [row(number) for number in range(80, 92)])
    return root


def asked(place: Path, output: Path | None, *more: str) -> flags.Options:
    told = [f"--model={place / 'model'}", f"--data={place / 'data'}", "--batch=8", "--rank=4"]
    told += ["--learning-rate=0.02", *([f"--output={output}"] if output else []), *more]
    return flags.read(flags.parser().parse_args(told))


def fine_tune(place: Path, output: Path, *more: str) -> tuple[int, str]:
    said = Said()
    return run.run(asked(place, output, *more), said), said.text


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of 12 steps without a stop, and what it said."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    code, said = fine_tune(place, folder, "--steps=12")
    assert code == 0
    return folder, said


# --------------------------------------------------------------------------------- a run that ends
def test_a_run_leaves_all_that_it_promises(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    found = json.loads((folder / "report.json").read_text())
    assert found["steps"] == 12
    assert found["loss"]["after"] < found["loss"]["before"]
    assert list(found["loss"]["train"]) == [str(number) for number in range(1, 13)]
    assert found["loss"]["held_out"]["0"] == pytest.approx(found["loss"]["before"], abs=1e-4)
    assert found["memory"]["ratio"] == pytest.approx(1, abs=0.03)
    assert found["memory"]["rows"] == 8
    assert found["tokens_per_second"] > 0
    assert found["adapter"]["difference"] == 0
    assert found["adapter"]["tensors"] == 2 * 7 * 2  # A and B, layers of a block, blocks
    assert [set(it) for it in found["answers"]] == [{"prompt", "wanted", "before", "after"}] * 6
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "adapter" / "model.safetensors").exists()
    assert sum(it.numel() for it in adapter(folder).values()) < 20_000


def test_the_screen_tells_the_story(whole: tuple[Path, str]) -> None:
    folder, said = whole
    for told in (
        r"Model +.*: llama, 82,240 parameters, on the CPU",
        r"Data +.*: 80 rows to train on, 12 held out",
        r"Method +qlora: frozen weights NF4, products in bfloat16; rank 4",
        r"Steps +12 of 8 rows, learning rate 0\.02, seed 0",
        r"memory +for 8 x 16 tokens +at the loss in backward at the update",
        r"NF4 weights .* x 4\.127 bits",
        r"free: [\d.,]+ GB by .*; it fits without checkpointing",
        r"step 0 of 12: held-out \d\.\d{3}",
        r"step 12 of 12: .*tokens/s",
        r"held-out prompt .* before .* after",
        r"Loss on 12 held-out rows: \d\.\d+ before, \d\.\d+ after 12 steps, \d+% lower",
        r"Memory of a step with 8 x 16 tokens: .* predicted, .* measured",
        r"loaded again it is the same: 28 tensors equal, logits differ by 0",
    ):
        assert re.search(told, said), told
    assert str(folder / "loss.png") in said
    assert "\x1b" not in said


def test_the_adapter_that_was_saved_answers_as_the_report_says(
    place: Path, whole: tuple[Path, str]
) -> None:
    """By hand, without the quickstart's own way of loading it."""
    folder, _ = whole
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "adapter")
    base = AutoModelForCausalLM.from_pretrained(place / "model", dtype=torch.float32)
    plain, adapted = base, None
    found = json.loads((folder / "report.json").read_text())["answers"]
    loss_of = {}
    for name in ("base", "adapted"):
        if name == "adapted":
            adapted = PeftModel.from_pretrained(plain, folder / "adapter")
        model = adapted or plain
        losses = []
        for answer in found:
            example = rows.examples(
                [{"instruction": answer["prompt"], "output": answer["wanted"]}], tokenizer, 99
            )
            with torch.no_grad():
                losses.append(model(**rows.collate(example, 0)).loss.item())
        loss_of[name] = sum(losses) / len(losses)
    assert loss_of["adapted"] < 0.9 * loss_of["base"]


def test_the_same_command_again_says_that_it_is_finished(
    place: Path, whole: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = whole
    monkeypatch.setattr(models, "load", lambda *_: pytest.fail("nothing is to be loaded"))
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    for steps in ("--steps=12", "--steps=5"):
        code, again = fine_tune(place, folder, steps)
        assert code == 0
        assert "This run is finished: 12 steps" in again
        assert "the same with --steps 24" in again
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


def test_the_exit_code_is_1_when_the_loss_does_not_fall(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "place")
    never = [row(number) | {"output": "answer Input: " * 6} for number in range(12)]
    write(tmp_path / "place" / "data" / "test.jsonl", never)
    code, said = fine_tune(tmp_path / "place", tmp_path / "run", "--steps=8")
    assert code == 1
    assert "The loss on held-out rows did not fall:" in said
    assert "Type: invoke quickstart --learning-rate 0.004" in said
    assert "% lower" not in said
    again, _ = fine_tune(tmp_path / "place", tmp_path / "run", "--steps=8")
    assert again == 1, "a finished run ends with the code it had"


@pytest.mark.parametrize("after", [2.0, 2.5, float("nan"), float("inf")])
def test_no_lower_loss_is_no_success(after: float) -> None:
    assert report.code({"loss": {"before": 2.0, "after": after}}) == 1


def test_an_adapter_that_comes_back_changed_is_found_out(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = models.load_adapter

    def other(base: Any, folder: Path) -> Any:
        found = right(base, folder)
        next(it for name, it in found.named_parameters() if "lora_B" in name).data[0, 0] += 1e-3
        return found

    monkeypatch.setattr(models, "load_adapter", other)
    with pytest.raises(Problem, match="is not the one that was trained"):
        fine_tune(place, tmp_path / "run", "--steps=2")
    assert not (tmp_path / "run" / "report.json").exists()


def test_lora_in_16_bits_and_checkpointing_and_accumulation(place: Path, tmp_path: Path) -> None:
    more = ("--steps=4", "--method=lora", "--accumulate=2", "--batch=4", "--checkpointing=on")
    code, said = fine_tune(place, tmp_path / "run", *more)
    assert code == 0
    assert "frozen weights as they are" in said
    assert "4 of 4 rows x 2" in said
    assert "it fits with checkpointing" in said
    found = json.loads((tmp_path / "run" / "report.json").read_text())
    assert found["memory"]["ratio"] == pytest.approx(1, abs=0.08)
    assert "NF4 weights" not in found["memory"]["moments"]["loss"]


def test_checkpointing_changes_no_number(
    place: Path, whole: tuple[Path, str], tmp_path: Path
) -> None:
    fine_tune(place, tmp_path / "run", "--steps=12", "--checkpointing=on")
    for name, tensor in adapter(whole[0]).items():
        assert torch.equal(tensor, adapter(tmp_path / "run")[name]), name


# ------------------------------------------------------------------------------ stopped and gone on
def test_going_on_gives_the_same_as_never_having_stopped(
    place: Path, whole: tuple[Path, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert fine_tune(place, folder, "--steps=5")[0] == 0
    code, said = fine_tune(place, folder, "--steps=12")
    assert code == 0
    assert "going on from step 5" in said
    one, other = (json.loads((it / "report.json").read_text()) for it in (whole[0], folder))
    assert one["loss"]["train"] == other["loss"]["train"]
    assert one["loss"]["after"] == other["loss"]["after"]
    assert one["answers"] == other["answers"]
    for name, tensor in adapter(whole[0]).items():
        assert torch.equal(tensor, adapter(folder)[name]), name


def test_a_run_that_was_killed_before_its_report_is_only_reported(
    place: Path, whole: tuple[Path, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    (folder / "report.json").unlink()
    shutil.rmtree(folder / "adapter")
    code, said = fine_tune(place, folder, "--steps=12")
    assert code == 0
    assert "going on from step 12" in said
    assert json.loads((folder / "report.json").read_text())["memory"]["measured"] is None
    for name, tensor in adapter(whole[0]).items():
        assert torch.equal(tensor, adapter(folder)[name]), name


class Program:
    """The program in a process of its own, its lines read as they come."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-I", "-m", "labs.quickstart", *words]
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        )
        self.said: list[str] = []

    def until(self, awaited: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if awaited in line:
                return
        raise AssertionError("".join(self.said))

    def end(self) -> tuple[int, str]:
        rest, _ = self.process.communicate(timeout=120)
        return self.process.returncode, "".join(self.said) + rest


@contextlib.contextmanager
def running(*words: str) -> Iterator[Program]:
    made = Program(*words)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def words(place: Path, folder: Path, steps: int) -> list[str]:
    told = [f"--model={place / 'model'}", f"--data={place / 'data'}", f"--output={folder}"]
    return [*told, "--batch=8", "--rank=4", "--learning-rate=0.02", f"--steps={steps}"]


def test_ctrl_c_keeps_what_was_learned_and_the_same_command_goes_on(
    place: Path, whole: tuple[Path, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with running(*words(place, folder, 100_000)) as program_:
        program_.until("step 0 of")
        time.sleep(0.5)
        program_.process.send_signal(signal.SIGINT)
        code, said = program_.end()
    assert code == 130, said
    stopped = re.search(r"Stopped after step (\d+) of 100000; that much is kept\.", said)
    assert stopped, said
    assert said.splitlines()[-1] == "The same command goes on from there."
    assert "Traceback" not in said
    step = int(stopped[1])
    assert [it.name for it in Run(folder).checkpoints.iterdir()] == [f"checkpoint-{step}"]
    code, said = fine_tune(place, folder, f"--steps={step + 12}")
    assert code == 0
    assert f"going on from step {step}" in said
    found = json.loads((folder / "report.json").read_text())["loss"]["train"]
    assert list(found) == [str(number) for number in range(1, step + 13)]
    before = json.loads((whole[0] / "report.json").read_text())["loss"]["train"]
    for number in range(1, min(step, 12) + 1):
        assert found[str(number)] == before[str(number)], "the same seed, the same numbers"


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    watch = training._Watch.__new__(training._Watch)
    watch.asked_to_stop = False
    before = signal.getsignal(signal.SIGINT)
    with training._stoppable(watch):
        signal.raise_signal(signal.SIGINT)
        assert watch.asked_to_stop
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


# ------------------------------------------------------------------------------- the runs' folders
SETTINGS: runs.Settings = {"method": "qlora", "rank": 4}


def checkpoint(run_: Run, step: int, *, whole_: bool = True) -> Path:
    folder = run_.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    if whole_:
        (folder / "trainer_state.json").write_text("{}")
    return folder


def test_the_last_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    found = Run(tmp_path)
    assert found.checkpoint is None
    checkpoint(found, 9)
    last = checkpoint(found, 10)
    checkpoint(found, 11, whole_=False)
    (checkpoint(found, 12) / "trainer_state.json").write_text('{"half')
    assert found.checkpoint == last
    assert runs.steps_of(last) == 10


def test_each_kind_of_run_has_a_number_and_the_same_goes_on(tmp_path: Path) -> None:
    first = runs.find(tmp_path, None, SETTINGS, fresh=False)
    assert first.folder == tmp_path / "1-qlora"
    assert first.is_new
    first.begin(SETTINGS)
    assert not first.is_new
    other = SETTINGS | {"method": "lora"}
    second = runs.find(tmp_path, None, other, fresh=False)
    second.begin(other)
    assert second.folder.name == "2-lora"
    (tmp_path / "notes").mkdir()
    assert runs.find(tmp_path, None, SETTINGS, fresh=False).folder == first.folder
    third = runs.find(tmp_path, None, SETTINGS, fresh=True)
    assert third.folder.name == "3-qlora"
    third.begin(SETTINGS)
    assert runs.find(tmp_path, None, SETTINGS, fresh=False).folder == third.folder
    (tmp_path / "10-qlora").mkdir()
    assert runs.find(tmp_path, None, SETTINGS, fresh=True).folder.name == "11-qlora"


def test_an_output_is_never_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    runs.find(tmp_path, folder, SETTINGS, fresh=False).begin(SETTINGS)
    again = runs.find(tmp_path, folder, SETTINGS, fresh=False)
    assert not again.is_new
    checkpoint(again, 3)
    with pytest.raises(Misuse, match="rank: 4 there, 8 now"):
        runs.find(tmp_path, folder, SETTINGS | {"rank": 8}, fresh=False)
    anew = runs.find(tmp_path, folder, SETTINGS | {"rank": 8}, fresh=True)
    assert anew.is_new
    anew.begin(SETTINGS | {"rank": 8})
    assert Run(folder).settings == SETTINGS | {"rank": 8}
    assert Run(tmp_path / "mine.1").checkpoint is not None
    with pytest.raises(Misuse, match="no run of this command"):
        runs.find(tmp_path, tmp_path, SETTINGS, fresh=True)
    with pytest.raises(Misuse, match="no run of this command"):
        runs.find(tmp_path, write(tmp_path / "file", []), SETTINGS, fresh=False)


def test_a_run_in_which_nothing_was_learned_may_begin_with_other_settings(tmp_path: Path) -> None:
    runs.find(tmp_path, tmp_path / "run", SETTINGS, fresh=False).begin(SETTINGS)
    Run(tmp_path / "run").write("before.json", ["of another model"])
    other = runs.find(tmp_path, tmp_path / "run", SETTINGS | {"rank": 8}, fresh=False)
    assert other.settings == SETTINGS | {"rank": 8}
    assert other.read("before.json") is None


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    below_a_file = write(tmp_path / "file", []) / "run"
    with pytest.raises(Problem, match=r"cannot be written: Not a directory") as told:
        runs.find(tmp_path, below_a_file, SETTINGS, fresh=False).begin(SETTINGS)
    assert told.value.code == 3


def test_two_commands_do_not_work_on_one_run(tmp_path: Path) -> None:
    run_ = Run(tmp_path)
    with run_.alone():
        other = Run(tmp_path).alone()
        with pytest.raises(Problem, match="Another command works on"):
            other.__enter__()
    with run_.alone():
        pass


def test_the_page_is_put_beside_the_runs_and_never_replaced(tmp_path: Path) -> None:
    runs.put_page(tmp_path / "nowhere")
    runs.put_page(tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8") == README
    (tmp_path / "README.md").write_text("mine")
    runs.put_page(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


# -------------------------------------------------------------------------------------- the rows
def tokenizer(template: str | None = form.CHAT_TEMPLATE, *, pad: bool = False) -> Any:
    made = tiny.tiny_tokenizer(SPOKEN, pad=pad)
    made.chat_template = template
    return made


def learned(example: rows.Example, made: Any) -> str:
    return str(made.decode([it for it in example.labels if it != rows.IGNORED]))


def test_the_answer_and_its_end_are_learned_and_nothing_else() -> None:
    made = tokenizer()
    made.pad_token = made.eos_token  # the trap: labels that go by the id would lose the end
    (example,) = rows.examples([row(3)], made, 99)
    assert learned(example, made) == "w3 w3 </s>"
    assert made.decode(example.ids).startswith("### Instruction: Say twice ### Input: w3")
    batch = rows.collate([example, *rows.examples([row(4)], made, 99)], made.pad_token_id)
    assert batch["input_ids"].shape == batch["labels"].shape
    assert batch["input_ids"].shape[1] % 8 == 0
    short = batch["labels"][0]
    assert (short == made.eos_token_id).sum() == 1
    assert short[len(example.ids) :].eq(rows.IGNORED).all()


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ("{{ eos_token }}", "w3 w3 </s>"),
        ("{{ eos_token + ' answer' }}", "w3 w3 </s>"),  # as TinyLlama's, which adds a new line
        ("", "w3 w3 </s>"),  # none: it is put there
    ],
)
def test_an_answer_ends_with_the_end_whatever_the_template_writes(after: str, told: str) -> None:
    template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ 'Say ' + m['content'] + ' answer ' }}{% else %}{{ m['content'] }}"
        + after
        + "{% endif %}{% endfor %}"
    )
    made = tokenizer(template)
    (example,) = rows.examples([row(3)], made, 99)
    assert learned(example, made) == told


def test_a_template_that_tells_no_beginning_is_refused() -> None:
    made = tokenizer("{{ messages|length }} {{ messages[-1]['content'] }}")
    with pytest.raises(Misuse, match="where an answer begins cannot be told"):
        rows.examples([row(3)], made, 99)


def test_long_rows_are_left_out_and_not_cut() -> None:
    made = tokenizer()
    lengths = [len(it.ids) for it in rows.examples([row(n) for n in range(10)], made, 99)]
    kept = rows.examples([row(n) for n in range(10)], made, sorted(lengths)[5])
    assert len(kept) == sum(it <= sorted(lengths)[5] for it in lengths) < 10
    assert all(it.ids[-1] == made.eos_token_id for it in kept)


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_right_padding_needs_no_mask(family: str) -> None:
    made = tokenizer(pad=True)
    examples = rows.examples([row(n) for n in range(5)], made, 99)
    batch = rows.collate(examples, made.pad_token_id)
    mask = (
        torch.arange(batch["input_ids"].shape[1]) < torch.tensor([[len(it.ids)] for it in examples])
    ).long()
    model = tiny.tiny_model(family, 1)
    with torch.no_grad():
        without, with_it = model(**batch), model(**batch, attention_mask=mask)
    assert without.loss.item() == pytest.approx(with_it.loss.item(), rel=1e-5)
    kept = mask.bool()
    torch.testing.assert_close(without.logits[kept], with_it.logits[kept], rtol=1e-4, atol=1e-4)


def test_a_longer_order_begins_with_a_shorter_one_and_the_longest_come_second() -> None:
    examples = [rows.Example(str(n), "", "", [0] * (n % 13 + 1), []) for n in range(20)]
    order = rows.in_order(examples, 70, 4, seed=1)
    assert rows.in_order(examples, 30, 4, seed=1) == order[:30]
    assert rows.in_order(examples, 70, 4, seed=2) != order
    for begin in (0, 20, 40):
        assert sorted(order[begin : begin + 20], key=lambda it: int(it.asked)) == examples
    lengths = sorted((len(it.ids) for it in examples), reverse=True)
    assert [len(it.ids) for it in order[4:8]] == lengths[:4]
    assert len(rows.in_order(examples, 30, 16, seed=1)) == 30  # too few for a second batch


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "is not JSON"),
        ("[1]", "is no object"),
        ('{"instruction": "a"}', "has no text in `output`; it has instruction"),
        ('{"prompt": "a"}', "has no text in `instruction` and `output`; it has prompt"),
        ('{"instruction": "a", "output": 3}', "has no text in `output`"),
    ],
)
def test_a_line_that_is_no_row_is_named(line: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(row(1))}\n\n{line}\n")
    with pytest.raises(Misuse) as refused:
        rows.read(tmp_path)
    assert refused.value.happened.startswith("Line 3 of ")
    assert told in refused.value.happened


def test_data_without_a_test_file_hold_every_tenth_row_out(tmp_path: Path) -> None:
    data = [row(number) | {"input": f"w1 {'w2 ' * number}"} for number in range(25)]
    for place_ in (
        write(tmp_path / "a" / "train.jsonl", data).parent,
        tmp_path / "a" / "train.jsonl",
    ):
        train, held_out = rows.read(place_)
        assert held_out == [data[9], data[19]]
        assert len(train) == 23


def test_what_else_ends_a_line_in_unicode_does_not_end_a_row(tmp_path: Path) -> None:
    told = row(1) | {"output": "one\u2028two\x85three"}
    (tmp_path / "train.jsonl").write_text(json.dumps(told, ensure_ascii=False), "utf-8")
    assert rows.read(tmp_path)[0] == [told]
    (tmp_path / "train.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(Misuse, match="not text in UTF-8"):
        rows.read(tmp_path)


# ------------------------------------------------------------------------------------ what is wrong
def without_pad(model: Path) -> None:
    tokenizer().save_pretrained(model)


def without_template(model: Path) -> None:
    tokenizer(None, pad=True).save_pretrained(model)
    (model / "chat_template.jinja").unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [(without_pad, "no token for padding: </s> is used"), (without_template, "no chat template")],
)
def test_a_model_without_pad_token_or_template_is_fit_out_and_told(
    change: Callable[[Path], None], told: str, place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place, tmp_path / "place")
    change(tmp_path / "place" / "model")
    code, said = fine_tune(tmp_path / "place", tmp_path / "run", "--steps=4")
    assert code == 0
    assert told in said
    from transformers import AutoTokenizer

    kept = AutoTokenizer.from_pretrained(tmp_path / "run" / "adapter")
    assert kept.chat_template == form.CHAT_TEMPLATE
    assert kept.pad_token is not None


def test_the_plain_form_begins_as_the_models_own_tokenizer_does(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    made = tokenizer(None)
    made.backend_tokenizer.post_processor = TemplateProcessing("<s> $A", None, [("<s>", 1)])
    made.save_pretrained(tmp_path)
    found, _ = sources.read_tokenizer(str(tmp_path))
    (example,) = rows.examples([row(1)], found, 99)
    assert example.ids[0] == found.bos_token_id
    assert example.ids.count(found.bos_token_id) == 1


def another_config(root: Path) -> None:
    file = root / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_hidden_layers": 3}))


def no_language_model(root: Path) -> None:
    (root / "model" / "config.json").write_text('{"model_type": "vit"}')


MISUSED: list[tuple[Callable[[Path], object], list[str], str]] = [
    (lambda root: shutil.rmtree(root / "model"), [], "There is no model in"),
    (lambda root: (root / "model" / "config.json").unlink(), [], "no config.json in it"),
    (lambda root: (root / "model" / "config.json").write_text("{"), [], "cannot be read"),
    (no_language_model, [], "no language model of a kind that is known here (vit)"),
    (
        lambda root: (root / "model" / "model.safetensors").write_bytes(b"x" * 99),
        [],
        "cannot be read",
    ),
    (lambda root: (root / "model" / "model.safetensors").unlink(), [], "cannot be read"),
    (another_config, [], "layers.2.input_layernorm.weight is missing, and 8 others"),
    (lambda root: shutil.rmtree(root / "data"), [], "There is no data in"),
    (lambda root: (root / "data" / "train.jsonl").unlink(), [], "There is no train.jsonl in"),
    (
        lambda root: None,
        ["--batch=200"],
        "There are 80 rows to train on within the length, and one",
    ),
    (lambda root: None, ["--length=9"], "There are 0 rows to train on within the length"),
    (
        lambda root: write(root / "data" / "test.jsonl", [row(1)] * 3),
        [],
        "There are 3 held-out rows within the length, too few",
    ),
]


@pytest.mark.parametrize(("change", "more", "told"), MISUSED, ids=[it[2][:40] for it in MISUSED])
def test_what_is_not_fit_for_it_is_refused_with_what_to_type(
    change: Callable[[Path], object], more: list[str], told: str, place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place, tmp_path / "place")
    change(tmp_path / "place")
    with pytest.raises(Misuse) as refused:
        fine_tune(tmp_path / "place", tmp_path / "run", "--steps=2", *more)
    assert told in refused.value.happened
    assert refused.value.cause
    assert refused.value.type_this


def test_a_hub_model_is_not_asked_for_when_that_is_forbidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [
        sys.executable,
        "-I",
        "-m",
        "labs.quickstart",
        f"--model={name}",
        f"--data={tmp_path}",
    ]
    ended = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | env, check=False
    )
    assert ended.returncode == 2
    assert "HF_HUB_OFFLINE=1 forbids asking the hub" in ended.stderr
    assert (
        ended.stderr.splitlines()[-1] == f"Type: HF_HUB_OFFLINE=0 invoke quickstart --model {name}"
    )
    assert "Traceback" not in ended.stderr


def test_what_a_container_does_not_see_is_told_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "here", lambda: InImage(Path("/opt/lab")))
    with pytest.raises(Misuse) as told:
        sources.find_data(Path("/home/me/data"))
    assert "sees nothing of the host but /workspace" in told.value.cause


def test_assets_that_were_not_made_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAB_ASSETS", str(tmp_path / "nothing"))
    monkeypatch.delenv("LAB_MODEL", raising=False)
    for find in (lambda: sources.find_model(None), lambda: sources.find_data(None)):
        with pytest.raises(Problem) as told:
            find()
        assert told.value.code == 3
        assert told.value.type_this.startswith("python -m labs.assets")


def test_too_little_memory_is_refused_before_a_weight_is_loaded(
    place: Path, tmp_path: Path
) -> None:
    """A model of 70 billion parameters of which there is only the config: it is enough."""
    from transformers import LlamaConfig

    shutil.copytree(place, tmp_path / "place")
    (tmp_path / "place" / "model" / "model.safetensors").unlink()
    config = LlamaConfig(
        vocab_size=128_256, hidden_size=8192, intermediate_size=28_672, num_hidden_layers=800,
        num_attention_heads=64, num_key_value_heads=8,
    )  # fmt: skip
    config.save_pretrained(tmp_path / "place" / "model")
    said = Said()
    with pytest.raises(Problem) as refused:
        run.run(asked(tmp_path / "place", tmp_path / "run"), said)
    assert refused.value.code == 3
    assert re.match(
        r"This run needs [\d.,]+ [GT]B, and [\d.,]+ GB are free", refused.value.happened
    )
    assert "NF4 weights" in refused.value.cause
    assert re.search(r"NF4 weights 684\.\d+ billion x 4\.127 bits +353\.\d GB", said.text)
    assert not (tmp_path / "run").exists()


def test_the_state_of_model_and_data_is_part_of_the_settings(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "place")
    model, data = str(tmp_path / "place" / "model"), str(tmp_path / "place" / "data")
    before = [sources.fingerprint(it) for it in (model, data)]
    assert before == [sources.fingerprint(it) for it in (model, data)]
    write(Path(data, "train.jsonl"), [row(5)] * 80)
    Path(model, "tokenizer_config.json").write_text("{}")
    after = [sources.fingerprint(it) for it in (model, data)]
    assert after[0] != before[0]
    assert after[1] != before[1]


# --------------------------------------------------------------------------------------- the model
def test_after_an_evaluation_gradients_still_pass_through_the_quantised_layers(place: Path) -> None:
    """On a CPU with AVX512-BF16 bitsandbytes would repack the weights, and they would not."""
    model = models.add_adapters(models.load(str(place / "model"), "qlora", CPU), 4, 0)
    for name, it in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(it, generator=torch.Generator().manual_seed(len(name)))
    ids = torch.randint(4, 30, (2, 16), generator=torch.Generator().manual_seed(0))

    def gradients() -> dict[str, torch.Tensor]:
        model.train()
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            model(input_ids=ids, labels=ids).loss.backward()
        return {
            name: it.grad.clone() for name, it in model.named_parameters() if it.grad is not None
        }

    before = gradients()
    model.train(mode=False)
    with models.computing(CPU, "mixed"):
        model(input_ids=ids)
    after = gradients()
    assert before.keys() == after.keys()
    for name, gradient in before.items():
        assert torch.equal(gradient, after[name]), name


def test_qlora_is_nf4_with_double_quantisation_and_float32_adapters(place: Path) -> None:
    model = models.add_adapters(models.load(str(place / "model"), "qlora", CPU), 4, 0)
    layers = [it for it in model.modules() if isinstance(it, bitsandbytes.nn.Linear4bit)]
    layers = [it for it in layers if not hasattr(it, "base_layer")]
    assert len(layers) == 2 * 7
    for layer in layers:
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested
        assert layer.compute_dtype == torch.bfloat16
    adapters = {name: it for name, it in model.named_parameters() if it.requires_grad}
    assert len(adapters) == 2 * 2 * 7
    assert all("lora_" in name and it.dtype == torch.float32 for name, it in adapters.items())
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16


# ---------------------------------------------------------------------------------------- the flags
@pytest.mark.parametrize(
    "word",
    ["--steps=0", "--batch=x", "--learning-rate=2", "--learning-rate=nan", "--seed=-1", "--rnak=4",
     "--method=full", "--checkpointing=maybe"],
)  # fmt: skip
def test_a_wrong_flag_is_wrong_usage(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main([word])
    assert ended.value.code == 2
    assert "quickstart: error:" in capsys.readouterr().err


def test_the_learning_rate_follows_the_models_size() -> None:
    none = flags.read(flags.parser().parse_args([]))
    assert none.rate_for(10**6) == flags.SMALL_RATE
    assert none.rate_for(8 * 10**9) == flags.RATE == 2e-4
    given = flags.read(flags.parser().parse_args(["--learning-rate=0.1"]))
    assert given.rate_for(1) == given.rate_for(10**10) == 0.1


def test_the_readme_has_the_defaults() -> None:
    none = flags.read(flags.parser().parse_args([]))
    assert f"does {none.steps} steps of {none.batch} rows" in README
    assert f"adapter of rank {none.rank} in float32" in README
    assert f"the learning rate {flags.RATE}" in README
    assert f"invoke quickstart --steps {2 * none.steps}" in README
    assert f"16 rows x {none.length} tokens, rank {none.rank}" in README
    assert (none.method, none.checkpointing, none.seed) == ("qlora", "auto", 0)


# ------------------------------------------------------------------------------- the bundled model
@pytest.mark.skipif(not assets.folder().is_dir(), reason="`invoke test` makes the lab's assets")
def test_the_bundled_model_learns_the_bundled_style(tmp_path: Path) -> None:
    told = ["--steps=60", f"--output={tmp_path / 'run'}"]
    said = Said()
    assert run.run(flags.read(flags.parser().parse_args(told)), said) == 0
    found = json.loads((tmp_path / "run" / "report.json").read_text())
    assert found["loss"]["after"] < 0.5 * found["loss"]["before"]
    assert not any(it["before"].startswith("{") for it in found["answers"])
    assert sum(it["after"].startswith('{"answer":') for it in found["answers"]) >= 3
    assert found["memory"]["ratio"] == pytest.approx(1, abs=0.03)


def test_the_readmes_program_uses_an_adapter(
    whole: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = code.replace('"workspace/quickstart/1-qlora/adapter"', repr(str(whole[0] / "adapter")))
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out
