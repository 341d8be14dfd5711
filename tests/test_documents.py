"""Every link inside the repository leads to a file that is there and a heading that is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import PROJECT

NOT_OURS = {".lab", ".venv", ".git", "workspace"}
DOCUMENTS = sorted(
    file
    for file in PROJECT.rglob("*.md")
    if not NOT_OURS & set(file.relative_to(PROJECT).parts) and "site-packages" not in file.parts
)
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]*))?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    text = FENCE.sub("", document.read_text("utf-8"))
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_documents() -> None:
    names = {str(file.relative_to(PROJECT)) for file in DOCUMENTS}
    assert {"README.md", "docs/design.md", "labs/training/README.md"} <= names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(PROJECT)))
def test_every_link_resolves(document: Path) -> None:
    for path, anchor in LINK.findall(FENCE.sub("", document.read_text("utf-8"))):
        target = document.parent / path if path else document
        assert target.exists(), f"{path} is not there"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{path}#{anchor}: no such heading"
