"""Plant one-line bugs in `inference/` and ask whether the tests notice.

    python -m aif_dcpc.experiments.mutation.mutate --sample 60 --seed 0

Run from the root of the repository. Every mutant changes one operator, comparison, condition or constant of one module;
no file is touched: the changed module is compiled in the test process. A mutant is *killed* when its tests fail, or run
over five times the usual time. The tests of a module are those in TESTS, and the first failure ends the run. Prints one
line per mutant and, last, the fraction killed.
"""

import argparse
import ast
import copy
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

EXACT, MOVES = "tests/exact/", "tests/contract/test_moves.py"
ENGINE = (EXACT + "test_engine.py", MOVES)
TESTS: dict[str, tuple[str, ...]] = {
    "distributions/discretized_normal.py": (EXACT + "test_distributions.py",),
    "pyro_import.py": (EXACT + "test_pyro_import.py",),
    "tensor_graphs.py": (EXACT + "test_pyro_import.py",),
    "sequential.py": (EXACT + "test_sequential.py",),
    "checking.py": (EXACT + "test_checking.py",),
    "geweke.py": (EXACT + "test_checking.py",),
    "learning.py": (EXACT + "test_learning.py",),
    "stores.py": (EXACT + "test_learning.py",),
    "graph.py": (*ENGINE, EXACT + "test_checking.py"),
    "lowering.py": ENGINE,
    "factors.py": ENGINE,
    "setup.py": ENGINE,
    "sampling.py": ENGINE,
    "schedule.py": ENGINE,
    "engine.py": ENGINE,
    "adaptation.py": ENGINE,
    "online.py": (EXACT + "test_engine.py",),
    "resampling.py": (EXACT + "test_engine.py",),
    "moves/chunks.py": ENGINE,
    "moves/gibbs.py": ENGINE,
    "moves/langevin.py": ENGINE,
    "moves/layout.py": ENGINE,
    "moves/preconditioning.py": ENGINE,
    "moves/proposals.py": ENGINE,
}
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
CHILD = """
import sys, importlib.machinery as m
target, mutated = sys.argv[1], sys.stdin.read()
usual = m.SourceFileLoader.get_code
def get_code(self, name):
    return compile(mutated, self.path, "exec") if self.path.endswith(target) else usual(self, name)
m.SourceFileLoader.get_code = get_code
import pytest
sys.exit(pytest.main(["-x", "-q", "--no-header", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Nodes that can be mutated, and what would happen to them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not _is_text(node):
            yield node, f"{type(node.op).__name__} -> {SWAPS[type(node.op)].__name__}"
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            yield node, f"{type(node.ops[0]).__name__} -> {SWAPS[type(node.ops[0])].__name__}"
        elif isinstance(node, ast.BoolOp):
            yield node, f"{type(node.op).__name__} -> {SWAPS[type(node.op)].__name__}"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
            yield node, f"drop {type(node.op).__name__}"
        elif isinstance(node, ast.IfExp | ast.If):
            yield node, "negate the condition"
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield node, f"{node.value} -> {not node.value}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield node, f"{node.value} -> {node.value + 1}"


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(n, ast.JoinedStr | ast.Constant) and isinstance(getattr(n, "value", ""), str)
        for n in (node.left, node.right)
    )


def mutate(node: ast.AST) -> None:
    """Change a node in place."""
    if isinstance(node, ast.BinOp | ast.BoolOp):
        node.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
    elif isinstance(node, ast.Compare):
        node.ops[0] = SWAPS[type(node.ops[0])]()  # type: ignore[call-overload]
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else node.op
        if isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.IfExp | ast.If):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
    elif isinstance(node, ast.Constant):
        node.value = node.value + 1  # type: ignore[operator]


def _annotations(tree: ast.AST) -> set[int]:
    """Nodes that never run: annotations and type arguments."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        parts = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        skipped |= {id(n) for part in parts if part is not None for n in ast.walk(part)}
    return skipped


def mutants(path: Path) -> list[tuple[int, int, str]]:
    """Number of the node among all, line and description of every mutant of a module."""
    tree = ast.parse(path.read_text())
    skipped = _annotations(tree)
    found = [(i, n.lineno, what) for i, (n, what) in enumerate(places(tree)) if id(n) not in skipped]  # type: ignore[attr-defined]
    return found


def survives(root: Path, module: str, index: int, limit: float) -> bool:
    """Whether all tests of a module pass with one mutant planted."""
    tree = ast.parse((root / module).read_text())
    changed = copy.deepcopy(tree)
    mutate([n for n, _ in places(changed)][index])
    source = ast.unparse(ast.fix_missing_locations(changed))
    command = [sys.executable, "-c", CHILD, str(Path("inference") / module), *TESTS[module]]
    try:
        done = subprocess.run(command, input=source, text=True, capture_output=True, timeout=limit, cwd=root.parent)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main() -> None:
    """Sample mutants, run their tests, print what survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modules", nargs="+", default=list(TESTS), choices=list(TESTS))
    parser.add_argument("--limit", type=float, default=600.0, help="seconds per mutant")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds in all")
    args = parser.parse_args()
    root = Path("inference").resolve()
    everything = [(m, *mutant) for m in args.modules for mutant in mutants(root / m)]
    chosen = random.Random(args.seed).sample(everything, min(args.sample, len(everything)))
    start, killed, done = time.monotonic(), 0, 0
    for module, index, line, what in chosen:
        if time.monotonic() - start > args.budget:
            break
        survived = survives(root, module, index, args.limit)
        killed, done = killed + (not survived), done + 1
        print(f"{'SURVIVED' if survived else 'killed  '} inference/{module}:{line} {what}", flush=True)
    print(f"{killed} of {done} killed ({killed / max(done, 1):.0%}); {len(everything)} possible mutants")


if __name__ == "__main__":
    main()
