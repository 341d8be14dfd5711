"""`invoke image.verify`: the images as they were built, and each difference by name."""

from __future__ import annotations

import pytest

from tests.containers.conftest import PROJECT, Lab
from tests.lab.conftest import Said
from verify.lab import containers, image_check
from verify.lab.layout import Layout

HERE = "invoke image.verify --here"
SITE = "/opt/venv/lib/python3.11/site-packages"


def run(image: str, script: str) -> tuple[int, str]:
    """Run a shell script as root in a container of its own."""
    code, told = containers.run_image(image, "sh", "-c", script)
    return code, told.decode()


@pytest.mark.parametrize("service", ["jupyter", "verifier"])
def test_a_running_container_is_what_its_manifest_says(lab: Lab, service: str) -> None:
    ended = lab.inside(service, *HERE.split(), folder="/tmp")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_both_images_are_compared_from_the_host(images: dict[str, str]) -> None:
    said = Said()
    assert image_check.check(Layout(PROJECT), said, "cpu", here=False) == 0
    assert all(name in said.text for name in images.values())


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (f"rm {SITE}/jedi/cache.py", "jedi: "),
        (f"sed -i 's/^Version: .*/Version: 0.1/' {SITE}/peft-*.dist-info/METADATA", "peft: "),
        (f"sed -i '$a torch/evil.py,sha256=x,1' {SITE}/torch-*.dist-info/RECORD", "torch: "),
        ("echo x >>/opt/lab/labs/memory/exercise.py", "labs/memory"),
    ],
)
def test_whatever_was_changed_is_named(images: dict[str, str], damage: str, named: str) -> None:
    code, told = run(images["lab"], f"{damage} && cd /tmp && {HERE}")
    assert code == 1, told
    assert named in told


def test_what_was_never_built_is_told_with_what_to_type(
    engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_IMAGE", "finetune-lab-test-none")
    with pytest.raises(image_check.Problem) as told:
        image_check.check(Layout(PROJECT), Said(), "cpu", here=False)
    assert told.value.type_this == "invoke image.build --variant cpu"
