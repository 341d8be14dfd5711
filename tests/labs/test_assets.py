"""The assets: what the data says, what the tokenizers do, that the model answers; the making."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from labs import assets
from labs.assets import form, rows, stamp, training, vocabulary
from labs.assets.rows import Row, Split
from tests.conftest import PROJECT

MODULE = [sys.executable, "-m", "labs.assets"]

# One pass over the data instead of all: the same making, in some seconds.
SHORT = """
import sys
from pathlib import Path
from labs.assets import __main__ as command
command.settle()
from labs.assets import making, training
making.make(Path(sys.argv[1]), lambda *_: None, training.Plan(epochs=1))
"""


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MODULE, *words],
        cwd=PROJECT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def make_short(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", SHORT, str(folder)], cwd=PROJECT, check=True)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="session")
def made() -> Path:
    """The assets as they are shipped; `invoke test` has made them before."""
    ended = run()
    assert ended.returncode == 0, ended.stderr
    return assets.folder()


# ---- the data -------------------------------------------------------------------------------


SPLITS = {"instructions": rows.instructions(), "json-answers": rows.json_answers()}


def asked(row: Row) -> tuple[str, str]:
    """What is asked, without what a reader would not call another question."""
    return (" ".join(row.instruction.lower().split()), " ".join(row.input.lower().split()))


def test_the_data_sets_are_as_large_as_the_lessons_need() -> None:
    sizes = {name: (len(split.train), len(split.test)) for name, split in SPLITS.items()}
    assert sizes["instructions"][0] >= 900
    assert sizes["instructions"][1] >= 100
    assert sizes["json-answers"][0] >= 250
    assert sizes["json-answers"][1] >= 40
    told = (PROJECT / "labs" / "assets" / "README.md").read_text()
    for train, test in sizes.values():
        assert f"| {train} | {test} |" in told


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_every_row_is_another_question_and_those_of_the_test_are_new(split: Split) -> None:
    questions = Counter(asked(row) for row in [*split.train, *split.test])
    assert [it for it, count in questions.items() if count > 1] == []


def test_what_the_test_asks_for_was_learned_in_another_phrasing() -> None:
    """So a right answer shows that the model understood the phrasing, not that it guessed."""
    for table in rows.tables():
        if table.once:
            continue
        for fact in range(len(table.facts)):
            ways = [table.row(fact, it) for it in range(len(table.ask))]
            assert len({asked(it) for it in ways}) == len(table.ask) >= 2
            assert sum(it in SPLITS["instructions"].test for it in ways) <= 1


def test_a_fact_answered_in_json_in_the_test_rows_is_in_no_training_row() -> None:
    split = SPLITS["json-answers"]
    for row in [*split.train, *split.test]:
        assert "\n" not in row.output
        assert list(json.loads(row.output)) == ["answer"]
        assert json.loads(row.output)["answer"]
    asked_in_training = {asked(row) for row in split.train}
    for table in rows.tables():
        for fact in range(len(table.facts)):
            ways = {asked(table.row(fact, it)) for it in range(len(table.ask))}
            assert len(ways & asked_in_training) == int(fact % 7 != 3)


def test_the_first_rows_are_of_many_kinds() -> None:
    """A lesson takes the first hundred."""
    for split in SPLITS.values():
        for part in (split.train, split.test):
            assert len({row.instruction.split()[0] for row in part[:40]}) >= 8


@pytest.mark.parametrize("name", assets.DATA)
def test_the_files_hold_the_rows_in_the_columns_of_the_lessons(made: Path, name: str) -> None:
    for part in ("train", "test"):
        lines = (Path(assets.data(name)) / f"{part}.jsonl").read_text().splitlines()
        expected = [
            {"instruction": it.instruction, "input": it.input, "output": it.output, "text": it.text}
            for it in getattr(SPLITS[name], part)
        ]
        assert [json.loads(line) for line in lines] == expected


def test_datasets_loads_the_folder_with_both_splits(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    loaded = datasets.load_dataset(assets.data(), cache_dir=str(tmp_path))
    assert {part: loaded[part].num_rows for part in loaded} == {
        part: len(getattr(SPLITS["instructions"], part)) for part in ("train", "test")
    }
    assert loaded["train"].column_names == ["instruction", "input", "output", "text"]


def test_a_text_is_the_prompt_and_the_answer_and_has_no_section_for_an_input_it_lacks() -> None:
    plain = Row("Reverse the list.", "", "none")
    assert plain.text == "### Instruction:\nReverse the list.\n\n### Response:\nnone"
    given = Row("Reverse the list.", "a\nb", "b\na")
    assert given.text == (
        "### Instruction:\nReverse the list.\n\n### Input:\na\nb\n\n### Response:\nb\na"
    )


def test_the_text_is_clean() -> None:
    for row in [*SPLITS["instructions"].train, *SPLITS["instructions"].test]:
        assert re.fullmatch(r"[A-Z][A-Za-z ,:'-]*[.?]", row.instruction), row
        assert re.fullmatch(r"[A-Za-z0-9 ,.!'\n-]+", row.output), row
        assert row.text == "\n".join(line.rstrip() for line in row.text.splitlines())
        assert "  " not in row.text


def facts(name: str) -> list[list[str]]:
    return next(table.facts for table in rows.tables() if table.name == name)


NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
NUMBERS += ["eleven", "twelve", "thirteen"]


def test_what_can_be_computed_is_right() -> None:
    value = NUMBERS.index
    assert all(value(a) + value(b) == value(c) for a, b, c in facts("addition"))
    assert all(value(a) - value(b) == value(c) for a, b, c in facts("subtraction"))
    assert all(value(a) + 1 == value(b) for a, b in facts("next-number"))
    assert all(a.upper() == b for a, b in facts("capitals"))
    assert all("-".join(a) == b for a, b in facts("spelling"))
    assert all(re.search(rf"\b{a}s?\b", b, re.IGNORECASE) for a, b in facts("sentences"))
    for table in rows.tables():
        row, parts = table.row(0, 0), table.facts[0]
        if table.name == "reverse":
            assert row.output.split() == list(reversed(row.input.split()))
        if table.name in ("first-word", "last-word"):
            assert row.output == parts[0 if table.name == "first-word" else -1]
        assert all(len(it) == len(parts) for it in table.facts)


def test_every_table_says_what_it_is_and_is_used() -> None:
    for file in rows.TABLES.glob("*.toml"):
        text = file.read_text()
        assert text.startswith("# "), file.name
        told = tomllib.loads(text)
        used = {int(it) for part in [*told["ask"], told["answer"], told.get("input", "")]
                for it in re.findall(r"{(\d)}", part)}  # fmt: skip
        assert used == set(range(len(told["facts"][0]))), file.name


# ---- the tokenizers -------------------------------------------------------------------------


@pytest.fixture(scope="session", params=assets.TOKENIZERS)
def tokenizer(made: Path, request: pytest.FixtureRequest) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(assets.tokenizer(request.param))


def test_one_has_a_padding_token_and_the_other_is_the_same_without(made: Path) -> None:
    from transformers import AutoTokenizer

    pad, none = (AutoTokenizer.from_pretrained(assets.tokenizer(it)) for it in assets.TOKENIZERS)
    assert (pad.pad_token, none.pad_token) == ("<pad>", None)
    assert pad.pad_token_id not in (pad.eos_token_id, pad.bos_token_id)
    assert len(pad) == len(none) + 1 == vocabulary.SIZE
    assert {**none.get_vocab(), "<pad>": len(none)} == pad.get_vocab()


@pytest.mark.parametrize("text", ["The dog sleeps.", "Zürich, 東京, ✓", "a\n\n b\t", "</sx> #"])
def test_any_text_comes_back_as_it_was(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


def test_the_tokens_of_a_text_are_those_of_prompt_and_answer(tokenizer: Any) -> None:
    """Or else labels could not begin where the answer does."""
    for split in SPLITS.values():
        for row in [*split.train, *split.test]:
            example = training.encode(row, tokenizer)
            assert [*tokenizer(row.text).input_ids, tokenizer.eos_token_id] == [
                *example.prompt, *example.answer,
            ]  # fmt: skip
            assert len(example) <= tokenizer.model_max_length


def test_the_chat_template_writes_the_same_text(tokenizer: Any) -> None:
    def render(*messages: tuple[str, str], **how: Any) -> str:
        told = [{"role": role, "content": content} for role, content in messages]
        return str(tokenizer.apply_chat_template(told, tokenize=False, **how))

    row = SPLITS["instructions"].test[0]
    end = tokenizer.eos_token
    question, answer = ("user", row.instruction), ("assistant", row.output)
    assert render(question, add_generation_prompt=True) == form.prompt(row.instruction)
    assert render(question, answer) == row.text + end
    assert render(question, answer, question, answer) == (row.text + end) * 2
    given = Row("Reverse the list.", "a\nb", "b\na")
    content = f"{given.instruction}{form.INPUT}{given.input}"
    assert render(("user", content), ("assistant", given.output)) == given.text + end
    with pytest.raises(Exception, match="roles are user and assistant"):
        render(("system", "Be brief."), question)


# ---- the models -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", assets.FAMILIES)
def test_an_untrained_model_is_of_its_family_and_fits_its_tokenizer(
    made: Path, family: str
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = assets.random_model(family)
    model = AutoModelForCausalLM.from_pretrained(path)
    own = AutoTokenizer.from_pretrained(path)
    assert model.config.model_type == family
    assert {it.dtype for it in model.parameters()} == {torch.float32}
    assert model.config.vocab_size >= len(own)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == own.eos_token_id
    batch = own("What is the plural of cat?", return_tensors="pt")
    told = model.generate(**batch, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert told.shape[1] > batch.input_ids.shape[1]


@pytest.fixture(scope="session")
def model(made: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(assets.model())


@pytest.fixture(scope="session")
def own_tokenizer(made: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(assets.model())


@pytest.fixture(scope="session")
def answers(model: Any, own_tokenizer: Any) -> dict[str, tuple[str, bool]]:
    """What the model answers to the test rows, by prompt, and whether it stopped by itself."""
    found = {}
    for row in SPLITS["instructions"].test:
        prompt = form.prompt(row.instruction, row.input)
        batch = own_tokenizer(prompt, return_tensors="pt")
        told = model.generate(**batch, max_new_tokens=32, do_sample=False)
        new = told[0, batch.input_ids.shape[1] :].tolist()
        text = own_tokenizer.decode(new, skip_special_tokens=True)
        found[prompt] = text, new[-1] == own_tokenizer.eos_token_id
    return found


def test_the_model_is_small_and_in_bfloat16(model: Any) -> None:
    import torch

    assert {it.dtype for it in model.parameters()} == {torch.bfloat16}
    assert 1_000_000 <= sum(it.numel() for it in model.parameters()) <= 3_000_000
    size = (Path(assets.model()) / "model.safetensors").stat().st_size
    assert size < 4_000_000


def test_it_stops_by_itself(answers: dict[str, tuple[str, bool]]) -> None:
    assert sum(stopped for _, stopped in answers.values()) >= 0.97 * len(answers)


def test_it_answers_most_of_what_it_was_never_asked_in_that_way(
    answers: dict[str, tuple[str, bool]],
) -> None:
    test = SPLITS["instructions"].test
    right = sum(answers[form.prompt(it.instruction, it.input)][0] == it.output for it in test)
    assert right >= 0.8 * len(test)


def test_its_loss_on_the_test_rows_is_far_below_that_of_an_untrained_one(
    model: Any, own_tokenizer: Any
) -> None:
    import torch

    def loss(which: Any) -> float:
        examples = [training.encode(row, own_tokenizer) for row in SPLITS["instructions"].test]
        with torch.no_grad():
            return float(training.answer_loss(which, examples))

    untrained = loss(training.build(own_tokenizer))
    assert 5.5 < untrained < 9
    assert loss(model) < untrained / 6


def test_the_numbers_and_the_answers_in_the_readme_are_those_of_this_model(
    model: Any, own_tokenizer: Any, answers: dict[str, tuple[str, bool]]
) -> None:
    """Its last bits depend on the processor: an answer or two may differ there."""
    import torch

    told = (PROJECT / "labs" / "assets" / "README.md").read_text()
    test = SPLITS["instructions"].test
    right = sum(answers[form.prompt(it.instruction, it.input)][0] == it.output for it in test)
    said = re.search(r"(\d+) of (\d+) test rows word by word", told)
    assert said
    assert int(said[2]) == len(test)
    assert abs(int(said[1]) - right) <= 8
    with torch.no_grad():
        loss = float(
            training.answer_loss(model, [training.encode(it, own_tokenizer) for it in test])
        )
    said = re.search(r"loss of its answers is (\d\.\d+)", told)
    assert said
    assert abs(float(said[1]) - loss) < 0.05
    shown = re.findall(r"^\| (.+) \| `(.+)` \| (right|wrong) \|$", told, re.MULTILINE)
    assert len(shown) >= 8
    same = 0
    for question, answer, verdict in shown:
        instruction, _, given = question.replace("`", "").partition(" / ")
        prompt = form.prompt(instruction, given.replace("\\n", "\n"))
        row = next((it for it in test if form.prompt(it.instruction, it.input) == prompt), None)
        assert row is not None, question
        answer = answer.replace("\\n", "\n")
        assert (answer == row.output) == (verdict == "right")
        same += answers[prompt][0] == answer
    assert same >= len(shown) - 2


def test_the_example_of_the_readme_prints_what_it_says(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = (PROJECT / "labs" / "assets" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", told, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    said = re.search(r"print\(.*\)  # (.+)", code)
    assert said
    assert capsys.readouterr().out == f"{said[1]}\n"


# ---- finding them ---------------------------------------------------------------------------


def test_nothing_heavy_is_imported_to_find_them() -> None:
    code = "import sys; import labs.assets; print([it for it in ('torch', 'transformers', 'rich') "
    code += "if it in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert told.stdout == "[]\n", told.stderr


def test_variables_name_another_model_other_data_or_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model", "data/instructions", "data/json-answers", "tokenizer/pad"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("LAB_ASSETS", str(tmp_path))
    assert assets.model() == str(tmp_path / "model")
    assert assets.data() == assets.data("instructions") == str(tmp_path / "data/instructions")
    assert assets.tokenizer("pad") == str(tmp_path / "tokenizer/pad")
    monkeypatch.setenv("LAB_MODEL", "someone/a-model-of-the-hub")
    monkeypatch.setenv("LAB_DATA", "/my/data")
    assert assets.model() == "someone/a-model-of-the-hub"
    assert assets.data() == "/my/data"
    assert assets.data("json-answers") == str(tmp_path / "data/json-answers")


def test_what_was_not_made_yet_is_said_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_ASSETS", str(tmp_path))
    monkeypatch.delenv("LAB_MODEL", raising=False)
    for ask in (assets.model, assets.data, lambda: assets.tokenizer("pad"),
                lambda: assets.random_model("phi3")):  # fmt: skip
        with pytest.raises(assets.NotMade, match=r"There is no .*\nLikely.*\nType: python -m labs"):
            ask()


def test_a_name_that_is_none_is_said_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no data set `alpaca`. There are: instructions, json-"):
        assets.data("alpaca")
    with pytest.raises(ValueError, match="There are: pad, no-pad"):
        assets.tokenizer("eos")
    with pytest.raises(ValueError, match="There are: llama, mistral, qwen2, phi3"):
        assets.random_model("gpt2")


# ---- making them ----------------------------------------------------------------------------


def test_everybody_may_read_them(made: Path) -> None:
    for path in (made, *made.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_made_again_they_are_left_alone(made: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in made.rglob("*")}
    ended = run()
    assert (ended.returncode, ended.stdout) == (0, f"There already: {made.resolve()}\n")
    assert {file: file.stat().st_mtime_ns for file in made.rglob("*")} == before


def test_they_are_made_anew_when_code_or_a_library_changes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stamp.fits(made)
    told = json.loads((made / "made-from.json").read_text())
    for changed in ({"code": "other"}, {"libraries": told["libraries"] | {"torch": "1.0"}}):
        (tmp_path / "made-from.json").write_text(json.dumps(told | changed))
        assert not stamp.fits(tmp_path)
    (tmp_path / "made-from.json").write_text("{half")
    assert not stamp.fits(tmp_path)


def test_the_same_machine_makes_the_same_bytes_in_place_of_what_was_there(tmp_path: Path) -> None:
    """One pass of the training instead of all."""
    first, second = tmp_path / "first", tmp_path / "second"
    (second / "model").mkdir(parents=True)
    (second / "of an older version").touch()
    (tmp_path / "second.begun").mkdir()
    (tmp_path / "second.begun" / "half").touch()
    make_short(first)
    make_short(second)
    assert tree(first) == tree(second)
    assert len(tree(first)) > 30
    assert sorted(it.name for it in tmp_path.iterdir()) == ["first", "second"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_a_run_that_is_stopped_leaves_nothing_half(tmp_path: Path, how: signal.Signals) -> None:
    output = tmp_path / "assets"
    output.mkdir()
    (output / "of an older version").touch()
    process = subprocess.Popen(
        [*MODULE, "--output", str(output)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "step 3 " not in (line := process.stdout.readline()):
        assert line, "it ended before it trained"
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert [it.name for it in output.iterdir()] == ["of an older version"]
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert errors.strip().endswith("Interrupted. The next run goes on from here.")
        assert "Traceback" not in errors


def test_two_runs_at_once_wait_for_each_other(made: Path, tmp_path: Path) -> None:
    output = tmp_path / "assets"
    with (tmp_path / "assets.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        command = [*MODULE, "--output", str(output)]
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=3)
        output.symlink_to(made)  # the other one is done
    assert process.communicate(timeout=60)[0] == f"There already: {output}\n"


def test_where_they_are_there_nothing_is_written(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's file system is read-only."""
    from labs.assets import __main__ as command

    (tmp_path / "assets").symlink_to(made)
    command.make(tmp_path / "assets")
    assert [it.name for it in tmp_path.iterdir()] == ["assets"]


def test_a_full_disk_is_said_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from labs.assets import __main__ as command
    from labs.assets import making

    def full(output: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output))

    monkeypatch.setattr(making, "make", full)
    monkeypatch.setattr(command, "settle", lambda: None)
    assert command.main(["--output", str(tmp_path / "assets")]) == 3
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"{tmp_path}/assets could not be written: no space left."
    assert told[-1].startswith("Type: df -h")


def test_an_image_s_build_is_given_all_that_the_making_needs(tmp_path: Path) -> None:
    """What the Dockerfile binds, and nothing else of the project."""
    dockerfile = (PROJECT / "images" / "cpu" / "Dockerfile").read_text()
    stage = dockerfile.partition("FROM libraries AS assets\n")[2].partition("\nFROM ")[0]
    bound = re.findall(r"source=(\S+),target=/mnt/(\S+)", stage)
    assert len(bound) >= 5
    for source, target in bound:
        assert source == target
        place = tmp_path / target
        place.parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / source).is_dir():
            shutil.copytree(PROJECT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / source, place)
    code = f"import sys; sys.path = [it for it in sys.path if it != {str(PROJECT)!r}]; " + (
        "import labs.assets.making, labs.assets.__main__, verify; "
        "print(verify.__path__[0], labs.assets.__path__[0], len(labs.assets.rows.tables()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"{tmp_path}/verify {tmp_path}/labs/assets ")
