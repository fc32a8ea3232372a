"""Processor time of a learning step beside a bare evaluation: `python -m aif_dcpc.experiments.mnist.step_time`.

Bare: the log joint of the published deep latent Gaussian model at B = 512 and K = 4, with its
gradients towards every latent and every parameter, from one backward pass. Step: one exact sweep,
the parameters' gradient, Adam. One thread.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from aif_dcpc.commands.command import run_script
from aif_dcpc.inference import DCPC
from aif_dcpc.inference.images import dlgm
from aif_dcpc.inference.learning import local_log_joint, parameter_groups, reuse_gradients_step
from aif_dcpc.inference.model.state import State

BATCH = 512
PARTICLES = 4
REPEATS = 20


def main() -> None:
    """Time steps beside evaluations, and print both."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = dlgm()
    engine = DCPC(model, num_particles=PARTICLES)
    state = engine.init({"image": torch.rand(BATCH, 1, 28, 28)}, seed=0)
    for update in ("exact", "paper"):
        chosen = DCPC(model, num_particles=PARTICLES, update=update)
        chosen.generator = engine.generator
        step = Stepper(chosen, state)
        bare, found = seconds(step.bare, step.step)
        print(f"{update:6} step {found:.3f} s, bare {bare:.3f} s, ratio {found / bare:.2f}")


class Stepper:
    """A cloud that can be evaluated and learned from."""

    def __init__(self, engine: DCPC, state: State) -> None:
        self.engine = engine
        self.state = state
        self.optimizer = torch.optim.Adam(parameter_groups(engine.model, 1e-3), amsgrad=True)

    def bare(self) -> None:
        """One backward pass through the whole log joint."""
        latents = {
            name: self.state.values[name].detach().requires_grad_()
            for name in self.state.conditioning.latent
        }
        total = torch.stack(
            [
                term.sum()
                for term in local_log_joint(self.state.with_values(latents), detach=False).values()
            ]
        ).sum()
        inputs = [*latents.values(), *self.engine.model.parameters()]
        torch.autograd.backward(total, inputs=inputs)
        self.optimizer.zero_grad()

    def step(self) -> None:
        """Take one learning step."""
        self.state, _ = reuse_gradients_step(self.engine, self.state, self.optimizer)


def seconds(*actions: Callable[[], None]) -> list[float]:
    """Processor seconds of each action: the median of some rounds in turn, after two to warm up."""
    rounds = [[_once(action) for action in actions] for _ in range(2 + REPEATS)][2:]
    return [median(column) for column in zip(*rounds, strict=True)]


def _once(action: Callable[[], None]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


if __name__ == "__main__":
    run_script(main)
