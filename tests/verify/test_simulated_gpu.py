"""The simulated machine: all ways of asking agree, tensors know their place, nothing is left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.cuda import is_available as asked_early
from transformers import AutoModelForCausalLM
from transformers.utils import import_utils, logging

from verify.simulated_gpu import machine
from verify.tiny import tiny_model

MACHINES = [
    {"built": False, "gpu": False},
    {"built": True, "gpu": False},
    {"built": True, "gpu": True},
]


def _state() -> list[Any]:
    return [
        torch.cuda.is_available(),
        torch.accelerator.current_accelerator(),
        torch.version.cuda,
        hasattr(torch._C, "_cuda_getDeviceCount"),
        torch.get_default_device(),
        torch._C._len_torch_function_stack(),
        os.environ.get("HF_DEACTIVATE_ASYNC_LOAD"),
        import_utils.is_torch_cuda_available(),
    ]


@pytest.mark.parametrize("kind", MACHINES)
def test_every_way_of_asking_agrees(kind: dict[str, bool]) -> None:
    gpu, built = kind["gpu"], kind["built"]
    with machine(**kind):
        found = [
            torch.cuda.is_available(),
            asked_early(),
            torch.accelerator.is_available(),
            torch.cuda.device_count() == 1,
            torch.accelerator.device_count() == 1,
            torch.accelerator.current_accelerator(check_available=True) is not None,
            import_utils.is_torch_cuda_available(),
            torch.cuda.is_bf16_supported(),
        ]
        assert found == [gpu] * len(found)
        assert torch.backends.cuda.is_built() is built
        assert (torch.version.cuda is not None) is built
        assert (torch.accelerator.current_accelerator() is not None) is built


def test_what_there_is_to_know_of_the_gpu_is_told() -> None:
    with machine(gpu=True):
        free, total = torch.cuda.mem_get_info()
        assert 0 < free < total
        assert torch.cuda.get_device_capability() == (12, 1)
        assert torch.cuda.get_device_name(0)
        assert torch.cuda.current_device() == 0
        assert torch.cuda.memory_allocated() == 0
        torch.cuda.synchronize()


@pytest.mark.parametrize(("built", "error"), [(True, RuntimeError), (False, AssertionError)])
def test_without_a_gpu_nothing_can_go_there(built: bool, error: type[Exception]) -> None:
    layer = nn.Linear(2, 2)
    with machine(gpu=False, built=built):
        for attempt in (
            lambda: torch.zeros(1, device="cuda"),
            lambda: torch.zeros(1).to("cuda:0"),
            lambda: torch.zeros(1).cuda(),
            lambda: layer.to(torch.device("cuda")),
            torch.cuda.current_device,
        ):
            with pytest.raises(error):
                attempt()  # type: ignore[no-untyped-call]
        assert layer.weight.device.type == "cpu"


@pytest.mark.parametrize(
    "there",
    [
        lambda: torch.zeros(2, 3, device="cuda"),
        lambda: torch.zeros(2, 3, device=0),
        lambda: torch.zeros(2, 3).to("cuda"),
        lambda: torch.zeros(2, 3).to(0),
        lambda: torch.zeros(2, 3).to(device="cuda:0", dtype=torch.float32),
        lambda: torch.zeros(2, 3).to(torch.ones(1, device="cuda")),
        lambda: torch.zeros(2, 3).cuda(),
        lambda: torch.tensor([[0.0] * 3] * 2, device=torch.device("cuda")),
        lambda: torch.zeros_like(torch.ones(2, 3, device="cuda")),
        lambda: torch.zeros_like(torch.ones(2, 3), device="cuda"),
        lambda: torch.ones(2, 3, device="cuda") @ torch.zeros(3, 3, device="cuda"),
        lambda: next(iter(torch.zeros(4, 2, 3, device="cuda"))),
        lambda: torch.zeros(2, 3, device="cuda").max(0, keepdim=True).values.expand(2, 3),
    ],
)
def test_a_tensor_on_the_gpu_says_so(there: Any) -> None:
    with machine(gpu=True):
        x = there()
        assert x.device == torch.device("cuda", 0)
        assert x.is_cuda
        assert not x.is_cpu
        assert x.tolist() == [[0.0] * 3] * 2
        back = x.cpu()
        assert back.device.type == "cpu"
        assert type(back) is torch.Tensor
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        assert back.numpy().shape == (2, 3)


def test_default_devices_are_followed_and_do_not_outlive_the_machine() -> None:
    with machine(gpu=True):
        with torch.device("cuda"):
            assert torch.zeros(1).is_cuda
            assert not torch.zeros(1, device="cpu").is_cuda
        assert not torch.zeros(1).is_cuda
        torch.set_default_device("cuda")
        assert torch.arange(3).is_cuda
    assert torch.arange(3).device.type == "cpu"


def test_two_devices_in_one_operation_are_refused() -> None:
    layer = nn.Linear(3, 2)
    with machine(gpu=True):
        x, y = torch.ones(2, 3), torch.ones(2, 3, device="cuda")
        layer.to("cuda")
        for attempt in (
            lambda: x + y,
            lambda: layer(x),
            lambda: torch.cat([x, y]),
            lambda: x.add_(y),
            lambda: nn.functional.embedding(torch.tensor([0, 1]), y),
        ):
            with pytest.raises(RuntimeError, match="on the same device"):
                attempt()
        assert (y * torch.tensor(2.0)).is_cuda  # one number may come from anywhere
        assert y[torch.tensor([0])].is_cuda  # and so may an index
        y.copy_(x * 3)
        assert y.is_cuda
        assert y.sum().item() == 18


def test_a_module_moves_and_its_parameters_stay_the_same_objects() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    before = list(model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with machine(gpu=True):
        model.to("cuda")
        assert all(p.is_cuda for p in model.parameters())
        assert all(b.is_cuda for b in model.buffers())
        assert all(isinstance(p, nn.Parameter) for p in model.parameters())
        assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
        assert model[2].weight is model[0].weight
        start = model[0].weight.detach().clone()
        loss = model(torch.randn(4, 3, device="cuda")).square().mean()
        loss.backward()
        assert model[0].weight.grad is not None
        optimizer.step()
        assert not torch.equal(start, model[0].weight)
        model.cpu()
        assert {p.device.type for p in model.parameters()} == {"cpu"}
        assert {type(p) for p in model.parameters()} == {nn.Parameter}
    assert model.eval()(torch.randn(4, 3)).shape == (4, 3)


def test_copies_to_the_gpu_are_counted() -> None:
    with machine(gpu=True) as account:
        x = torch.ones(2).to("cuda")
        assert account.copies == 1
        x.to("cuda")  # it is there
        x.double()
        x.cpu()  # the other way
        torch.ones(2, device="cuda")  # made there
        torch.tensor(1.0).cuda()  # one number
        assert account.copies == 1
        nn.Linear(2, 2).to("cuda")
        assert account.copies == 3


@pytest.mark.parametrize(
    ("gpu", "device_map", "wanted"),
    [
        (True, "auto", "cuda"),
        (True, "cuda", "cuda"),
        (True, "cuda:0", "cuda"),
        (True, 0, "cuda"),
        (True, {"": 0}, "cuda"),
        (True, "cpu", "cpu"),
        (True, None, "cpu"),
        (False, "auto", "cpu"),
        (False, "cpu", "cpu"),
    ],
)
def test_a_checkpoint_is_loaded_where_its_map_says(
    gpu: bool, device_map: Any, wanted: str, tmp_path: Path
) -> None:
    logging.disable_progress_bar()
    tiny_model("phi3", 1).save_pretrained(tmp_path)
    with machine(gpu=gpu):
        model = AutoModelForCausalLM.from_pretrained(tmp_path, device_map=device_map)
        assert {p.device.type for p in model.parameters()} == {wanted}
        assert {b.device.type for b in model.buffers()} == {wanted}
        assert model.device.type == wanted


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "phi3"])
def test_a_model_says_the_same_there(family: str) -> None:
    model: Any = tiny_model(family, 2, initializer_range=0.5)
    ids = torch.tensor([[1, 5, 9]])
    here = model.generate(ids, max_new_tokens=6, do_sample=False)
    with machine(gpu=True):
        model.to("cuda")
        there = model.generate(ids.to("cuda"), max_new_tokens=6, do_sample=False)
        assert there.is_cuda
        assert there.cpu().equal(here)


@pytest.mark.parametrize("kind", MACHINES)
def test_nothing_is_left_behind(kind: dict[str, bool]) -> None:
    before = _state()
    with machine(**kind):
        pass

    def fails() -> None:
        with machine(**kind):
            torch.set_default_device("cuda" if kind["gpu"] else "cpu")
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert _state() == before


def test_a_tensor_that_outlives_the_machine_is_an_ordinary_one() -> None:
    with machine(gpu=True):
        x = torch.ones(3, device="cuda")
    assert x.device.type == "cpu"
    assert (x + torch.ones(3)).tolist() == [2.0] * 3
