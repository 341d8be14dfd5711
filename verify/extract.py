"""What a function of the exercise needs: its definition and the statements that bind its names.

A verification runs only that. Scratch cells, prints, downloads and training runs at the top level
of a notebook stay untouched. This is for speed and quiet, not a wall: decorators, default values
and the right-hand sides of needed constants do run, in the sealed process.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
from types import CodeType

_ALWAYS_BOUND = frozenset(dir(builtins)) | {"__name__", "__file__", "__builtins__"}
_SIMPLE = (
    ast.Import,
    ast.ImportFrom,
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Pass,
)


@dataclasses.dataclass(frozen=True)
class Statement:
    """A top-level statement: the names it binds, those it needs at once, and those it needs later.

    ``now`` are names read while the statement itself runs (decorators, defaults, right-hand
    sides), ``later`` those read inside the functions it defines, when they are called.
    """

    index: int
    node: ast.stmt
    binds: frozenset[str]
    now: frozenset[str]
    later: frozenset[str]
    runs: bool


class Source:
    """An exercise's top-level statements.

    Raises:
        SyntaxError: the file does not parse.
        ValueError: it holds null bytes.
    """

    def __init__(self, text: bytes, filename: str) -> None:
        tree = ast.parse(text, filename)
        self._filename = filename
        self.statements = [_statement(i, node) for i, node in enumerate(tree.body)]

    def defines(self, name: str) -> bool:
        """Tell whether a statement that may be run binds ``name``."""
        return self._binding(name, len(self.statements)) is not None

    def needed_for(self, name: str) -> list[ast.stmt]:
        """Return, in the file's order, the statements that a call of ``name`` needs."""
        end = len(self.statements)
        kept = {s.index: s for s in self.statements if _always(s)}
        waiting = [self._binding(name, end)]
        while waiting:
            statement = waiting.pop()
            if statement is None or (statement.index in kept and not _always(statement)):
                continue
            kept[statement.index] = statement
            waiting += [self._binding(used, statement.index) for used in statement.now]
            waiting += [self._binding(used, end) for used in statement.later]
        nodes = [kept[index].node for index in sorted(kept)]
        return sorted(nodes, key=lambda node: not _is_future(node))  # first, as Python demands

    def compile(self, nodes: list[ast.stmt]) -> CodeType:
        """Return ``nodes`` as a module's code, with the file's own line numbers."""
        return compile(ast.Module(nodes, []), self._filename, "exec", dont_inherit=True)

    def unbound(self, name: str) -> str | None:
        """Return why ``name`` is not bound when a needed statement uses it, or None if it is."""
        if name in _ALWAYS_BOUND or self.defines(name):
            return None
        for statement in self.statements:
            if name in statement.binds:
                line = statement.node.lineno
                return (
                    f"`{name}` is bound only inside the block at line {line}, which is not run; "
                    "bind it at the top level"
                )
        return f"nothing in exercise.py binds `{name}`; import or define it at the top level"

    def _binding(self, name: str, before: int) -> Statement | None:
        """Return the last statement before ``before`` that binds ``name``."""
        if name in _ALWAYS_BOUND and not any(name in s.binds for s in self.statements):
            return None
        for statement in reversed(self.statements[:before]):
            if statement.runs and name in statement.binds:
                return statement
        return None


def _always(statement: Statement) -> bool:
    """Tell whether a statement is kept unasked: ``from __future__`` and ``import *``."""
    node = statement.node
    star = isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    return star or _is_future(node)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _statement(index: int, node: ast.stmt) -> Statement:
    names = _Names()
    names.visit(node)
    if isinstance(node, ast.If | ast.Try):  # may leave a name as it was: keep what bound it before
        names.now |= names.binds
    return Statement(
        index,
        node,
        frozenset(names.binds),
        frozenset(names.now),
        frozenset(names.later),
        _may_run(node),
    )


def _may_run(node: ast.stmt) -> bool:
    """Tell whether a statement only binds: a simple one, or an ``if``/``try`` made of such."""
    if isinstance(node, _SIMPLE):
        return True
    if isinstance(node, ast.If):
        return all(map(_may_run, node.body + node.orelse))
    if isinstance(node, ast.Try):
        handlers = [statement for handler in node.handlers for statement in handler.body]
        return all(map(_may_run, node.body + handlers + node.orelse + node.finalbody))
    return False


class _Names(ast.NodeVisitor):
    """The names a statement binds in the module, and those it reads now and later.

    Reading is taken generously: a local variable that has a module-level namesake counts as a use
    of it, which runs one binding more and is never wrong.
    """

    def __init__(self) -> None:
        self.binds: set[str] = set()
        self.now: set[str] = set()
        self.later: set[str] = set()
        self._inside = 0  # functions and lambdas around this node: their names are read later
        self._scopes = 0  # those and class bodies: their names are not the module's

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            (self.later if self._inside else self.now).add(node.id)
        elif not self._scopes:
            self.binds.add(node.id)

    def visit_Import(self, node: ast.Import) -> None:
        self._bind(*(alias.asname or alias.name.split(".")[0] for alias in node.names))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._bind(*(alias.asname or alias.name for alias in node.names))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            (self.later if self._inside else self.now).add(node.target.id)
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(node.name)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._bind(node.name)
        for part in [*node.decorator_list, *_outside(node.args), node.returns]:
            if part is not None:
                self.visit(part)
        self._within(node.body, function=True)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for part in _outside(node.args):
            self.visit(part)
        self._within([node.body], function=True)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name)
        for part in [*node.decorator_list, *node.bases, *(k.value for k in node.keywords)]:
            self.visit(part)
        self._within(node.body, function=False)

    def visit_ListComp(self, node: ast.AST) -> None:
        self._scopes += 1
        self.generic_visit(node)
        self._scopes -= 1

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp  # noqa: N815

    def _bind(self, *names: str) -> None:
        if not self._scopes:
            self.binds.update(names)

    def _within(self, body: list[ast.stmt] | list[ast.expr], *, function: bool) -> None:
        self._inside += function
        self._scopes += 1
        for node in body:
            self.visit(node)
        self._inside -= function
        self._scopes -= 1


def _outside(arguments: ast.arguments) -> list[ast.expr]:
    """Return the parts of a signature that are evaluated where the function is defined."""
    everyone = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    annotations = [a.annotation for a in everyone if a is not None]
    found = [*arguments.defaults, *arguments.kw_defaults, *annotations]
    return [part for part in found if part is not None]
