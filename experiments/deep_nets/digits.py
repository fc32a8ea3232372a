"""A 12-layer classifier of digits: by prediction errors, by backpropagation, or last layer only.

    python -m aif_dcpc.experiments.deep_nets.digits

The last row trains the output layer alone on the fixed layers below: what the deep layers' learning
adds is the difference to it. Prints one line every `--every` steps and one table row per way.
"""

import argparse
import time
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.distributions import Multinomial
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from aif_dcpc.commands.command import run_script
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.learning import learn_step


class Residual(nn.Module):
    """x + gain * tanh(W x + b), W orthogonal at the start."""

    def __init__(self, width: int, gain: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.gain = gain
        nn.init.orthogonal_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, width)` in and out."""
        return x + self.gain * torch.tanh(self.linear(x))


def classifier(width: int, depth: int, gain: float) -> nn.Sequential:
    """`depth` layers with weights: one in, `depth - 2` residual ones, one out."""
    hidden = [Residual(width, gain) for _ in range(depth - 2)]
    return nn.Sequential(nn.Linear(64, width), *hidden, nn.Linear(width, 10))


def digits(hold_out: bool = False) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Standardised pixels and labels, 1347 to train on and 450 to test on.

    Or a fifth of the 1347 in the place of the test images, to choose settings by.
    """
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels, dtype=torch.float32)
    train, test = train_test_split(
        torch.arange(len(x)), test_size=0.25, random_state=0, stratify=labels
    )
    if hold_out:
        train, test = train_test_split(train, test_size=0.2, random_state=0, stratify=labels[train])
    x = (x - x[train].mean(0)) / (x[train].std(0) + 1.6)
    y = torch.tensor(labels)
    return (x[train], y[train]), (x[test], y[test])


def accuracy(net: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """Fraction of right labels of the net without noise."""
    with torch.no_grad():
        return float((net(data[0]).argmax(-1) == data[1]).double().mean())


def falling(net: nn.Module, args: argparse.Namespace) -> tuple[Optimizer, LRScheduler]:
    """Adam at a rate that falls to zero along a cosine, so that late steps average the particles' noise."""
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=args.rate)
    return optimizer, CosineAnnealingLR(optimizer, args.steps)


def by_prediction_errors(
    net: nn.Sequential, x: Tensor, y: Tensor, args: argparse.Namespace
) -> Callable[[], object]:
    """One step: sweep the latents of all data, then every layer follows its own latent's error."""
    seen = args.repeats
    model = GraphicalModel.from_sequential(
        net, args.noise, output=lambda logits: Multinomial(seen, logits=logits)
    )
    engine = DCPC(model, num_particles=1)
    labels = seen * nn.functional.one_hot(y, 10).to(x.dtype)
    state = engine.init({"input": x, "output": labels}, seed=args.seed)
    optimizer, schedule = falling(net, args)

    def step() -> object:
        nonlocal state
        state, info = learn_step(engine, state, optimizer, num_sweeps=args.sweeps)
        schedule.step()
        return info

    return step


def by_backpropagation(
    net: nn.Sequential, x: Tensor, y: Tensor, args: argparse.Namespace
) -> Callable[[], object]:
    """One step of cross-entropy descent on all data."""
    optimizer, schedule = falling(net, args)

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()

    return step


def last_layer_only(
    net: nn.Sequential, x: Tensor, y: Tensor, args: argparse.Namespace
) -> Callable[[], object]:
    """As backpropagation, with all layers but the last held fixed."""
    for parameter in net[:-1].parameters():
        parameter.requires_grad_(False)
    return by_backpropagation(net, x, y, args)


WAYS = {
    "prediction errors": by_prediction_errors,
    "backpropagation": by_backpropagation,
    "last layer only": last_layer_only,
}


def main() -> None:
    """Train the three ways and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--gain", type=float, default=0.3)
    parser.add_argument("--noise", type=float, default=0.03)
    parser.add_argument(
        "--repeats", type=int, default=1000, help="how many times every label is seen"
    )
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--sweeps", type=int, default=1)
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument(
        "--hold-out", action="store_true", help="test on a fifth of the training data"
    )
    args = parser.parse_args()
    train, test = digits(args.hold_out)
    for way in args.ways:
        torch.manual_seed(args.seed)
        net = classifier(args.width, args.depth, args.gain)
        step = WAYS[way](net, *train, args)
        start = time.process_time()
        for number in range(1, args.steps + 1):
            step()
            if number % args.every == 0:
                print(
                    f"{way}, step {number}: train {accuracy(net, train):.3f}, test {accuracy(net, test):.3f}",
                    flush=True,
                )
        seconds = time.process_time() - start
        print(
            f"| {way} | {args.seed} | {accuracy(net, train):.3f} | {accuracy(net, test):.3f} | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    run_script(main)
