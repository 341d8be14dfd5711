"""What a build is given of this machine: what means the same inside is passed on, paths are not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from verify.lab import build_inputs
from verify.lab.build_inputs import pip_settings
from verify.lab.layout import Layout


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has nothing of its own."""
    for name in (*build_inputs._CERTIFICATES, *build_inputs._PROXIES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(build_inputs, "ask_pip", lambda: "")


def locks(layout: Layout, *pins: str) -> None:
    layout.locks.mkdir(parents=True)
    (layout.locks / "lab.lock").write_text("".join(f"{pin} \\\n    --hash=x\n" for pin in pins))


def test_a_plain_machine_gives_nothing(layout: Layout) -> None:
    locks(layout)
    with build_inputs.arguments(layout) as given:
        assert given == []


def test_an_index_is_passed_on_and_a_folder_of_this_disk_is_not() -> None:
    found = pip_settings(
        "global.index-url='https://user:secret@mirror.example/simple'\n"
        "global.extra-index-url='file:///srv/simple https://other.example/simple'\n"
        "install.trusted-host='mirror.example'\n"
        ":env:.require-virtualenv='1'\n"
    )
    assert found.passed_on == {
        "index-url": "https://user:secret@mirror.example/simple",
        "extra-index-url": "https://other.example/simple",
        "trusted-host": "mirror.example",
    }
    assert found.folders == []


def test_values_on_several_lines_are_all_found() -> None:
    found = pip_settings("global.find-links='/srv/a\\nfile:///srv/b%20c\\nhttps://x.example/w'\n")
    assert found.folders == [Path("/srv/a"), Path("/srv/b c")]


def test_the_settings_travel_as_a_secret_that_nobody_else_can_read(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks(layout)
    monkeypatch.setattr(
        build_inputs, "ask_pip", lambda: "global.index-url='https://u:p@m.example/'"
    )
    with build_inputs.arguments(layout) as given:
        flag, value = given
        file = Path(value.partition("src=")[2])
        assert flag == "--secret"
        assert value.startswith("id=pip.conf,")
        assert "u:p@" not in value
        assert file.read_text() == "[global]\nindex-url = https://u:p@m.example/\n"
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert not file.exists()


@pytest.mark.parametrize("name", build_inputs._CERTIFICATES)
def test_this_machines_certificates_travel_as_a_secret(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    locks(layout)
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    monkeypatch.setenv(name, str(bundle))
    with build_inputs.arguments(layout) as given:
        assert given == ["--secret", f"id=ca,src={bundle}"]
    monkeypatch.setenv(name, str(tmp_path / "gone.pem"))
    with build_inputs.arguments(layout) as given:
        assert given == []


def test_a_proxy_is_named_and_its_password_is_not_on_the_command_line(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks(layout)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
    with build_inputs.arguments(layout) as given:
        assert given == ["--build-arg", "HTTPS_PROXY"]


def test_only_the_wheels_that_a_lock_names_are_handed_over(layout: Layout, tmp_path: Path) -> None:
    locks(layout, "torch==2.13.0+cpu", "ruamel.yaml==1.0", "rich==15.0.0")
    folder = tmp_path / "wheels"
    folder.mkdir()
    named = ["torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl", "ruamel_yaml-1.0-py3-none-any.whl"]
    for name in (*named, "rich-14.0.0-py3-none-any.whl", "other-1.0-py3-none-any.whl", "notes.txt"):
        (folder / name).write_text(name)
    target = tmp_path / "given"
    assert build_inputs.collect_wheels([folder, folder], layout.locks, target) == 2
    assert sorted(file.name for file in target.iterdir()) == sorted(named)
    assert (target / named[0]).read_text() == named[0]
