"""Tiny models and tokenizers: real, different for each seed, and quiet about it."""

from __future__ import annotations

import pytest
import torch

from verify.tiny import FAMILIES, tiny_model, tiny_tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_decides_the_weights_and_leaves_torchs_own_generator_alone(family: str) -> None:
    before = torch.get_rng_state()
    one, same, other = (tiny_model(family, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name]), name
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert not one.training


@pytest.mark.parametrize("family", FAMILIES)
def test_it_has_the_shape_it_was_asked_for_and_generates(family: str) -> None:
    model = tiny_model(family, 3, vocabulary=50, width=48, depth=3, heads=6, kv_heads=3)
    assert len(model.model.layers) == 3
    assert model.lm_head.weight.shape == (50, 48)
    tokens = model.generate(torch.tensor([[4, 5]]), max_new_tokens=6, do_sample=False)
    assert len(set(tokens[0, 2:].tolist())) > 1  # not one token for ever


def test_a_tokenizer_has_a_token_for_each_word_and_a_pad_token_if_asked() -> None:
    plain, padded = tiny_tokenizer(["ab", "cd"]), tiny_tokenizer(["ab", "cd"], pad=True)
    assert plain.pad_token is None
    assert padded.pad_token_id == 3
    assert plain("cd ab xy")["input_ids"] == [4, 3, plain.unk_token_id]
    assert plain.decode([3, 4, plain.eos_token_id], skip_special_tokens=True) == "ab cd"
