"""What is run of an exercise: what a function needs, and nothing else."""

from __future__ import annotations

import ast

import pytest

from verify.extract import Source


def needed(text: str, name: str = "f") -> list[str]:
    return [ast.unparse(node) for node in Source(text.encode(), "exercise.py").needed_for(name)]


def result(text: str, *arguments: object) -> object:
    """Run what `f` needs and call it."""
    source = Source(text.encode(), "exercise.py")
    namespace: dict[str, object] = {}
    exec(source.compile(source.needed_for("f")), namespace)
    return namespace["f"](*arguments)  # type: ignore[operator]


def test_scratch_cells_are_not_run() -> None:
    text = "print('hello')\nx = 1 / 0\nwhile True:\n    pass\ndef f(): return 1\nf()\nexit()\n"
    assert needed(text) == ["def f():\n    return 1"]


def test_helpers_constants_classes_and_lambdas_come_along() -> None:
    text = """
import math as m
from os import path, sep
SCALE: float = 2.0
class Config:
    size = SCALE
double = lambda x: helper(x) * Config.size
def helper(x): return m.floor(x)
def unused(): return path
def f(x): return double(x)
"""
    assert result(text, 3.7) == 6.0
    assert not any("unused" in line or "path" in line for line in needed(text))


def test_the_last_binding_wins() -> None:
    assert result("def f(): return 1\ndef f(): return 2\n") == 2
    assert result("def g(): return 1\ndef f(): return g()\ndef g(): return 2\n") == 2


def test_a_name_read_at_once_is_the_one_bound_before() -> None:
    assert result("k = 2\nk = k * 3\nk += 1\ndef f(): return k\n") == 7
    assert result("k = 2\ndef f(x=k): return x\nk = 5\n") == 2


def test_a_wrapped_function_keeps_its_wrapping() -> None:
    text = """
import functools
def twice(g):
    @functools.wraps(g)
    def wrapped(x): return 2 * g(x)
    return wrapped
@twice
def f(x): return x + OFFSET
OFFSET = 1
"""
    assert result(text, 3) == 8
    assert result("def f(x): return x\nf = (lambda g: lambda x: g(x) + 1)(f)\n", 3) == 4


def test_conditional_imports_are_run_and_keep_what_was_bound_before() -> None:
    optional = "try:\n    import nowhere_at_all as n\nexcept ImportError:\n    n = None\n"
    assert result(optional + "def f(): return n\n") is None
    assert result("k = 1\nif k > 5:\n    k = 2\ndef f(): return k\n") == 1


def test_blocks_that_do_more_than_bind_are_not_run() -> None:
    text = "for k in range(3):\n    pass\ndef f(): return k\n"
    assert needed(text) == ["def f():\n    return k"]
    why = Source(text.encode(), "exercise.py").unbound("k")
    assert why is not None
    assert "line 1" in why


def test_a_name_that_nothing_binds_is_told() -> None:
    source = Source(b"def f(): return np.zeros(3)\n", "exercise.py")
    assert source.unbound("np") is not None
    assert source.unbound("len") is None
    assert source.unbound("f") is None


def test_names_inside_functions_are_not_the_modules() -> None:
    source = Source(b"def g():\n    inner = 1\nclass A:\n    field = 2\n[c for c in 'ab']\n", "e")
    assert not any(source.defines(name) for name in ("inner", "field", "c"))


def test_recursion_and_mutual_recursion_end() -> None:
    assert result("def f(n): return 1 if n < 1 else g(n - 1)\ndef g(n): return f(n)\n", 3) == 1


def test_future_imports_and_star_imports_are_kept() -> None:
    imports = "from __future__ import annotations\nfrom math import *\n"
    assert result(imports + "def f(x: Nowhere): return floor(x)\n", 2.5) == 2


def test_a_cell_above_the_first_one_does_no_harm() -> None:
    text = "import math\nfrom __future__ import annotations\ndef f(x): return math.floor(x)\n"
    assert result(text, 2.5) == 2


def test_tuple_targets_starred_and_walrus_bind() -> None:
    assert result("(a, *b), c = (1, 2, 3), 4\ndef f(): return a + b[0] + c\n") == 7
    assert result("a = (b := 3) + 1\ndef f(): return b\n") == 3


def test_line_numbers_are_the_files_own() -> None:
    source = Source(b"x = 1\n\n\ndef f():\n    raise ValueError\n", "exercise.py")
    assert source.needed_for("f")[0].lineno == 4


@pytest.mark.parametrize("text", [b"def f(:\n", b"x = '\n", b"\xff\xfe", b"def f():\nreturn 1\n"])
def test_what_does_not_parse_is_a_syntax_error(text: bytes) -> None:
    with pytest.raises((SyntaxError, ValueError)):
        Source(text, "exercise.py")
