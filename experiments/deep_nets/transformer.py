"""A small decoder-only transformer whose blocks are learned from their own prediction errors.

    python -m aif_dcpc.experiments.deep_nets.transformer --steps 300

The task: sequences of 8 tokens out of 6 that repeat their first half; the next token is predicted
at each place, and the accuracy on the second half, which the first half determines, is reported on
fresh sequences.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Multinomial

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.deep_nets.digits import falling
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.learning import learn_step

TOKENS = 6
LENGTH = 8


class Embedding(nn.Module):
    """Token and place to a vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(TOKENS, width)
        self.places = nn.Parameter(torch.randn(LENGTH, width))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, LENGTH)` integers to `(N, LENGTH, width)`."""
        return self.tokens(x) + self.places


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, both residual, normalised before."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.register_buffer("future", torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, LENGTH, width)` in and out."""
        y = self.norms[0](x)
        x = x + self.attention(y, y, y, attn_mask=self.future, need_weights=False)[0]
        return x + self.feed(self.norms[1](x))


def transformer(width: int, heads: int, blocks: int) -> nn.Sequential:
    """Stack an embedding, attention blocks and a layer of logits."""
    return nn.Sequential(
        Embedding(width), *[Block(width, heads) for _ in range(blocks)], nn.Linear(width, TOKENS)
    )


def sequences(number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs and next tokens `(number, LENGTH)`."""
    half = torch.randint(TOKENS, (number, LENGTH // 2), generator=generator)
    whole = torch.cat([half, half, half[:, :1]], 1)
    return whole[:, :-1], whole[:, 1:]


def accuracy(net: nn.Module, generator: torch.Generator) -> float:
    """Right next tokens among those that the sequence determines."""
    x, y = sequences(500, generator)
    with torch.no_grad():
        right = net(x).argmax(-1) == y
    return float(right[:, LENGTH // 2 - 1 :].double().mean())


def learn(net: nn.Sequential, args: argparse.Namespace, generator: torch.Generator) -> None:
    """Learn by prediction errors, from fresh sequences each step; latents begin at the noisy forward pass."""
    seen = args.repeats
    model = GraphicalModel.from_sequential(
        net, args.noise, output=lambda logits: Independent(Multinomial(seen, logits=logits), 1)
    )
    engine = DCPC(model, num_particles=1)
    optimizer, schedule = falling(net, args)
    adaptation: Mapping[str, Any] = {}
    sweeps = 0
    for number in range(1, args.steps + 1):
        x, y = sequences(args.batch, generator)
        labels = seen * nn.functional.one_hot(y, TOKENS).float()
        state = engine.init({"input": x, "output": labels}).replace(
            adaptation=adaptation, sweeps=sweeps
        )
        state, _ = learn_step(engine, state, optimizer, num_sweeps=args.sweeps)
        adaptation = state.adaptation
        sweeps = state.sweeps
        schedule.step()
        if number % args.every == 0:
            print(f"prediction errors, step {number}: {accuracy(net, generator):.3f}", flush=True)


def backpropagate(net: nn.Sequential, args: argparse.Namespace, generator: torch.Generator) -> None:
    """The same net, by cross-entropy."""
    optimizer, schedule = falling(net, args)
    for number in range(1, args.steps + 1):
        x, y = sequences(args.batch, generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x).flatten(0, 1), y.flatten()).backward()
        optimizer.step()
        schedule.step()
        if number % args.every == 0:
            print(f"backpropagation, step {number}: {accuracy(net, generator):.3f}", flush=True)


def main() -> None:
    """Train both ways and print accuracies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--noise", type=float, default=0.03)
    parser.add_argument(
        "--repeats", type=int, default=1000, help="how many times every next token is seen"
    )
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--sweeps", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for way in (learn, backpropagate):
        torch.manual_seed(args.seed)
        net = transformer(args.width, args.heads, args.blocks)
        start = time.process_time()
        way(net, args, torch.Generator().manual_seed(args.seed))
        print(f"{way.__name__}: {time.process_time() - start:.0f} CPU seconds", flush=True)


if __name__ == "__main__":
    run_script(main)
