"""The file with the kinds of machine: whole, sourced, and each card told from every other."""

from __future__ import annotations

from pathlib import Path

import pytest

from verify.kinds import Traits, card, is_wsl, known, recognise

CARDS = {
    "NVIDIA GB10": 95,
    "NVIDIA GB200": 1822,
    "NVIDIA B200": 1745,
    "NVIDIA B300 SXM6 AC": 1769,
    "NVIDIA GH200 144G HBM3e": 829,
    "NVIDIA H200": 794,
    "NVIDIA H100 80GB HBM3": 794,
    "NVIDIA H100 PCIe": 756,
    "NVIDIA H100 NVL": 835,
    "NVIDIA H200 NVL": 835,
    "NVIDIA A100-SXM4-40GB": 271,
    "NVIDIA A100-SXM4-80GB": 271,
    "NVIDIA A100-PCIE-40GB": 253,
    "NVIDIA A100 80GB PCIe": 253,
    "NVIDIA A10": 125,
    "NVIDIA L4": 121,
    "NVIDIA L40S": 362,
    "NVIDIA RTX 6000 Ada Generation": 364,
    "NVIDIA GeForce RTX 5090": 209,
    "NVIDIA GeForce RTX 4090": 165,
    "NVIDIA GeForce RTX 3090": 71,
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": 504,
}
UNKNOWN = (
    *("NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 5090 D", "NVIDIA L40"),
    *("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA A100-40C", "GRID A100D-20C"),
    *("Tesla T4", "NVIDIA A10G", "NVIDIA H20", "NVIDIA RTX PRO 6000 Blackwell Max-Q"),
)


@pytest.mark.parametrize("name", CARDS)
def test_a_cards_numbers_are_its_own(name: str) -> None:
    found = card(name)
    assert found is not None
    assert found.tflops == CARDS[name]


def test_a_cards_memory_is_that_of_its_size() -> None:
    told = {name: found.gb_per_s for name in CARDS if "A100" in name and (found := card(name))}
    assert told == {
        "NVIDIA A100-SXM4-40GB": 1555,
        "NVIDIA A100-SXM4-80GB": 2039,
        "NVIDIA A100-PCIE-40GB": 1555,
        "NVIDIA A100 80GB PCIe": 1935,
    }


@pytest.mark.parametrize("name", UNKNOWN)
def test_of_others_nothing_is_expected(name: str) -> None:
    assert card(name) is None


def test_every_number_has_a_source() -> None:
    assert all("https://" in it.source for it in known().card)
    assert all("https://" in it.source for it in known().kind if it.card)
    assert {card(name) for name in CARDS} == set(known().card), "each is tried above"


def test_tolerances_are_shares() -> None:
    tolerance = known().tolerance
    shares = (tolerance.reached, tolerance.stated, tolerance.bandwidth, tolerance.wsl)
    assert all(0.3 < share < 0.95 for share in shares)


@pytest.mark.parametrize(
    ("traits", "kind"),
    [
        (Traits("Tesla T4", "7.5", "x86_64"), "Turing"),
        (Traits("NVIDIA GeForce RTX 2080 Ti", None, "x86_64"), "Turing"),
        (Traits("NVIDIA GeForce GTX 1080 Ti", None, "x86_64"), "older than Turing"),
        (Traits("NVIDIA A10G", None, "x86_64"), "Ampere"),
        (Traits("NVIDIA RTX A6000", None, "x86_64"), "Ampere"),
        (Traits("NVIDIA RTX 6000 Ada Generation", None, "x86_64"), "Ada"),
        (Traits("NVIDIA L4", None, "x86_64"), "Ada"),
        (Traits("NVIDIA RTX PRO 6000 Blackwell Server Edition", None, "x86_64"), "Blackwell RTX"),
        (Traits("NVIDIA H20", None, "x86_64"), "Hopper"),
        (Traits(None, None, "aarch64"), "aarch64 without a GPU"),
        (Traits("A new one", "8.6", "x86_64"), "Ampere"),  # what it can decides, not its name
    ],
)
def test_kinds_are_told_apart(traits: Traits, kind: str) -> None:
    found = recognise(traits)
    assert found is not None
    assert found.name == kind


def test_what_is_not_known_is_of_no_kind() -> None:
    assert recognise(Traits("NVIDIA R200", "13.0", "x86_64")) is None
    assert recognise(Traits(None, None, "riscv64")) is None
    assert recognise(Traits("Orin (nvgpu)", "8.7", "aarch64")) is None


@pytest.mark.parametrize(
    ("release", "wsl"),
    [("5.15.153.1-microsoft-standard-WSL2\n", True), ("6.8.0-57-generic\n", False)],
)
def test_a_windows_below_is_seen(tmp_path: Path, release: str, wsl: bool) -> None:
    file = tmp_path / "proc/sys/kernel/osrelease"
    file.parent.mkdir(parents=True)
    file.write_text(release)
    assert is_wsl(tmp_path) is wsl
    assert not is_wsl(tmp_path / "empty")
