"""Which torch and which distributions an interpreter sees, told from the disk."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.images.conftest import MODULE, TORCH, install, install_ngc
from verify.identity import distributions, torch_identity


def test_torch_has_the_version_that_pip_knows_and_the_one_it_says_itself(site: Path) -> None:
    install_ngc(site)
    torch = torch_identity()
    assert torch is not None
    assert (torch.distribution, torch.module, torch.cuda) == (TORCH, MODULE, "13.4")
    assert torch.location == str(site / "torch")


def test_torch_is_told_without_importing_it(site: Path) -> None:
    install_ngc(site)
    (site / "torch" / "__init__.py").write_text("raise SystemExit('imported')\n")
    assert torch_identity() is not None


def test_this_environment_s_torch_is_what_torch_itself_says() -> None:
    import torch

    found = torch_identity()
    assert found is not None
    assert found.module == torch.__version__
    assert found.cuda == torch.version.cuda
    assert Path(found.location) == Path(str(torch.__file__)).parent


def test_without_torch_there_is_none(site: Path) -> None:
    assert torch_identity() is None


def test_of_two_distributions_the_first_on_the_path_counts(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "rich", "13.9.4", {"rich/a.py": ""})
    above = tmp_path / "above"
    install(above, "Rich", "15.0.0", {"rich/a.py": ""})
    monkeypatch.setattr(sys, "path", [str(above), str(site)])
    assert {name: it.version for name, it in distributions().items()} == {"rich": "15.0.0"}


def test_the_same_wheel_is_the_same_whoever_installed_it(site: Path) -> None:
    """pip compiles or not, notes who asked for it, and writes scripts with their interpreter."""
    install(site, "rich", "15.0.0", {"rich/a.py": "A = 1\n"})
    before = distributions()["rich"]
    record = site / "rich-15.0.0.dist-info" / "RECORD"
    with record.open("a") as file:
        file.write("rich/__pycache__/a.cpython-311.pyc,,\n../../../bin/rich,sha256=abc,200\n")
        file.write("rich-15.0.0.dist-info/INSTALLER,sha256=def,4\n")
        file.write("rich-15.0.0.dist-info/REQUESTED,sha256=ghi,0\n")
    assert distributions()["rich"] == before
    with record.open("a") as file:
        file.write("rich/more.py,sha256=jkl,0\n")
    assert distributions()["rich"].record != before.record


def test_missing_files_are_named_and_a_missing_folder_once(site: Path) -> None:
    files = {f"rich/tests/t{number}.py": "" for number in range(9)}
    install(site, "rich", "15.0.0", {**files, "rich/tests/deep/x.py": "", "rich/a.py": ""})
    assert distributions()["rich"].missing == []
    shutil.rmtree(site / "rich" / "tests")
    (site / "rich" / "a.py").unlink()
    assert distributions()["rich"].missing == ["rich/a.py", "rich/tests"]


def test_what_an_environment_sees_besides_is_not_its_own(site: Path) -> None:
    install(site, "rich", "15.0.0", {"rich/a.py": ""})
    assert not distributions()["rich"].own


def test_looking_at_this_environment_takes_no_long_time() -> None:
    distributions()
    began = time.monotonic()
    found = distributions()
    assert time.monotonic() - began < 5, "0.2 s on two cores; files must not be read"
    assert found["torch"].own
    assert not {name: it.missing for name, it in found.items() if it.missing}
