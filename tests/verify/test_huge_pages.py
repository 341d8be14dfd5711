"""Larger pages under the zygote: where, without harm, and only while nothing is asked."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from pathlib import Path

import pytest

from verify import huge_pages, zygote
from verify.channel import pair

SIZE = 2 * 1024**2

MAPS = """\
00400000-00420000 r--p 00000000 fe:00 123                        /usr/bin/python3.11
00a20000-00a30000 rw-p 00620000 fe:00 123                        /usr/bin/python3.11
01000000-02000000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000400000 rw-p 00000000 00:00 0 
7f0000400000-7f0000500000 rw-s 00000000 00:01 0                  /dev/zero (deleted)
7f0000500000-7f0000600000 ---p 00000000 00:00 0 
7ffd00000000-7ffd00200000 rw-p 00000000 00:00 0                  [stack]
"""  # noqa: W291 - as the kernel writes it


def test_memory_of_files_and_stacks_is_left_alone() -> None:
    assert list(huge_pages._own(MAPS)) == [
        (0x1000000, 0x2000000),
        (0x7F0000000000, 0x7F0000400000),
    ]


def test_what_is_there_stays_and_lies_on_large_pages(tmp_path: Path) -> None:
    with mmap.mmap(-1, 4 * SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        content = os.urandom(4 * SIZE)
        memory[:] = content
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        maps = tmp_path / "maps"
        maps.write_text(f"{start:x}-{start + 4 * SIZE:x} rw-p 00000000 00:00 0\n")
        done = list(huge_pages.collapse(maps))
        assert memory[:] == content
        if _can():
            assert len(done) in (3, 4)  # by where it begins
            assert all(done)


def _can() -> bool:
    """Tell whether this kernel has large pages of the usual size and puts them where asked."""
    version = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    return version >= (6, 1) and huge_pages._SIZE.exists() and int(_size()) == SIZE


def _size() -> str:
    return huge_pages._SIZE.read_text()


def test_a_kernel_without_them_is_none_the_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "_SIZE", Path("/nowhere"))
    assert list(huge_pages.collapse()) == []


def test_a_request_comes_first() -> None:
    ours, theirs = pair()
    with theirs:
        pages = iter([True, True])
        zygote._use_quiet(ours, pages)
        assert list(pages) == []
        theirs.send(b"x")
        pages = iter([True, True])
        zygote._use_quiet(ours, pages)
        assert list(pages) == [True, True]
    ours.close()
