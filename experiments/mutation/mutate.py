"""Plant bugs in `inference/` and ask whether the tests notice.

    python -m aif_dcpc.experiments.mutation.mutate --sample 250 --seed 1

A stratified random sample of Cosmic Ray's mutants (`mutants.py`); each is tried against the tests
that run its line (`coverage_map.py`), fastest first, in a forked child (`trials.py`). A mutant is
*killed* when a test fails, takes over five times its usual time, or the process dies. Results are
appended to a file; a second call goes on where the first stopped. Needs `pip install -e
'.[dev,mutation]'` and Linux.
"""

import argparse
import difflib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.mutation.coverage_map import TESTS, Map, measure
from aif_dcpc.experiments.mutation.mutants import PACKAGE, Mutant, modules, mutants, sample
from aif_dcpc.experiments.mutation.trials import imported, preload, run, spent
from aif_dcpc.files import atomic
from aif_dcpc.results import Results

Attempt = dict[str, Any]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=250, help="mutants, about")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/mutation"), help="where results and the map go"
    )
    parser.add_argument(
        "--unlike", nargs="*", default=[], metavar="SEED:SAMPLE", help="samples that are left out"
    )
    parser.add_argument("--last", nargs="*", default=[], help="modules to try last")
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="MODULE", help="these modules or folders alone"
    )
    parser.add_argument("--each", type=int, help="mutants of every module, instead of --sample")
    parser.add_argument(
        "--tests", nargs="*", default=TESTS, metavar="FILE", help="test files that are asked"
    )
    parser.add_argument(
        "--again", action="store_true", help="try survivors again if tests have changed"
    )
    parser.add_argument(
        "--limit", type=float, default=60.0, help="usual seconds of the tests of one mutant in all"
    )
    parser.add_argument(
        "--budget", type=float, default=math.inf, help="processor seconds of this call"
    )
    parser.add_argument("--report", action="store_true", help="print what is known, try nothing")
    return parser.parse_args()


def attempt(mutant: Mutant, tests: Map, limit: float) -> Attempt:
    """Try one mutant against the tests that run its line."""
    chosen = tests.tests(mutant, limit)
    start = spent()
    original = (PACKAGE / mutant.module).read_text()
    changed = mutant.source()
    verdict = "survived"
    where = "no test runs it"
    if chosen:
        verdict, where = run(changed, PACKAGE / mutant.module, chosen)
    difference = [
        d for d in difflib.ndiff(original.splitlines(), changed.splitlines()) if d[0] in "+-"
    ]
    return {
        "key": mutant.key,
        "module": mutant.module,
        "line": mutant.line,
        "operator": mutant.operator,
        "change": [" ".join(d.split()) for d in difference],
        "verdict": verdict,
        "by": where,
        "tests": len(chosen),
        "suite": tests.suite,
        "seconds": round(spent() - start, 1),
    }


def _is_due(record: Attempt, tests: Map) -> bool:
    """Whether a mutant survived another state of the tests than the present one."""
    return bool(record["verdict"] == "survived" and record.get("suite") != tests.suite)


def wilson(killed: int, tried: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a fraction (Wilson 1927)."""
    p = killed / tried
    n = tried
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def report(
    everything: Mapping[str, Sequence[Mutant]],
    chosen: Sequence[Mutant],
    known: Mapping[str, Attempt],
) -> None:
    """Print a table by module, the fraction with its interval, and the survivors."""
    done = [known[m.key] for m in chosen if m.key in known]
    _print_table(everything, done)
    if done:
        _print_fraction(done, to_try=len(chosen) - len(done))
    _print_survivors(done)


def _print_table(everything: Mapping[str, Sequence[Mutant]], done: Sequence[Attempt]) -> None:
    tried = Counter(r["module"] for r in done)
    killed = Counter(r["module"] for r in done if r["verdict"] != "survived")
    print("| module | mutants | tried | killed |\n|---|---|---|---|")
    for module, found in everything.items():
        if found:
            print(f"| {module} | {len(found)} | {tried[module]} | {killed[module]} |")
    print(f"| all | {sum(map(len, everything.values()))} | {len(done)} | {killed.total()} |")


def _print_fraction(done: Sequence[Attempt], *, to_try: int) -> None:
    verdicts = Counter(r["verdict"] for r in done)
    total = len(done)
    dead = total - verdicts["survived"]
    low, high = wilson(dead, total)
    fraction = f"{dead / total:.3f} ({low:.3f} to {high:.3f})"
    print(f"\nkilled {dead} of {total}: {fraction}; {to_try} to try")
    print(f"verdicts {dict(verdicts)}, {sum(r['seconds'] for r in done):.0f} s")


def _print_survivors(done: Sequence[Attempt]) -> None:
    for record in sorted(done, key=lambda r: (r["module"], r["line"])):
        if record["verdict"] == "survived":
            print(f"{record['module']}:{record['line']} {record['operator']} {record['by']}")
            for line in record["change"]:
                print(f"    {line}")


def main() -> None:
    """Sample mutants, try them, print what is known."""
    args = arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    everything = {module: list(mutants(module)) for module in _asked(args.only)}
    chosen = _chosen(everything, args)
    results = Results(args.folder / f"seed-{args.seed}.jsonl")
    known: dict[str, Attempt] = {record["key"]: record for record in results.rows()}
    if not args.report:
        _try_all(chosen, known, results, args)
    report(everything, chosen, known)


def _asked(only: Sequence[str]) -> list[str]:
    """The modules that are named or lie in folders that are; all without a name."""
    names = tuple(name if name.endswith(".py") else f"{name.rstrip('/')}/" for name in only)
    return [module for module in modules() if not names or module.startswith(names)]


def _chosen(everything: Mapping[str, Sequence[Mutant]], args: argparse.Namespace) -> list[Mutant]:
    """Sample from the mutants that other samples have left."""
    others = [map(int, other.split(":")) for other in args.unlike]
    left_out = {m.key for seed, size in others for m in sample(everything, size, seed)}
    candidates: dict[str, list[Mutant]] = {}
    for module, found in everything.items():
        candidates[module] = [m for m in found if m.key not in left_out]
    if args.each is None:
        chosen = sample(candidates, args.sample, args.seed)
    else:
        chosen = _of_each(candidates, args.each, args.seed)
    return sorted(chosen, key=lambda m: m.module in args.last)


def _of_each(candidates: Mapping[str, Sequence[Mutant]], size: int, seed: int) -> list[Mutant]:
    """Sample so many mutants of each file."""
    some = [found for found in candidates.values() if found]
    return [mutant for found in some for mutant in sample({"": found}, size, seed)]


def _try_all(
    chosen: Sequence[Mutant], known: dict[str, Attempt], results: Results, args: argparse.Namespace
) -> None:
    """Try what is not known yet until the budget is spent, and keep what comes of it."""
    torch.set_num_threads(1)
    imports = args.folder / "imports.json"
    if not imports.exists():
        with atomic(imports) as file:
            file.write_text(json.dumps(imported(list(args.tests))))
    preload(json.loads(imports.read_text()))
    tests = measure(args.folder / "map.json", tuple(args.tests), budget=args.budget)
    for mutant in chosen:
        record = known.get(mutant.key)
        if spent() < args.budget and (record is None or (args.again and _is_due(record, tests))):
            known[mutant.key] = attempt(mutant, tests, args.limit)
            results.append(known[mutant.key])


if __name__ == "__main__":
    run_script(main)
