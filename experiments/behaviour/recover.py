"""Do fits find the parameters that made the behaviour, with the right spread, and the right learner?

    python -m aif_dcpc.experiments.behaviour.recover fit          # correlation and ranks, known population
    python -m aif_dcpc.experiments.behaviour.recover group        # the same, the population inferred
    python -m aif_dcpc.experiments.behaviour.recover compare      # which learner made the behaviour
    python -m aif_dcpc.experiments.behaviour.recover compare_groups  # the same, the population unknown
    python -m aif_dcpc.experiments.behaviour.recover bound        # what no estimate could exceed

The task: four arms, all shown after each choice; on each trial one of them wins and one loses,
independently. The arm that wins in .8 of the trials changes with probability 1/20, and so does,
apart from it, the arm that loses. That all outcomes are shown, and that wins and losses go their
own ways, tells parameters apart; in the first 40 trials nothing is shown, so that habits alone
choose. `--arms 2 --blind 0` is a task with two arms, in which habits are told less well.
"""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy.stats import chisquare
from torch import Tensor

from aif_dcpc.agents.behaviour import (
    POPULATION,
    Fit,
    Learner,
    fit_behaviour,
    simulate,
)
from aif_dcpc.agents.behaviour_evidence import Subjects, compare, compare_groups
from aif_dcpc.agents.behaviour_table import Behaviour
from aif_dcpc.commands.command import run_script

SUBJECTS = 40
TRIALS = 200
CHANGES = 1 / 20
USUAL = 0.8
BINS = 10
LEARNERS = {
    "full": Learner(),
    "no habit": Learner(free=("learning_rate", "precision", "loss_preference")),
    "losses as wins": Learner(free=("learning_rate", "precision", "habit")),
    "learning rate .3": Learner(free=("precision", "loss_preference", "habit")),
}


@dataclass(frozen=True)
class Task:
    """What subjects are shown.

    Attributes:
        arms: A.
        blind: trials at the beginning whose outcomes are not shown.
    """

    arms: int = 4
    blind: int = 40

    def outcomes(self, generator: torch.Generator) -> Tensor:
        """Which arm shows an outcome in each trial, `(B, T, A)`: one mostly does, and changes."""
        size = (SUBJECTS, TRIALS)
        changes = torch.rand(size, generator=generator) < CHANGES
        jumps = torch.randint(1, self.arms, size, generator=generator)
        first = torch.randint(self.arms, (SUBJECTS, 1), generator=generator)
        usual = (first + (changes * jumps).cumsum(1)) % self.arms
        other = (usual + torch.randint(1, self.arms, size, generator=generator)) % self.arms
        holds = torch.rand(size, generator=generator) < USUAL
        shown = torch.nn.functional.one_hot(torch.where(holds, usual, other), self.arms).float()
        shown[:, : self.blind] = float("nan")
        return shown


def simulated(learner: Learner, task: Task, seed: int) -> tuple[dict[str, Tensor], Behaviour]:
    """Parameters of subjects, drawn from the population, and what they chose."""
    generator = torch.Generator().manual_seed(seed)
    outcomes = task.outcomes(generator), task.outcomes(generator)
    free = {
        name: mean + sd * torch.randn(SUBJECTS, generator=generator)
        for name, (mean, sd) in POPULATION.items()
        if name in learner.free
    }
    return free, simulate(learner, free, *outcomes, seed=seed)


def recovery(fit: Fit, free: dict[str, Tensor]) -> Iterator[tuple[str, float, Tensor]]:
    """Correlation of truth and posterior mean, and ranks of the truth among 99 draws, by parameter."""
    for name in fit.learner.free:
        draws = fit.draws[name].flatten(0, 1)
        pair = torch.stack([free[name], draws.mean(0)])
        chosen = torch.linspace(0, len(draws) - 1, 99).long()
        ranks = (draws[chosen] < free[name]).sum(0)
        yield name, float(torch.corrcoef(pair)[0, 1]), ranks


def measure_fit(task: Task, *, group: bool, seeds: range, seconds: float, particles: int) -> None:
    """Print correlations, and the probability of ranks as uneven as these."""
    learner = LEARNERS["full"]
    pooled: dict[str, list[Tensor]] = {name: [] for name in learner.free}
    for seed in seeds:
        began = time.process_time()
        free, data = simulated(learner, task, seed)
        fit = fit_behaviour(
            learner, data, group=group, max_seconds=seconds, num_particles=particles, seed=seed
        )
        found = list(recovery(fit, free))
        for name, _, ranks in found:
            pooled[name].append(ranks)
        print(
            f"seed {seed}: "
            + ", ".join(f"{name} {correlation:.3f}" for name, correlation, _ in found)
            + f"; {time.process_time() - began:.0f} s; {len(fit.draws.warnings)} warnings",
            flush=True,
        )
        for warning in fit.draws.warnings:
            print("  ", warning, flush=True)
        every = torch.cat([ranks for all_ranks in pooled.values() for ranks in all_ranks])
        counts = torch.bincount(every * BINS // 100, minlength=BINS)
        chance = chisquare(counts.numpy()).pvalue
        print(f"ranks of {len(every)}: {counts.tolist()}, p = {chance:.2f}", flush=True)


def measure_comparison(task: Task, *, seeds: range, group: bool) -> None:
    """Print how often the learner that made the behaviour has more evidence than another."""
    right = pairs = 0
    least = float("inf")
    began = time.process_time()
    for seed in seeds:
        for name, learner in LEARNERS.items():
            _, data = simulated(learner, task, 100 + seed)
            learners = list(LEARNERS.values())
            found = compare_groups(learners, data) if group else compare(learners, data).sum(1)
            ahead = found[list(LEARNERS).index(name)] - found
            others = ahead[torch.arange(len(found)) != list(LEARNERS).index(name)]
            least = min(least, float(others.min()))
            right += int((others > 0).sum())
            pairs += len(others)
            nats = ", ".join(f"{value:.1f}" for value in others.tolist())
            seconds = time.process_time() - began
            print(
                f"seed {seed}, {name}: ahead by {nats} nats; right {right} of {pairs}; {seconds:.0f} s",
                flush=True,
            )
    print(f"least by which it was ahead: {least:.1f} nats")


def measure_bound(task: Task, *, seeds: range) -> None:
    """Print the largest correlation with the truth that any function of the data has, by parameter.

    It is that of exact posterior means, the root of 1 - E[posterior variance] / prior variance, here
    by weighed draws of each subject's posterior, over subjects of all data sets.
    """
    learner = LEARNERS["full"]
    spreads = torch.tensor([POPULATION[name][1] for name in learner.free]).double()
    told: list[Tensor] = []
    for seed in seeds:
        _, data = simulated(learner, task, seed)
        generator = torch.Generator().manual_seed(seed)
        cloud = Subjects(learner, data).cloud(POPULATION, 4096, generator)
        weights = cloud.log_weights.softmax(0)[..., None]
        off = cloud.points - (weights * cloud.points).sum(0)
        told.append(1 - (weights * off.square()).sum(0) / spreads.square())
        shares = torch.cat(told)
        bound = shares.mean(0).sqrt()
        error = shares.std(0) / math.sqrt(len(shares)) / (2 * bound)
        numbers = zip(learner.free, bound.tolist(), error.tolist(), strict=True)
        each = ", ".join(f"{name} {value:.3f} (se {se:.3f})" for name, value, se in numbers)
        print(f"{len(shares)} subjects: {each}", flush=True)


def main() -> None:
    """Fit or compare, for so many simulated data sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["fit", "group", "compare", "compare_groups", "bound"])
    parser.add_argument("--seeds", type=int, default=1, help="how many data sets")
    parser.add_argument("--seconds", type=float, default=120.0, help="of processor time for a fit")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--arms", type=int, default=4)
    parser.add_argument("--blind", type=int, default=40, help="trials without outcomes")
    wanted = parser.parse_args()
    seeds = range(wanted.first, wanted.first + wanted.seeds)
    task = Task(wanted.arms, wanted.blind)
    if wanted.what.startswith("compare"):
        measure_comparison(task, seeds=seeds, group=wanted.what == "compare_groups")
    elif wanted.what == "bound":
        measure_bound(task, seeds=seeds)
    else:
        is_group = wanted.what == "group"
        measure_fit(task, group=is_group, seeds=seeds, seconds=wanted.seconds, particles=16)


if __name__ == "__main__":
    run_script(main)
