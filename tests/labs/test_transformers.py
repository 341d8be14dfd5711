"""The transformers lab: listed mistakes are there, what is special to it, the lesson's numbers."""

from __future__ import annotations

import contextlib
import io
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn

from labs import assets
from tests.labs.answers import failed
from verify.compare import RTOL
from verify.judging import Bench
from verify.labs import find_labs
from verify.tiny import FAMILIES, tiny_model
from verify.trial import Trial

LABS = Path(__file__).parents[2] / "labs"
LAB = next(lab for lab in find_labs(LABS) if lab.skill == "transformers")
BENCH = Bench(LAB)
SCENE, CHECKS = sys.modules["scene"], sys.modules["checks"]  # this lab's, as loaded just now
NAMED = {wrong.name: wrong for wrong in BENCH.misconceptions}
BY_NAME = {check.name: check for check in BENCH.checks}
LESSON = (LAB.folder / "README.md").read_text("utf-8")

LISTED = {
    "no mask": ("no_mask",),
    "mask off by one": (
        "next_token_seen",
        "token_hidden_from_itself",
        "itself_hidden_by_a_large_number",
    ),
    "no scale": ("no_scale",),
    "scale by model width": ("scaled_by_model_width",),
    "softmax over queries": ("softmax_over_queries",),
    "wrong repeat order for grouped heads": ("kv_heads_tiled",),
    "output projection missing": ("output_projection_left_out",),
    "output projection transposed": ("output_projection_transposed",),
    "post-norm": ("post_norm",),
    "no residual": ("no_residuals", "attention_not_added", "mlp_not_added"),
    "second residual from the input": ("second_residual_from_the_input",),
    "final norm missed": ("final_norm_missed",),
    "fixed depth": ("depth_of_the_example", "depth_of_a_7b", "first_layer_only"),
    "norms listed as projections": ("every_child_of_the_block",),
    "queries' weight transposed": ("queries_weight_transposed",),
    "heads by view alone": ("heads_split_without_transpose", "heads_viewed_in_and_out"),
    "MLP layers listed as attention": ("mlp_as_attention", "mlp_layers_too", "every_linear_layer"),
}


@pytest.mark.parametrize("phrase", LISTED)
def test_every_listed_mistake_is_a_misconception(phrase):
    for name in LISTED[phrase]:
        wrong = NAMED[name]
        found = failed(BENCH, 3, **{wrong.function: wrong.run})
        assert found, name
        assert {verdict.misconception for verdict in found.values()} == {name}


def test_two_ways_to_one_mistake_share_a_hint_that_names_both():
    def heads_of(x, *weights_and_counts):
        for w, heads in weights_and_counts:
            yield (x @ w.T).unflatten(-1, (heads, -1)).transpose(1, 2)

    def sdpa(scale=False, **how):
        def attention(x, wq, wk, wv, wo, num_heads, num_kv_heads):
            q, k, v = heads_of(x, (wq, num_heads), (wk, num_kv_heads), (wv, num_kv_heads))
            q = q / q.shape[-1] ** 0.5 if scale else q
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, **how)
            return y.transpose(1, 2).flatten(2) @ wo.T

        return attention

    def multiplied_by_the_mask(x, wq, wk, wv, wo, num_heads, num_kv_heads):
        q, k, v = heads_of(x, (wq, num_heads), (wk, num_kv_heads), (wv, num_kv_heads))
        k, v = (it.repeat_interleave(num_heads // num_kv_heads, 1) for it in (k, v))
        shares = ((q @ k.mT) / q.shape[-1] ** 0.5).tril().softmax(-1)
        return (shares @ v).transpose(1, 2).flatten(2) @ wo.T

    def linear_layers_it_knows(model):
        known = {"q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj"}
        return known & {name.split(".")[-1] for name, _ in model.named_modules()}

    for function, way, name, word in (
        ("causal_attention", sdpa(enable_gqa=True, scale=True), "scaled_without_a_root", "twice"),
        ("causal_attention", sdpa(), "kv_heads_not_repeated", "torch cannot match them"),
        ("causal_attention", multiplied_by_the_mask, "zero_before_the_softmax", "multiplied"),
        ("attention_projections", linear_layers_it_knows, "known_names_only", "by heart"),
    ):
        found = failed(BENCH, 5, **{function: way})
        assert {verdict.misconception for verdict in found.values()} == {name}
        assert word in NAMED[name].hint


# --- what the names are ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("inside", [[], ["module"], ["base_model", "policy"]])
def test_the_truth_is_what_the_models_classes_say(family, inside):
    told = {"family": family, "seed": 1, "depth": 5, "heads": 4, "kv_heads": 2, "inside": inside}
    model = SCENE._model(told)
    for kind, end in (("attention", "Attention"), ("mlp", "MLP"), ("norm", "RMSNorm")):
        said = [name for name, it in model.named_modules() if type(it).__name__.endswith(end)]
        assert sorted(CHECKS._true_names(told, kind)) == sorted(said)
        assert all(model.get_submodule(name) is not None for name in said)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_projections_are_all_linear_layers_of_the_attention(family):
    block = tiny_model(family, 0).model.layers[0].self_attn
    linear = {name for name, it in block.named_modules() if isinstance(it, nn.Linear)}
    assert linear == set(CHECKS.FUSED if family == "phi3" else CHECKS.SEPARATE)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_with_other_names_or_in_a_wrapper_still_computes_the_same(family):
    told = {"family": family, "seed": 3, "depth": 2, "heads": 4, "kv_heads": 2}
    fused = family == "phi3"
    old, new = (
        (CHECKS.FUSED, CHECKS.OTHER_FUSED) if fused else (CHECKS.SEPARATE, CHECKS.OTHER_SEPARATE)
    )
    ids = torch.tensor([[5, 6, 7]])
    plain = SCENE._model(told)(ids).logits
    for names in new:
        called = dict(zip(old, names, strict=True))
        norms = list(CHECKS.INNER_NORMS[0])
        model = SCENE._model({**told, "called": called, "norms": norms, "inside": ["module"]})
        block = model.get_submodule("module.model.layers.1.self_attn")
        assert {name for name, _ in block.named_children()} == {*names, *norms}
        assert torch.equal(model(ids).logits, plain)
        assert model.config.num_hidden_layers == 2
    assert not any("proj" in name for names in new for name in names)


def test_of_the_four_families_only_qwen2_has_biases():
    biased = {
        family: [n for n, _ in tiny_model(family, 0, depth=1).named_parameters() if "bias" in n]
        for family in FAMILIES
    }
    of_three = [f"model.layers.0.self_attn.{name}_proj.bias" for name in "qkv"]
    assert biased == {"llama": [], "mistral": [], "qwen2": of_three, "phi3": []}


@pytest.mark.parametrize("library", ["transformers", "peft", "torch"])
def test_a_folder_called_like_a_library_does_not_hide_it(library, tmp_path):
    """A learner may start Python in the workspace, whose folders are the skills."""
    (tmp_path / library).mkdir()
    (tmp_path / library / "exercise.py").touch()
    code = f"import importlib.util as u; print(u.find_spec({library!r}).origin)"
    for folder in (tmp_path, tmp_path / library, LABS):
        came = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, check=True, text=True
        )
        assert came.stdout.strip() == sys.modules[library].__file__


def test_no_name_that_a_wrapper_has_looks_like_a_part():
    for name in CHECKS.WRAPPERS:
        assert not re.search("attn|attention|mlp|norm|layers|proj", name)
        assert name != "model", "or a name by heart could fit by luck"


def test_a_list_by_heart_fails_on_phi_3_and_nowhere_else():
    for seed in range(6):
        found = failed(BENCH, seed, attention_projections=NAMED["llama_by_heart"].run)
        assert "for a Phi-3 of" in found["projections_named"].message


def test_a_block_that_is_there_twice_fails_and_a_repeated_projection_does_not():
    solution = BENCH.solution

    def twice(model):
        return {kind: 2 * names for kind, names in solution["components"](model).items()}

    (verdict,) = failed(BENCH, 1, components=twice).values()
    assert "Each is to be there once" in verdict.message
    repeated = failed(
        BENCH, 1, attention_projections=lambda m: 3 * solution["attention_projections"](m)
    )
    assert not repeated


def test_a_mistake_in_one_kind_leaves_the_others_their_verdict():
    for name, check in (
        ("norm_as_attention", "attention_blocks_named"),
        ("head_as_mlp", "mlp_blocks_named"),
        ("final_norm_missed", "every_norm_named"),
        ("prefix_by_heart", "named_inside_a_wrapper"),
    ):
        assert list(failed(BENCH, 2, components=NAMED[name].run)) == [check]


# --- attention and block --------------------------------------------------------------------------


def drawn(check, seed):
    """Return the inputs that a check draws."""
    inputs = {}

    class Asked(Exception):
        pass

    class Listener:
        def observe(self, scene, given, seed, seconds):
            inputs.update(given)
            raise Asked

    with contextlib.suppress(Asked):
        BY_NAME[check].run(Trial(Listener(), seed, BY_NAME[check]))
    return inputs


def test_heads_are_grouped_separate_and_shared_and_depths_differ():
    for seed in range(20):
        cases = drawn("attention_equals_a_trusted_one", seed)["cases"]
        heads = [(case["num_heads"], case["num_kv_heads"]) for case in cases]
        assert all(1 < kv_heads < many for many, kv_heads in heads[:2])
        assert heads[2][0] == heads[2][1]
        assert heads[3][1] == 1
        models = drawn("every_norm_named", seed)["models"]
        assert {model["family"] for model in models} == set(FAMILIES)
        depths = {model["depth"] for model in models}
        assert len(depths) == len(FAMILIES)
        assert not depths & {1, 2, 3, 32}


def test_float32_is_far_more_exact_than_it_has_to_be():
    for seed in range(20):
        trial = Trial(None, seed, BY_NAME["attention_equals_a_trusted_one"])
        for heads in (*CHECKS.GROUPED, (8, 8), (8, 1)):
            case = CHECKS._attention_case(trial, *heads)
            truth = CHECKS._attention(case)
            told = [case[name] for name in ("x", "wq", "wk", "wv", "wo")]
            error = (BENCH.solution["causal_attention"](*told, *heads) - truth).abs().max()
            assert error < RTOL / 20 * truth.abs().max()


def test_the_message_says_at_which_position_a_changed_token_showed():
    found = failed(BENCH, 4, causal_attention=NAMED["next_token_seen"].run)
    message = found["no_token_sees_a_later_one"].message
    changed = int(re.search(r"another token at position (\d+)", message)[1])
    assert f"the output changed at position {changed - 1} too" in message


@pytest.mark.parametrize(
    ("name", "first", "look"),
    [
        ("output_projection_transposed", 0, "values, heads and `wo`"),
        ("keys_as_values", 0, "values, heads and `wo`"),
        ("no_scale", 1, "queries, keys, scale, mask and softmax"),
        ("queries_and_keys_swapped", 1, "queries, keys, scale, mask and softmax"),
    ],
)
def test_the_message_says_where_to_look_by_the_first_position_that_is_wrong(name, first, look):
    found = failed(BENCH, 6, causal_attention=NAMED[name].run)
    message = found["attention_equals_a_trusted_one"].message
    assert f"first at {first}." in message
    assert look in message


def test_the_parts_of_a_block_are_told_apart_by_values():
    """No part does nothing, none does what another does, and the attention looks back alone."""
    for seed in range(20):
        case = CHECKS._block_case(Trial(None, seed, BY_NAME["block_adds_two_sublayers"]))
        outputs = [part(case["x"]) for part in SCENE.parts(case)]
        for number, output in enumerate(outputs):
            for other in (case["x"], *outputs[:number]):
                assert (output - other).abs().max() > 0.1 * case["x"].abs().max()
        changed = case["x"].clone()
        changed[:, -1] += 1
        attention, mlp, *_ = SCENE.parts(case)
        assert torch.equal(attention(changed)[:, :-1], attention(case["x"])[:, :-1])
        assert torch.equal(mlp(changed)[:, :-1], mlp(case["x"])[:, :-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_real_layers_parts_make_the_layer_and_its_norms_differ(family):
    model = SCENE.layer_model(family, 5, width=24, depth=4, heads=2, kv_heads=1)
    layer = model.model.layers[-1]
    x = torch.randn(2, 5, 24)
    truth = layer(x, position_embeddings=SCENE.angles_for(model, x))
    block = BENCH.solution["decoder_block"](x, *SCENE.layer_parts(model))
    torch.testing.assert_close(block, truth)
    changed = torch.cat([x[:, :-1], x[:, -1:] + 1], 1)
    after = layer(changed, position_embeddings=SCENE.angles_for(model, changed))
    torch.testing.assert_close(after[:, :-1], truth[:, :-1], msg="it is causal")
    assert not torch.allclose(layer.input_layernorm(x), layer.post_attention_layernorm(x))


def test_adding_in_place_fails_by_the_value_of_x_and_a_real_norm_stops_training():
    for name in ("added_in_place", "attention_added_in_place"):
        found = failed(BENCH, 2, decoder_block=NAMED[name].run)
        assert list(found) == ["stream_left_as_it_was"]
        assert found["stream_left_as_it_was"].misconception == name
    assert {check.level for check in BENCH.checks} == {"check"}
    model = SCENE.layer_model("llama", 1)
    stream = torch.randn(1, 4, 32, requires_grad=True) * 1
    with pytest.raises(RuntimeError, match="inplace"):
        NAMED["added_in_place"].run(stream, *SCENE.layer_parts(model)).sum().backward()
    stream = torch.randn(1, 4, 32, requires_grad=True) * 1
    BENCH.solution["decoder_block"](stream, *SCENE.layer_parts(model)).sum().backward()


def test_everything_rests_on_values():
    assert {check.evidence for check in BENCH.checks} == {"value"}


def test_messages_never_hold_the_answer():
    nothing = {"attention": ["x"], "mlp": ["x"], "norm": ["x"]}
    for verdict in failed(BENCH, 0, components=lambda model: nothing).values():
        assert "'x'" in verdict.message
        assert not re.search(r"self_attn|layernorm|layers\.\d", verdict.message)
    (verdict,) = failed(BENCH, 0, attention_projections=lambda model: ["x"]).values()
    assert "proj" not in verdict.message.removeprefix("attention_projections(model)")
    for seed in range(5):
        case = CHECKS._block_case(Trial(None, seed, BY_NAME["block_adds_two_sublayers"]))
        truth = CHECKS._block(case).flatten()[:4].tolist()
        found = failed(BENCH, seed, decoder_block=lambda x, *parts: x)
        assert not any(f"{value:.4g}" in str(found.values()) for value in truth)


def test_a_scene_leaves_nothing_behind():
    before = torch.is_grad_enabled(), torch.get_rng_state(), random.getstate()
    SCENE._model({"family": "phi3", "seed": 1, "depth": 2, "heads": 2, "kv_heads": 1})
    SCENE.layer_model("llama", 1)
    after = torch.is_grad_enabled(), torch.get_rng_state(), random.getstate()
    assert before[0] == after[0]
    assert torch.equal(before[1], after[1])
    assert before[2] == after[2]


# --- the lesson -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    """The lesson's names after its code was run, and what it printed under "printed"."""
    blocks = re.findall(r"^```python\n(.*?)^```", LESSON, re.MULTILINE | re.DOTALL)
    names = {"__name__": "lesson"}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as told:
        patch.delenv("LAB_MODEL", raising=False)  # its numbers are of the model that comes along
        exec("\n".join(blocks), names)
    return {**names, "printed": told.getvalue()}


def test_the_lesson_shows_the_model_that_comes_with_the_lab(lesson):
    shown = LESSON.partition("```text\nLlamaForCausalLM(")[2].partition("```")[0].splitlines()
    printed = str(lesson["model"]).splitlines()
    for line, real in zip(shown[1:], printed[1:], strict=True):
        assert line.startswith(real), (line, real)
    model, share = lesson["model"], lesson["share"]
    sizes = [share(model, word) for word in ("embed_tokens", "self_attn", "mlp", "norm")]
    told = " | ".join(f"{size:,}" for size in sizes)
    assert f"| this model | {told} | the same | {model.num_parameters():,} |" in LESSON
    assert model.config.tie_word_embeddings
    norms = BENCH.solution["components"](model)["norm"]
    sum_of_norms = rf"2 . {model.config.num_hidden_layers} \+ 1 = {len(norms)} here"
    assert re.search(sum_of_norms, LESSON)
    config = model.config
    assert f"{config.hidden_size} wide and has {config.num_attention_heads} heads of 40" in LESSON
    assert config.head_dim == 40
    assert f"`k_proj` gives {config.num_key_value_heads * 40} numbers" in LESSON


def test_the_lessons_llama_8b_is_one():
    config = transformers.LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}

    def millions(word):
        return sum(size for name, size in sizes.items() if word in name) / 1e6

    parts = [f"{millions(word):,.0f}" for word in ("embed_tokens", "self_attn", "mlp")]
    row = f"{' | '.join(parts)} | {millions('norm'):.1f} | {millions('lm_head'):.0f}"
    assert f"| Llama 3.1 8B, millions | {row} | {millions(''):,.0f} |" in LESSON
    cache = [2 * kv_heads * 128 * 32 * 2 / 1024 for kv_heads in (8, 32)]
    assert "keeps {:.0f} KiB per token and not {:.0f}".format(*cache) in LESSON

    def adapted(*words):
        linear = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
        chosen = [m for n, m in linear if n.rpartition(".")[2] in words]
        return sum(16 * (m.in_features + m.out_features) for m in chosen) / 1e6

    attention = ("q_proj", "k_proj", "v_proj", "o_proj")
    every = adapted(*attention, "gate_proj", "up_proj", "down_proj")
    assert f"| q, v | {adapted('q_proj', 'v_proj'):.1f} million |" in LESSON
    assert f"| q, k, v, o | {adapted(*attention):.1f} million |" in LESSON
    assert f"| all linear layers | {every:.1f} million |" in LESSON
    assert every / adapted(*attention) == pytest.approx(3, abs=0.1)


def test_the_lessons_measurements_are_what_its_code_measures(lesson):
    for depth, (residual, without) in lesson["gradients"].items():
        assert f"| {depth} | {residual:.0f} | {without:.2g} |" in LESSON
    for width, (raw, scaled) in lesson["largest"].items():
        assert f"| {width} | {width**0.5:.0f} | {raw:.2f} | {scaled:.2f} |" in LESSON
        assert f"width {width}: spread {width**0.5:.1f}" in lesson["printed"]


def test_the_lessons_experiments_show_what_it_says(lesson):
    printed, length = lesson["printed"], lesson["ids"].shape[1]
    moved = list(range(length - 4, length))
    assert f"changed at {length - 4} and moved at {moved}" in printed
    assert "the MLP's output moved at [2]" in printed
    assert "by hand: True" in printed
    assert "a stream 100 times as large: True" in printed
    assert "token 0: shares [1.]" in printed
    assert "phi3     ['o_proj', 'qkv_proj']" in printed
    sizes = [float(size) for size in re.findall(r"the stream's size is ([\d.]+)", printed)]
    assert sizes == sorted(sizes), "it grows from layer to layer"
    assert sizes[-1] > 5 * sizes[0]
    for told in re.findall(r"# (\[\[.*?\]\]|\[[\d, ]+\])", LESSON):
        assert told in printed


def test_the_trained_model_looks_at_the_numbers_it_has_to_add(lesson):
    ids, tokenizer = lesson["ids"][0], lesson["tokenizer"]
    numbers = [t for t, i in enumerate(ids) if tokenizer.decode(i).strip() in ("one", "three")]
    assert len(numbers) == 2
    shares = lesson["attentions"][0][0, :, -1, numbers].sum(-1)
    assert int((shares > 0.5).sum()) >= 2, "some of the heads"


def test_the_lessons_table_of_names_is_right():
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 16}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    others = {
        "GPTNeoX": {"intermediate_size": 32},
        "Falcon": {},
        "OPT": {"ffn_dim": 32, "word_embed_proj_dim": 32, "max_position_embeddings": 16},
        "Qwen3": {"intermediate_size": 32, "num_key_value_heads": 2, "head_dim": 8},
    }
    found = {}
    for family, more in others.items():
        config = getattr(transformers, f"{family}Config")(**small, **ids, **more)
        model = getattr(transformers, f"{family}ForCausalLM")(config)
        block = next(m for m in model.modules() if type(m).__name__.endswith("Attention"))
        found[family] = [name for name, m in block.named_children() if isinstance(m, nn.Linear)]
    assert "| GPT-NeoX, Falcon | `query_key_value`, `dense` |" in LESSON
    assert set(found["GPTNeoX"]) == set(found["Falcon"]) == {"query_key_value", "dense"}
    assert "| OPT | `q_proj`, `k_proj`, `v_proj`, `out_proj` |" in LESSON
    assert set(found["OPT"]) == {"q_proj", "k_proj", "v_proj", "out_proj"}
    assert {"q_norm", "k_norm"} <= {name for name, _ in block.named_children()}, "Qwen3 has them"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_what_the_lesson_says_of_peft_is_so():
    llamas = ["q_proj", "k_proj", "v_proj", "o_proj"]

    def adapted(family, targets):
        model = get_peft_model(tiny_model(family, 0), LoraConfig(r=2, target_modules=targets))
        names = [n.partition(".lora_A")[0] for n, _ in model.named_modules() if "lora_A." in n]
        return names, {name.rpartition(".")[2] for name in names}

    names, leaves = adapted("phi3", llamas)
    assert leaves == {"o_proj"}, "and no word about the rest"
    assert all(name.startswith("base_model.model.") for name in names)
    with pytest.raises(Exception, match="not found in the base model"):
        adapted("phi3", ["q_proj", "k_proj"])
    assert adapted("llama", set(llamas)) == adapted("llama", 2 * llamas)
    _, every = adapted("llama", "all-linear")
    assert every == {*llamas, "gate_proj", "up_proj", "down_proj"}


def test_the_example_model_is_as_deep_as_the_misconception_says():
    config = transformers.AutoConfig.from_pretrained(assets.random_model("llama"))
    assert config.num_hidden_layers == 3
    assert len(NAMED["depth_of_the_example"].run(None)["mlp"]) == 3
