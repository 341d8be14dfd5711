"""The Hugging Face lab: listed mistakes are there, draws tell them apart, the lesson holds."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import datasets
import pytest
import torch
from datasets import load_dataset
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    default_data_collator,
)

from labs import assets
from tests.labs.answers import failed
from verify.judging import Bench
from verify.labs import find_labs
from verify.trial import Failure, Trial

LABS = Path(__file__).parents[2] / "labs"
LAB = next(lab for lab in find_labs(LABS) if lab.skill == "huggingface")
BENCH = Bench(LAB)
CHECKS = {check.name: check for check in BENCH.checks}
NAMED = {wrong.name: wrong for wrong in BENCH.misconceptions}
LESSON = (LAB.folder / "README.md").read_text("utf-8")
SEEDS = range(40)

LISTED = {
    "whole split": ("whole_split",),
    "wrong end": ("last_rows",),
    "a DatasetDict returned": ("dataset_dict_returned",),
    "shuffled": ("rows_mixed",),
    "no pad token": ("no_pad_token",),
    "pad token overwritten": ("pad_token_overwritten", "pad_id_0_taken_for_none"),
    "no truncation": ("no_truncation", "neither_cut_nor_padded"),
    "no padding": ("no_padding", "padded_to_the_longest", "neither_cut_nor_padded"),
    "text columns left in": ("text_columns_left_in", "only_text_removed", "mapped_in_vain"),
    "wrong column": ("output_tokenized", "instruction_tokenized"),
    "masked-LM collator": ("masked_language_modeling",),
    "padding learned": ("padding_learned", "padding_labelled_0"),
    "labels shifted by hand": (
        "labels_shifted",
        "labels_shifted_under_the_mask",
        "labels_rolled",
        "inputs_and_labels_cut",
    ),
    "padding on another side than the tokenizer's": ("padded_on_the_left", "padded_on_the_right"),
    "the caller's tokenizer changed": ("limit_set_on_the_tokenizer",),
}


@pytest.mark.parametrize("phrase", LISTED)
def test_every_listed_mistake_is_a_misconception(phrase):
    for name in LISTED[phrase]:
        wrong = NAMED[name]
        found = failed(BENCH, 3, **{wrong.function: wrong.run})
        assert {verdict.misconception for verdict in found.values()} == {name}


# --- one hint for what looks the same -------------------------------------------------------------


def shuffled_by_lot(path, n):
    return load_dataset(path, split="train").shuffle().select(range(n))


def shuffled_by_a_split(path, n):
    return load_dataset(path, split="train").train_test_split(train_size=n)["train"]


def backwards(path, n):
    return load_dataset(path, split="train").select(range(n - 1, -1, -1))


def data_of_the_source_page(path, n):
    return load_dataset("some-body/else-where", split="train[:1000]")


def tokenizer_of_the_source_page(path):
    return AutoTokenizer.from_pretrained("gpt2-of-nobody")


def named_but_not_there(path):
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.pad_token = tokenizer.pad_token or "[PAD]"
    return tokenizer


def every_pad_token_new(path):
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    return tokenizer


def padded_one_by_one(dataset, tokenizer, max_length):
    return dataset.map(
        lambda row: tokenizer(row["text"], truncation=True, padding=True, max_length=max_length),
        remove_columns=dataset.column_names,
    )


def only_max_length(dataset, tokenizer, max_length):
    return dataset.map(
        lambda rows: tokenizer(rows["text"], max_length=max_length),
        batched=True,
        remove_columns=dataset.column_names,
    )


def side_set_first(side):
    def tokenize(dataset, tokenizer, max_length):
        tokenizer.padding_side = side
        return dataset.map(
            lambda rows: tokenizer(
                rows["text"], truncation=True, padding="max_length", max_length=max_length
            ),
            batched=True,
            remove_columns=dataset.column_names,
        )

    return tokenize


def same_memory(tokenizer):
    def collate(rows):
        batch = default_data_collator(rows)
        batch["labels"] = batch["input_ids"]
        batch["labels"][batch["attention_mask"] == 0] = -100
        return batch

    return collate


@pytest.mark.parametrize(
    ("function", "way", "name"),
    [
        ("load_examples", shuffled_by_lot, "rows_mixed"),
        ("load_examples", shuffled_by_a_split, "rows_mixed"),
        ("load_examples", backwards, "rows_mixed"),
        ("load_examples", data_of_the_source_page, "hub_name_left_in"),
        ("prepare_tokenizer", tokenizer_of_the_source_page, "another_models_tokenizer"),
        ("prepare_tokenizer", named_but_not_there, "unknown_as_pad"),
        ("prepare_tokenizer", every_pad_token_new, "new_pad_token"),
        ("tokenize", padded_one_by_one, "no_padding"),
        ("tokenize", only_max_length, "no_padding"),
        ("tokenize", side_set_first("left"), "padded_on_the_left"),
        ("tokenize", side_set_first("right"), "padded_on_the_right"),
        ("make_collator", DataCollatorForSeq2Seq, "labels_missing"),
        ("make_collator", lambda _: default_data_collator, "labels_missing"),
        ("make_collator", same_memory, "labels_share_the_inputs_memory"),
    ],
)
def test_what_cannot_be_told_apart_is_told_the_same(function, way, name):
    for seed in range(3):
        verdicts = failed(BENCH, seed, **{function: way})
        assert {verdict.misconception for verdict in verdicts.values()} == {name}


# --- what is drawn --------------------------------------------------------------------------------


class Recorder:
    """A learner that is asked once and does not answer."""

    def observe(self, scene, inputs, seed, seconds):
        self.inputs = inputs
        raise Failure("no answer")


def drawn(check, seed):
    recorder = Recorder()
    with pytest.raises(Failure):
        CHECKS[check].run(Trial(recorder, seed, CHECKS[check]))
    return recorder.inputs


def test_folders_come_in_every_form_and_are_never_too_small():
    forms = set()
    for seed in SEEDS:
        whole, shards = drawn("first_rows_of_the_train_split", seed)["folders"]
        for folder in (whole, shards):
            train = [rows for name, rows in folder["files"].items() if "train" in name]
            assert folder["n"] + 4 < sum(map(len, train))
            assert (len(train) == 1) == (folder is whole)
            forms |= {(Path(name).suffix, "/" in name, len(train)) for name in folder["files"]}
        assert shards["n"] > max(len(rows) for name, rows in shards["files"].items())
    assert {form[:2] for form in forms} == {
        (suffix, below) for suffix in (".jsonl", ".csv", ".parquet") for below in (False, True)
    }
    assert {form[2] for form in forms} == {1, 2, 3}


def test_texts_are_longer_shorter_and_as_long_as_a_row():
    for seed in SEEDS:
        mixed, short, left = drawn("every_row_of_max_length", seed)["cases"]
        assert [case["tokenizer"]["side"] for case in (mixed, short, left)] == [
            "right",
            "right",
            "left",
        ]
        for case in (mixed, left):
            told, most = case["tokenizer"], case["max_length"]
            counts = [len(text.split()) + told["adds_bos"] for text in case["columns"]["text"]]
            assert told["adds_bos"]
            assert min(counts) < most < max(counts)
            assert most in counts
            assert most < told["longest"]
        told, most = short["tokenizer"], short["max_length"]
        texts = short["columns"]["text"]
        assert max(len(text.split()) for text in texts) < most
        assert told["pad"] == told["eos"]
        assert {text.endswith(told["eos"]) for text in texts} == {True, False}


def ends_of(case):
    """Return which rows hold a real eos, and where the pad token is eos."""
    told = case["tokenizer"]
    end = told["vocabulary"].index(told["eos"])
    real = [
        any(one == end and kept for one, kept in zip(*row.values(), strict=True))
        for row in case["rows"]
    ]
    return real, told["pad"] == told["eos"]


def test_both_collators_are_right_where_they_must_be():
    """A real end is in the rows of the first check only where the pad token is another one."""
    for seed in SEEDS:
        for case in drawn("labels_are_the_inputs_but_for_padding", seed)["cases"]:
            real, alike = ends_of(case)
            assert any(real) != alike
            assert any(all(row["attention_mask"]) for row in case["rows"])
            assert not all(all(row["attention_mask"]) for row in case["rows"])
        (case,) = drawn("a_real_end_has_a_label", seed)["cases"]
        real, alike = ends_of(case)
        assert sum(real) == 3
        assert alike


def test_pad_tokens_are_none_at_0_and_elsewhere():
    for seed in SEEDS:
        bare = drawn("pad_is_eos_where_there_is_none", seed)["tokenizers"]
        assert all(told["pad"] is None for told in bare)
        assert all(told["vocabulary"][0].isalpha() for told in bare)
        own = drawn("own_pad_token_is_left_alone", seed)["tokenizers"]
        places = [told["vocabulary"].index(told["pad"]) for told in own]
        assert sorted(map(bool, places)) == [False, True]


# --- how it is judged -----------------------------------------------------------------------------


def test_the_librarys_collator_passes_and_is_advised():
    found = failed(BENCH, 5, make_collator=lambda t: DataCollatorForLanguageModeling(t, mlm=False))
    assert list(found) == ["a_real_end_has_a_label"]
    verdict = found["a_real_end_has_a_label"]
    assert "3 rows end in a real eos, and 0 of these have a label" in verdict.message
    assert verdict.misconception == "end_hidden_with_the_padding"
    assert [name for name, check in CHECKS.items() if check.level == "advice"] == list(found)


def test_everything_rests_on_values():
    assert {check.evidence for check in BENCH.checks} == {"value"}


def test_a_cache_that_cannot_be_written_does_not_matter(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("/proc/nowhere"))
    with pytest.raises(OSError, match="/proc/nowhere"):
        load_dataset(assets.data())
    for check in BENCH.checks:
        assert BENCH.judge(check, BENCH.rehearse(), 7).status == "passed"


def test_a_scene_is_silent_and_leaves_nothing_behind(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    datasets.enable_progress_bars()
    for check in BENCH.checks:
        BENCH.judge(check, BENCH.rehearse(), 8)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_messages_show_what_came_back_and_never_what_should_have():
    folder = drawn("first_rows_of_the_train_split", 2)["folders"][0]
    first, *_, last = next(rows for name, rows in folder["files"].items() if "train" in name)
    found = failed(BENCH, 2, load_examples=lambda path, n: load_dataset(path, split="train[-1:]"))
    message = found["first_rows_of_the_train_split"].message
    assert f"1 row came back, the first with the text {last['text'][:40]!r}"[:-1] in message
    assert first["text"] not in message

    found = failed(BENCH, 2, make_collator=NAMED["padding_learned"].run)
    (verdict,) = found.values()
    shown = re.search(r"came back: \[(.+?), …, (.+?)\]", verdict.message)
    assert "-100" not in shown[1] + shown[2]
    found = failed(BENCH, 2, tokenize=NAMED["no_truncation"].run)
    (verdict,) = found.values()
    most = drawn("every_row_of_max_length", 2)["cases"][0]["max_length"]
    assert int(re.search(r"\((\d+) items\)", verdict.message)[1]) > most


def test_a_setting_that_was_changed_is_named():
    found = failed(BENCH, 2, tokenize=NAMED["limit_set_on_the_tokenizer"].run)
    (verdict,) = found.values()
    assert re.search(r"model_max_length was \d+ and is \d+ afterwards\.", verdict.message)


def test_a_raised_error_shows_no_path_of_the_machine():
    found = failed(BENCH, 4, load_examples=NAMED["file_named"].run)
    message = found["first_rows_of_the_train_split"].message
    assert "'…/" in message
    assert "/tmp" not in message


# --- the lesson -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    blocks = re.findall(r"^```python\n(.*?)^```", LESSON, re.MULTILINE | re.DOTALL)
    names: dict = {"__name__": "lesson"}
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec("\n".join(blocks), names)
    return names, told.getvalue()


def test_the_lessons_models_learn_by_heart_and_only_one_stops(lesson):
    names, told = lesson
    assert names["stopped"] == {"id": False, "mask": True}
    assert [float(loss) < 0.5 for loss in re.findall(r"loss (\d\.\d\d)", told)] == [True, True]
    assert re.findall(r"labels (\d) times", told) == ["0", "8"]


def test_the_lessons_numbers_are_computed(lesson):
    names, told = lesson
    assert names["shares"][512] > 0.9
    assert "more than nine tenths" in LESSON
    assert f"are {8 * 512 * 128_256 * 4 / 1e9:.1f} GB in float32" in LESSON
    for comment, printed in (("False", "ends by itself: False"), ("True", "ends when told: True")):
        assert f"# {comment}\n" in LESSON
        assert f"{printed}\n" in told
    assert "Dataset dict\n" in told
    assert f"does not have: {None}\n" in told


def quoted(symptom):
    """Tell whether the lesson's table of symptoms names this part of an error's text."""
    table = LESSON.split("## What commonly goes wrong")[1].split("Now open")[0]
    return symptom in table


def test_the_lessons_symptoms_are_what_the_libraries_say():
    every = load_dataset(assets.data())
    rows = every["train"].select(range(3))
    tokenizer = AutoTokenizer.from_pretrained(assets.tokenizer("pad"))
    bare = AutoTokenizer.from_pretrained(assets.tokenizer("no-pad"))
    padded = rows.map(lambda row: tokenizer(row["text"], padding="max_length", max_length=40))
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    table = torch.nn.Embedding(3, 3)
    symptoms = {
        "'DatasetDict' object has no attribute 'select'": lambda: every.select([0]),
        "'dict' object has no attribute 'map'": lambda: rows[:2].map(len),
        "Asking to pad but the tokenizer does not have a padding token": (
            lambda: bare(["one", "one two"], padding=True)
        ),
        "Unable to create tensor": lambda: collate(list(padded)),
        "excessive nesting": lambda: collate(list(padded)),
        "expected sequence of length 17 at dim 1 (got 16)": (
            lambda: torch.tensor([[0] * 17, [0] * 16])
        ),
        "index out of range in self": lambda: table(torch.tensor([-100])),
        "This tokenizer does not have a mask token": (
            lambda: DataCollatorForLanguageModeling(tokenizer)
        ),
    }
    for symptom, act in symptoms.items():
        assert quoted(symptom)
        with pytest.raises((AttributeError, ValueError, IndexError), match=re.escape(symptom)):
            act()
    with pytest.raises(KeyError):
        every[0]
