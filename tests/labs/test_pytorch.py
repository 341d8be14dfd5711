"""The PyTorch lab: listed mistakes are there, what is special to it, the lesson's numbers."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
from transformers.utils import logging

from labs import assets
from tests.labs.answers import failed
from tests.labs.answers.pytorch import RIGHT, _ends, _with
from verify.judging import Bench
from verify.labs import find_labs
from verify.plain import Raised
from verify.simulated_gpu import machine
from verify.tensors import plain
from verify.tiny import FAMILIES
from verify.trial import Failure, Trial

LABS = Path(__file__).parents[2] / "labs"
LAB = next(lab for lab in find_labs(LABS) if lab.skill == "pytorch")
BENCH = Bench(LAB)
SCENE, CHECKS = sys.modules["scene"], sys.modules["checks"]  # this lab's, as loaded just now
BY_NAME = {check.name: check for check in BENCH.checks}
NAMED = {wrong.name: wrong for wrong in BENCH.misconceptions}
LESSON = (LAB.folder / "README.md").read_text("utf-8")
SEEDS = range(8)

LISTED = {
    "always CUDA": ("always_cuda", "built_is_not_available", "gpu_taken_for_granted"),
    "always CPU": ("always_cpu", "left_on_the_cpu"),
    "fp32": ("float32_asked", "checkpoints_own_dtype"),
    "fp16": ("float16_asked",),
    "from_config": ("freshly_initialised",),
    "left in train mode": ("left_in_train_mode",),
    "sampling": ("sampled", "temperature_zero"),
    "echo": ("prompt_echoed",),
    "special tokens kept": ("special_tokens_kept",),
    "slicing by characters": ("sliced_by_characters", "prompt_replaced"),
    "fixed length": ("fixed_length", "length_not_passed"),
    "grad left on": ("gradients_left_on",),
    "another end token": ("tokenizers_end_token", "first_end_token_only", "end_ignored"),
    "inputs on another device": (
        "inputs_left_on_the_cpu",
        "inputs_always_on_the_gpu",
        "cpu_inputs_handed_over",
        "gpu_inputs_handed_over",
    ),
}


@pytest.fixture(autouse=True)
def quiet():
    logging.disable_progress_bar()


@pytest.mark.parametrize("phrase", LISTED)
def test_every_listed_mistake_is_a_misconception(phrase):
    for name in LISTED[phrase]:
        wrong = NAMED[name]
        found = failed(BENCH, 3, **{wrong.function: wrong.run})
        assert found, name
        assert name in {verdict.misconception for verdict in found.values()}


def test_what_is_a_probe_and_what_only_advises():
    probes = {check.name for check in BENCH.checks if check.evidence == "probe"}
    assert probes == {
        "loaded_on_the_device",
        "loaded_on_this_gpu",
        "inputs_copied_once",
        "no_graph_is_kept",
    }
    advice = {check.name for check in BENCH.checks if check.level == "advice"}
    assert advice == {
        "rotary_frequencies_kept",
        "inputs_copied_once",
        "no_graph_is_kept",
    }
    assert [check.name for check in BENCH.checks if check.gpu] == ["loaded_on_this_gpu"]


@pytest.mark.parametrize(
    "setting",
    [
        {"num_beams": 2},
        {"num_beams": 5},
        {"repetition_penalty": 1.1},
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 3},
    ],
)
def test_whatever_changes_the_choice_a_little_fails_on_every_seed(setting):
    for seed in SEEDS:
        found = failed(BENCH, seed, generate=_with(**setting))
        assert "check" in {BY_NAME[name].level for name in found}
        told = {verdict.misconception for verdict in found.values()}
        assert told <= {None, "not_always_the_likeliest"}


def test_a_loop_that_makes_its_tokens_on_the_cpu_is_told_so():
    def loop(model, tokenizer, prompt, max_new_tokens=50):
        tokens = tokenizer(prompt)["input_ids"]
        start = len(tokens)
        with torch.no_grad():
            ends = _ends(model)
            while len(tokens) < start + max_new_tokens and tokens[-1] not in ends:
                logits = model(torch.tensor([tokens]).to(model.device)).logits
                tokens.append(int(logits[0, -1].argmax()))
        return tokenizer.decode(tokens[start:], skip_special_tokens=True)

    found = failed(BENCH, 2, generate=loop)
    assert list(found) == ["inputs_copied_once"]
    assert "a loop makes each new token there" in found["inputs_copied_once"].hint


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("cast_after_loading", "rotary_frequencies_kept"),
        ("cpu_inputs_handed_over", "inputs_copied_once"),
        ("gpu_inputs_handed_over", "inputs_copied_once"),
        ("gradients_left_on", "no_graph_is_kept"),
    ],
)
def test_what_works_and_will_bite_gets_an_advice_and_nothing_worse(name, check):
    wrong = NAMED[name]
    for seed in SEEDS:
        assert list(failed(BENCH, seed, **{wrong.function: wrong.run})) == [check]


# --- loading ---------------------------------------------------------------------------------


def asked_once():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return lambda: device


def test_a_device_that_was_asked_for_when_the_file_was_read_is_told_so():
    with machine(gpu=False):
        pick = asked_once()
    verdict = failed(BENCH, 1, pick_device=pick)["device_of_the_machine"]
    assert verdict.misconception == "always_cpu"
    assert "when the file was read" in verdict.hint


def test_a_wrong_pick_device_shows_in_load_too_and_is_named():
    def load(path):
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
        return model.to("cpu"), AutoTokenizer.from_pretrained(path)  # what `pick_device` said

    verdict = failed(BENCH, 1, load=load)["loaded_on_the_device"]
    assert verdict.misconception == "left_on_the_cpu"
    assert "`pick_device`" in verdict.hint


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_checkpoint_is_one_that_the_library_reads(family, dtype):
    for pad in (False, True):
        with SCENE.checkpoint(family, 5, dtype, pad) as path:
            model = AutoModelForCausalLM.from_pretrained(path)
            tokenizer = AutoTokenizer.from_pretrained(path)
        assert model.dtype == getattr(torch, dtype)
        vocabulary = SCENE.byte_vocabulary(5)
        text = "a Warsaw, naïve?"
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text.encode())
        assert [vocabulary[letter] for letter in "aĠWa"] == ids[:4]
        assert tokenizer.decode(ids) == text
        assert not pad or tokenizer.pad_token is not None
        spec = {"family": family, "seed": 5, "dtype": dtype, "pad": pad}
        true = dict(CHECKS._rounded(spec).named_parameters())
        for name, weight in model.named_parameters():
            assert torch.equal(weight.bfloat16().float(), true[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mode_the_weights_and_the_frequencies_of_a_checkpoint_show(family):
    """What the tolerance lies between: rounding on one side, each mistake on the other."""
    spec = {"family": family, "seed": 11, "dtype": "float32", "pad": False}
    ids = torch.tensor([[5, 80, 200, 31, 7]])
    far = torch.tensor([[0, 900, 7000, 31000, 59000]])
    near = torch.zeros_like(ids)
    true = {"near": SCENE.logits_of(CHECKS._rounded(spec), ids, near)}
    true["far"] = SCENE.logits_of(CHECKS._rounded(spec), ids, far)

    def off(model, positions, which):
        logits = SCENE.logits_of(model, ids, positions)
        return float((logits - true[which]).abs().max() / true[which].abs().max())

    exact = SCENE.checkpoint_model(family, 11)
    assert off(exact, near, "near") < CHECKS.SEEN / 2
    assert off(exact.train(), near, "near") > 3 * CHECKS.SEEN
    assert off(CHECKS._rounded(spec).bfloat16().float(), near, "near") < 1e-4
    assert off(CHECKS._rounded(spec).bfloat16().float(), far, "far") > 2 * CHECKS.SEEN


def test_dropout_in_training_mode_is_no_matter_of_luck():
    ids = torch.tensor([[5, 80, 200]])
    model = SCENE.checkpoint_model("qwen2", 3).train()
    once, again = (SCENE.logits_of(model, ids, torch.zeros_like(ids)) for _ in range(2))
    assert torch.equal(once, again)


# --- generation ------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.01, 0.1])
@pytest.mark.parametrize("seed_of_its_own", [None, 0, 1])
def test_a_low_temperature_and_a_fixed_seed_do_not_hide_that_tokens_are_drawn(
    temperature, seed_of_its_own
):
    sampled = _with(do_sample=True, temperature=temperature)

    def generate(*given, **more):
        if seed_of_its_own is not None:
            torch.manual_seed(seed_of_its_own)
        return sampled(*given, **more)

    for seed in SEEDS:
        found = failed(BENCH, seed, generate=generate)
        assert list(found) == ["continues_greedily"]
        assert found["continues_greedily"].misconception == "sampled"


def test_a_seed_that_changes_nothing_does_no_harm():
    def generate(*given, **more):
        torch.manual_seed(0)
        return RIGHT["generate"][0](*given, **more)

    assert not failed(BENCH, 1, generate=generate)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_end_tokens_are_each_said_early_and_whoever_misses_one_says_more(seed):
    setup, truth = drawn(
        "stops_at_every_end_token",
        seed,
        CHECKS._longer_prompts,
        turn=True,
        accept=CHECKS._endings_matter,
    )
    model, tokenizer = (
        SCENE.speaker(**setup["model"]),
        SCENE.word_tokenizer(**setup["tokenizer"]),
    )
    turn, end = model.generation_config.eos_token_id
    assert tokenizer.convert_ids_to_tokens([turn, end]) == [SCENE.TURN, "</s>"]
    assert end == tokenizer.eos_token_id == model.config.eos_token_id
    for call, true, last in zip(setup["calls"], truth, (turn, end), strict=True):
        ids = tokenizer(call["prompt"], return_tensors="pt").input_ids
        limit = call["max_new_tokens"]
        both = model.generate(ids, max_new_tokens=limit, do_sample=False)[0, ids.shape[1] :]
        assert both[-1] == last
        assert len(both) < limit
        other = end if last == turn else turn
        more = model.generate(ids, max_new_tokens=limit, do_sample=False, eos_token_id=other)
        told = tokenizer.decode(more[0, ids.shape[1] :], skip_special_tokens=True)
        assert told.startswith(true)
        assert told != true


def test_a_pipeline_that_moves_the_model_is_told_so():
    def piped(model, tokenizer, prompt, max_new_tokens=50):
        chain = pipeline("text-generation", model=model, tokenizer=tokenizer)
        told = chain(prompt, max_new_tokens=max_new_tokens, do_sample=False, return_full_text=False)
        return told[0]["generated_text"]

    found = failed(BENCH, 2, generate=piped)
    assert list(found) == ["inputs_copied_once"]
    assert "device=model.device" in found["inputs_copied_once"].hint


def drawn(check, seed, prompts, **how):
    return CHECKS._setup(Trial(SimpleNamespace(), seed, BY_NAME[check]), prompts, **how)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_truth_is_what_the_library_says(seed):
    for ends in (False, True):
        prompts = CHECKS._awkward_prompts if ends else CHECKS._plain_prompts
        setup, truth = drawn("only_the_new_text", seed, prompts, begin=ends, ends=ends)
        model = SCENE.speaker(**setup["model"])
        tokenizer = SCENE.word_tokenizer(**setup["tokenizer"])
        for call, true in zip(setup["calls"], truth, strict=True):
            given = {key: value for key, value in call.items() if key != "prompt"}
            for way in (BENCH.solution["generate"], *RIGHT["generate"]):
                assert way(model, tokenizer, call["prompt"], **given).strip() == true


@pytest.mark.parametrize("seed", SEEDS)
def test_prompts_are_awkward_and_one_is_not_and_the_end_token_comes_early_in_one(seed):
    for begin in (False, True):
        setup, truth = drawn(
            "only_the_new_text", seed, CHECKS._awkward_prompts, begin=begin, ends=True
        )
        tokenizer = SCENE.word_tokenizer(**setup["tokenizer"])
        back = [
            tokenizer.decode(tokenizer(call["prompt"])["input_ids"], skip_special_tokens=True)
            for call in setup["calls"]
        ]
        same = [a == call["prompt"] for a, call in zip(back, setup["calls"], strict=True)]
        assert sum(same) == 1
        assert all(call["max_new_tokens"] > 3 for call in setup["calls"])
        lengths = [len(text.split()) for text in truth]
        assert 2 <= lengths[0] < setup["calls"][0]["max_new_tokens"]
        assert any(
            length == call["max_new_tokens"]
            for length, call in zip(lengths, setup["calls"], strict=True)
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_lengths_are_told_apart_and_the_longest_text_repeats_itself(seed):
    setup, truth = drawn(
        "as_long_as_asked", seed, CHECKS._one_prompt_many_lengths, accept=CHECKS._repeats
    )
    asked = [call.get("max_new_tokens", 50) for call in setup["calls"]]
    assert [len(text.split()) for text in truth] == asked
    assert len(set(asked)) == 3
    assert CHECKS._repeats(setup, truth)


def test_a_setup_is_the_same_whether_it_is_remembered_or_made_anew():
    def twice():
        trial = Trial(SimpleNamespace(), 4, BY_NAME["continues_greedily"])
        made = CHECKS._setup(trial, CHECKS._plain_prompts)
        return made, trial.random.random()

    first = twice()
    assert twice() == first
    CHECKS._MADE.clear()
    assert twice() == first
    first[0][0]["calls"].clear()  # what a check does with its own does not reach the next
    assert twice()[0][0]["calls"]


def test_the_pages_own_answer_fails_for_what_it_leaves_open():
    def printed(model, tokenizer, prompt, max_new_tokens=50):
        inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
        outputs = model.generate(**inputs, max_new_tokens=max_new_tokens)
        return tokenizer.decode(outputs[0])

    for seed in SEEDS:
        found = failed(BENCH, seed, generate=printed)
        assert list(found) == ["continues_greedily"]
        assert found["continues_greedily"].misconception == "sampled"


def test_a_message_never_holds_the_continuation():
    check = BY_NAME["continues_greedily"]
    for seed in SEEDS:
        trial = Trial(BENCH.rehearse(), seed, check)
        check.run(trial)
        (seen,) = trial.observations
        message = failed(BENCH, seed, generate=lambda *_a, **_k: "quux")[check.name].message
        assert "'quux'" in message
        assert not any(text in message for text in seen["texts"])


def test_no_scene_leaves_anything_behind():
    def state():
        return (
            torch.is_grad_enabled(),
            torch.cuda.is_available(),
            torch.get_default_device(),
            torch._C._len_torch_function_stack(),
        )

    before = state()
    failed(BENCH, 0, load=lambda path: torch.set_default_device("cpu"))
    failed(BENCH, 0, pick_device=lambda: 1 / 0)
    failed(BENCH, 0, generate=lambda *_: torch.ones(1).cuda())
    assert state() == before


# --- the check that needs a GPU --------------------------------------------------------------


class Reading:
    """A learner that only has a reading to give: what the solution gives on a CPU, changed."""

    def __init__(self, change):
        self.change = change

    def observe(self, scene, inputs, seed, seconds):
        assert scene == "on_this_gpu"
        given = {name: value for name, value in inputs.items() if name == "checkpoint_of"}
        trusted = CHECKS._rounded(given["checkpoint_of"])
        ids = torch.frombuffer(bytearray(inputs["ids"].data), dtype=torch.int64)[None]
        logits = SCENE.logits_of(trusted, ids, torch.zeros_like(ids))
        return self.change({"places": ["cuda"], "logits": plain(logits.bfloat16())})


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        (lambda told: told, True),
        (lambda told: {**told, "places": ["cpu"]}, False),
        (lambda told: {**told, "places": ["cpu", "cuda"]}, False),
        (lambda told: {**told, "logits": None}, False),
        (lambda told: {**told, "logits": plain(torch.zeros(1, 5, 259))}, False),
        (lambda told: {"returned": "model"}, False),
        (lambda told: Raised("ValueError", "no", None), False),
    ],
)
def test_the_gpu_check_compares_place_and_logits(change, passes):
    check = BY_NAME["loaded_on_this_gpu"]
    trial = Trial(Reading(change), 0, check)
    if passes:
        check.run(trial)
    else:
        with pytest.raises(Failure):
            check.run(trial)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_the_solution_loads_there():
    for seed in SEEDS:
        verdict = BENCH.judge(BY_NAME["loaded_on_this_gpu"], BENCH.rehearse(), seed)
        assert verdict.status == "passed", verdict


# --- the lesson ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    blocks = re.findall(r"^```python\n(.*?)^```", LESSON, re.MULTILINE | re.DOTALL)
    names: dict = {"__name__": "lesson"}
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec("\n".join(blocks), names)
    return SimpleNamespace(**names, told=told.getvalue())


def test_the_lessons_examples_show_what_it_says(lesson):
    assert lesson.model.dtype == torch.bfloat16
    assert "training=True: the same input twice gives the same: False" in lesson.told
    assert "training=False: the same input twice gives the same: True" in lesson.told
    assert "plain call:      a graph is kept: True" in lesson.told
    assert "inference_mode:  a graph is kept: False" in lesson.told
    assert lesson.rounded.dtype == torch.float32
    assert lesson.turned > 0.5
    assert len(set(lesson.sampled)) > 1
    assert len(set(lesson.greedy)) == 1
    assert lesson.by_tokens.endswith(lesson.by_characters)
    assert lesson.by_tokens != lesson.by_characters
    assert "at most 1: 1 new tokens" in lesson.told


def test_the_trained_model_answers_in_its_template_and_not_without(lesson):
    bare, templated = re.findall(r"(?:question:|template:) +'(.*)'", lesson.told)
    assert templated == "cold</s>"
    assert bare != templated


def test_the_lessons_numbers_are_computed():
    for dtype, largest, digits, size in (
        ("float32", "3.4e38", 24, 4),
        ("float16", "65,504", 11, 2),
        ("bfloat16", "3.4e38", 8, 2),
    ):
        kind = getattr(torch, dtype)
        limits = torch.finfo(kind)
        assert limits.bits == 8 * size
        assert limits.eps == 2.0 ** (1 - digits)
        assert limits.max == pytest.approx(float(largest.replace(",", "")), rel=0.01)
        row = f"| `torch.{dtype}` | {size} | {largest} | {digits} | {1.1 * size:.1f} GB |"
        assert row in LESSON
    for fact in ("`dtype=`", "torch_dtype=", "128 GB", "120 GiB", "12.1", "`do_sample=False`"):
        assert fact in LESSON


def test_from_pretrained_is_as_the_lesson_says():
    model = AutoModelForCausalLM.from_pretrained(assets.model())
    assert model.dtype == torch.bfloat16  # as it is stored
    assert not model.training
    assert AutoModelForCausalLM.from_config(model.config).training
    new = model.generate(torch.tensor([[5, 6, 7]]), do_sample=False, eos_token_id=-1)
    assert new.shape[1] == 3 + 20
