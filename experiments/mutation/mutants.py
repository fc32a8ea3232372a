"""The mutants of `inference/`: Cosmic Ray's operators, less what cannot mean anything.

What is left out, by rule:

- *types and decorators*: annotations, decorators, `if TYPE_CHECKING`: they say nothing about
  values, or, as with `frozen=True` and `torch.no_grad`, forbid or save without changing what is
  computed;
- *messages*: whatever stands in a `raise` statement or an f-string;
- *no operator at all*: stars and slashes that unpack or that stand among parameters;
- *another kind of operator*: arithmetic for bitwise, identity for equality or order, and the
  reverse. Between numbers and tensors these raise at once, or (identity of short texts and small
  integers) depend on the interpreter;
- *the same mutant twice*: `-x` to `+x`, which is `-x` to `x`;
- `VariableReplacer` and `VariableInserter`, which draw random numbers and need variables named by
hand.
"""

import ast
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / os.environ.get("MUTATED", "inference")  # the folder whose files are mutated
ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}
IDENTITY = {"Is", "IsNot"}
BINARY_NODES = {"arith_expr", "term", "power", "expr", "and_expr", "xor_expr", "shift_expr"}


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Attributes:
        module: path below `inference/`.
        operator, occurrence: Cosmic Ray's name and number of the change.
        digest: of the module's text, so that results of another text are not taken for those of
            this one.
        line: where it is.
        spans: first and last line of the parts of the module whose tests are asked, the narrowest
            first; a test counts if it runs a line of the first span that any test runs.
    """

    module: str
    operator: str
    occurrence: int
    digest: str
    line: int
    spans: tuple[tuple[int, int], ...]

    @property
    def key(self) -> str:
        """Name of the mutant."""
        return f"{self.module}:{self.operator}:{self.occurrence}:{self.digest}"

    def source(self) -> str:
        """Text of the mutated module."""
        operator = OperatorProvider()[self.operator]()
        changed: str | None = mutate_code(
            (PACKAGE / self.module).read_text(), operator, self.occurrence
        )
        if changed is None:
            raise ValueError(f"{self.key}: there is no such mutant")
        return changed


def modules() -> list[str]:
    """List the files of `inference/` by their paths in it."""
    return sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def names() -> list[str]:
    """Operators that are used."""
    return [
        name for name in OperatorProvider() if not name.startswith("Variable") and _same_kind(name)
    ]


def _same_kind(name: str) -> bool:
    family, _, change = name.partition("_")
    old, _, new = change.partition("_")
    if family == "ReplaceBinaryOperator":
        return (old in ARITHMETIC) == (new in ARITHMETIC)
    if family == "ReplaceComparisonOperator":
        return (old in IDENTITY) == (new in IDENTITY)
    return name not in {"ReplaceUnaryOperator_USub_UAdd", "RemoveDecorator"}


def mutants(module: str) -> Iterator[Mutant]:
    """All mutants of a module."""
    source = (PACKAGE / module).read_text()
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    tree = get_ast(source)
    nodes = list(ast_nodes(tree))
    for name in names():
        operator = OperatorProvider()[name]()
        positions = [
            (node, start) for node in nodes for start, _ in operator.mutation_positions(node)
        ]
        for occurrence, (node, start) in enumerate(positions):
            leaf = tree.get_leaf_for_position(start)
            if not _is_idle(leaf) and (
                not name.startswith("ReplaceBinary") or node.parent.type in BINARY_NODES
            ):
                yield Mutant(
                    module, name, occurrence, digest, start[0], tuple(_spans(source, start[0]))
                )


def _is_idle(leaf: Any) -> bool:
    """Whether a place changes nothing: an annotation, a decorator, a message, a block for type checkers."""
    child = leaf
    node = leaf.parent
    while node is not None:
        if node.type in {"decorator", "raise_stmt", "fstring"}:
            return True
        if _is_annotation(child, node) or _is_for_type_checkers(node):
            return True
        child = node
        node = node.parent
    return False


def _is_annotation(child: Any, node: Any) -> bool:
    """Whether a child annotates a parameter, a returned value or a variable."""
    if node.type == "tfpdef":
        return child is node.children[2]
    if node.type == "funcdef":
        return child is node.annotation
    return bool(node.type == "annassign" and child is node.children[1])


def _is_for_type_checkers(node: Any) -> bool:
    """Whether a statement begins with `if TYPE_CHECKING`."""
    return bool(node.type == "if_stmt" and node.children[1].get_code().strip() == "TYPE_CHECKING")


# -- which lines run with a mutant -----------------------------------------------------------------


def _spans(source: str, line: int) -> Iterator[tuple[int, int]]:
    """The statement around a line (of a compound one, its head); if it runs on import, its surroundings."""
    chain = [node for node in _statements(source) if node.lineno <= line <= (node.end_lineno or 0)]
    if any(isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line for node in chain):
        yield _own_lines(chain[-1])
        return
    # which test happens to import it says nothing
    for node in reversed(chain):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.end_lineno or 0
    yield 1, len(source.splitlines())


def _own_lines(node: ast.stmt) -> tuple[int, int]:
    """First and last line of a statement, of a compound one without its body."""
    body = getattr(node, "body", None)
    return node.lineno, body[0].lineno - 1 if body else node.end_lineno or 0


@cache
def _statements(source: str) -> list[ast.stmt]:
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    return sorted(found, key=lambda node: (node.lineno, -(node.end_lineno or 0)))


# -- samples ---------------------------------------------------------------------------------------


def sample(everything: Mapping[str, Sequence[Mutant]], size: int, seed: int) -> list[Mutant]:
    """Draw about `size` mutants, from every module in proportion to its own and at least one.

    A module's mutants are taken in the order of a hash, so that a sample stays what it was when
    others come or go.
    """
    total = sum(len(found) for found in everything.values())
    chosen: list[Mutant] = []
    for found in everything.values():
        number = min(len(found), max(1, round(size * len(found) / total)))
        chosen += sorted(found, key=lambda mutant: _rank(mutant, seed))[:number]
    return sorted(chosen, key=lambda mutant: _rank(mutant, seed))


def _rank(mutant: Mutant, seed: int) -> str:
    text = f"{seed} {mutant.module} {mutant.operator} {mutant.occurrence}"
    return hashlib.sha256(text.encode()).hexdigest()
