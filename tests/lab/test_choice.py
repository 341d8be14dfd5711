"""Runtime and variant are chosen for the machine that is there, and the reason is said."""

from __future__ import annotations

import dataclasses

import pytest

from tests.lab.machines import (
    NO_DOCKER,
    NO_GPU,
    NOT_ALLOWED,
    engine,
    gb10,
    needs_engine,
    seen,
)
from verify.lab import choice
from verify.lab.choice import choose_runtime, choose_variant
from verify.lab.engine import Engine
from verify.lab.engine_troubles import NoEngine
from verify.lab.gpu import Gpu
from verify.lab.problems import Problem

GOOD = engine("docker-28-cdi")
PLAIN = engine("docker-26")
OLD = dataclasses.replace(PLAIN, version="24.0.9")
AWAY = dataclasses.replace(GOOD, address="tcp://192.0.2.7:2376")
NO_TOOLKIT = gb10(toolkit=None, specifications=())
OLD_DRIVER = gb10(driver="575.57.08")
NO_DRIVER = Gpu(card=True)


class TestTheRuntime:
    @pytest.mark.parametrize(
        ("asked", "found", "name", "why"),
        [
            ("auto", GOOD, "compose", "Docker Engine 28.5.2+dfsg4 and Compose 2.40.3 answer"),
            ("auto", PLAIN, "compose", "Engine 26.1.5"),
            ("auto", NO_DOCKER, "local", "Docker is not installed"),
            ("auto", NOT_ALLOWED, "local", "You may not use it: no group"),
            ("auto", OLD, "local", "24.0.9 is too old"),
            ("auto", AWAY, "local", "another machine"),
            ("auto", dataclasses.replace(GOOD, compose=None), "local", "no Docker Compose"),
            ("compose", GOOD, "compose", "asked for"),
            ("local", GOOD, "local", "asked for"),
            ("local", NO_DOCKER, "local", "asked for"),
        ],
    )
    def test_is_chosen(self, asked: str, found: Engine | NoEngine, name: str, why: str) -> None:
        chosen = choose_runtime(asked, seen(found))
        assert chosen.name == name
        assert why in chosen.why
        assert not chosen.why.endswith(".")  # it is printed in brackets

    @pytest.mark.parametrize(
        ("found", "happened"),
        [(NO_DOCKER, "not installed"), (OLD, "too old"), (AWAY, "another machine")],
    )
    def test_containers_that_were_asked_for_and_cannot_be_are_a_problem(
        self, found: Engine | NoEngine, happened: str
    ) -> None:
        with pytest.raises(Problem, match=happened) as caught:
            choose_runtime("compose", seen(found))
        assert caught.value.type_this

    def test_who_asks_for_the_local_one_does_not_wait_for_an_engine(self) -> None:
        def never() -> Engine:
            raise AssertionError("looked")

        assert choose_runtime("local", choice.Seen(never)).name == "local"


class TestTheVariant:
    @pytest.mark.parametrize(
        ("asked", "found", "gpu", "name", "wiring"),
        [
            ("auto", GOOD, gb10(), "gpu", "cdi"),
            ("gpu", GOOD, gb10(), "gpu", "cdi"),
            ("auto", engine("docker-26", Runtimes={"nvidia": {}}), gb10(), "gpu", "runtime"),
            ("auto", NO_DOCKER, NO_TOOLKIT, "gpu", None),  # processes of this machine
            ("auto", GOOD, NO_GPU, "cpu", None),
            ("cpu", GOOD, gb10(), "cpu", None),
            ("auto", PLAIN, NO_TOOLKIT, "cpu", None),
            ("auto", GOOD, OLD_DRIVER, "cpu", None),
            ("auto", GOOD, NO_DRIVER, "cpu", None),
            ("auto", NO_DOCKER, OLD_DRIVER, "cpu", None),
        ],
    )
    def test_is_chosen(
        self, asked: str, found: Engine | NoEngine, gpu: Gpu, name: str, wiring: str | None
    ) -> None:
        chosen = choose_variant(asked, seen(found, gpu))
        assert (chosen.name, chosen.wiring) == (name, wiring)
        assert (chosen.obstacle is None) == (name == "gpu" or asked == "cpu" or not gpu.card)

    @pytest.mark.parametrize(
        ("gpu", "why", "command"),
        [
            (NO_TOOLKIT, "NVIDIA GB10 is not used: Docker cannot hand", "nvidia-container-toolkit"),
            (
                OLD_DRIVER,
                "NVIDIA GB10 is not used: The NVIDIA driver 575.57.08",
                "nvidia-driver-580",
            ),
            (NO_DRIVER, "an NVIDIA GPU is not used: There is", "modprobe nvidia"),
        ],
    )
    def test_a_gpu_that_is_left_out_is_said_with_what_helps(
        self, gpu: Gpu, why: str, command: str
    ) -> None:
        chosen = choose_variant("auto", seen(PLAIN, gpu))
        assert chosen.why.startswith(why)
        assert f"to use it: {chosen.obstacle.type_this if chosen.obstacle else ''}" in chosen.why
        assert command in chosen.why

    @pytest.mark.parametrize(
        ("gpu", "happened", "command"),
        [
            (NO_GPU, "no NVIDIA GPU in this machine", "--variant cpu"),
            (NO_TOOLKIT, "cannot hand the GPU", "nvidia-container-toolkit"),
            (OLD_DRIVER, "too old", "nvidia-driver-580"),
            (NO_DRIVER, "not loaded", "modprobe nvidia"),
        ],
    )
    def test_a_gpu_that_was_asked_for_and_cannot_be_is_a_problem(
        self, gpu: Gpu, happened: str, command: str
    ) -> None:
        with pytest.raises(Problem, match=happened) as caught:
            choose_variant("gpu", seen(PLAIN, gpu))
        assert caught.value.cause
        assert command in caught.value.type_this

    def test_what_is_used_is_said(self) -> None:
        why = choose_variant("auto", seen(GOOD, gb10())).why
        assert why == "NVIDIA GB10, driver 580.159.03, as a CDI device"


@needs_engine
def test_the_engine_of_this_machine_is_chosen() -> None:
    assert choose_runtime("auto", choice.look()).name == "compose"


def test_a_machine_is_looked_at_once() -> None:
    looked: list[str] = []

    def once() -> Engine:
        looked.append("")
        return GOOD

    machine = choice.Seen(once)
    assert machine.engine is machine.engine
    assert len(looked) == 1
