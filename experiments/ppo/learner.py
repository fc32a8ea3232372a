"""Proximal policy optimisation by torchrl, in real environments or in one that an agent imagines.

The default settings are those of the RL Zoo for CartPole-v1
(https://github.com/DLR-RM/rl-baselines3-zoo).

References:
    Schulman et al. 2017, "Proximal policy optimization algorithms" (arXiv 1707.06347).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal
from torchrl.collectors import Collector
from torchrl.data import Bounded, OneHot
from torchrl.envs import EnvBase
from torchrl.modules import MLP, OneHotCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How policy and value are learned.

    Attributes:
        frames: environment steps of a batch, over all environments side by side.
        minibatch, epochs: how a batch is gone through.
        rate: of Adam, falling to zero over the run.
        discount, trace: gamma and lambda of generalised advantage estimation.
        clip: of the ratio of probabilities.
        entropy: weight of the entropy bonus.
        width: of the two hidden layers.
    """

    frames: int = 256
    minibatch: int = 256
    epochs: int = 20
    rate: float = 1e-3
    discount: float = 0.98
    trace: float = 0.8
    clip: float = 0.2
    entropy: float = 0.0
    width: int = 64


class Joined(nn.Module):
    """Streams side by side as one vector of floats, `(*batch, D)`, into a perceptron.

    Args:
        axes: stream -> number of its event axes.
        outputs: of the perceptron.
        width: of its hidden layers.
    """

    def __init__(self, axes: Sequence[int], outputs: int, width: int) -> None:
        super().__init__()
        self.axes = list(axes)
        self.net = MLP(out_features=outputs, num_cells=[width, width], activation_class=nn.Tanh)

    def forward(self, *streams: Tensor) -> Tensor:
        """Compute the outputs, `(*batch, outputs)`."""
        flat = [
            value.float().reshape(*value.shape[: value.ndim - axes], -1)
            for value, axes in zip(streams, self.axes, strict=True)
        ]
        found: Tensor = self.net(torch.cat(flat, -1))
        return found


class BoundedNormal(nn.Module):
    """Mean and standard deviation of an action in a Box, the second the same everywhere.

    Args:
        streams: what computes the mean, in units of half the box.
        spec: of the actions.
    """

    def __init__(self, streams: nn.Module, spec: Bounded) -> None:
        super().__init__()
        self.streams = streams
        self.low = spec.space.low.reshape(-1, spec.shape[-1])[0]  # alike in all environments
        self.high = spec.space.high.reshape(-1, spec.shape[-1])[0]
        self.log_scale = nn.Parameter(torch.zeros(spec.shape[-1]))

    def forward(self, *streams: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and standard deviation."""
        half = (self.high - self.low) / 2
        mean = (self.high + self.low) / 2 + half * torch.tanh(self.streams(*streams))
        return mean, (half * self.log_scale.exp()).expand_as(mean)


def event_normal(loc: Tensor, scale: Tensor) -> Independent:
    """A diagonal Gaussian over one axis."""
    return Independent(Normal(loc, scale), 1)


@dataclass(frozen=True)
class ActorCritic:
    """A policy and a value, made for the specs of an environment.

    Attributes:
        actor: tensordict -> action and its log probability.
        critic: tensordict -> state value.
    """

    actor: ProbabilisticActor
    critic: ValueOperator

    @classmethod
    def of(cls, env: EnvBase, keys: Sequence[str], settings: Settings) -> "ActorCritic":
        """Make both; actions are Discrete or in a Box.

        Args:
            env: whose specs they fit.
            keys: the streams that they read.
            settings: for the widths.
        """
        axes = [len(env.observation_spec[key].shape) - len(env.batch_size) for key in keys]
        spec = env.action_spec
        if isinstance(spec, Bounded):
            width = spec.shape[-1]
            module: nn.Module = BoundedNormal(Joined(axes, width, settings.width), spec)
            out_keys = ["loc", "scale"]
            law: Callable[..., torch.distributions.Distribution] = event_normal
        else:
            module = Joined(axes, int(spec.space.n), settings.width)
            out_keys = ["logits"]
            law = OneHotCategorical if isinstance(spec, OneHot) else Categorical
        actor = ProbabilisticActor(
            TensorDictModule(module, in_keys=list(keys), out_keys=out_keys),
            in_keys=out_keys,
            distribution_class=law,
            return_log_prob=True,
        )
        critic = ValueOperator(Joined(axes, 1, settings.width), in_keys=list(keys))
        return cls(actor, critic)


def learn(
    env: EnvBase, keys: Sequence[str], *, steps: int, settings: Settings, seed: int
) -> Iterator[TensorDictBase]:
    """Learn in an environment; yield every batch once it has been learned from.

    Args:
        env: environments side by side, or a single one.
        keys: the streams that the policy reads.
        steps: environment steps in all.
        settings: how it learns.
        seed: of everything.
    """
    torch.manual_seed(seed)
    env.set_seed(seed)
    both = ActorCritic.of(env, keys, settings)
    with torch.no_grad():
        both.critic(both.actor(env.reset()))  # lazy layers learn their sizes
    advantage = GAE(gamma=settings.discount, lmbda=settings.trace, value_network=both.critic)
    loss = ClipPPOLoss(
        both.actor,
        both.critic,
        clip_epsilon=settings.clip,
        entropy_bonus=bool(settings.entropy),
        entropy_coeff=settings.entropy,
        normalize_advantage=True,
    )
    optimizer = torch.optim.Adam(loss.parameters(), settings.rate)
    collector = Collector(
        env,
        both.actor,
        frames_per_batch=settings.frames,
        total_frames=steps,
        auto_register_policy_transforms=False,
    )
    for batch in collector:
        share = min(1.0, collector._frames / steps)
        optimizer.param_groups[0]["lr"] = settings.rate * (1 - share)
        with torch.no_grad():
            advantage(batch)
        _improve(loss, optimizer, batch.reshape(-1), settings)
        yield batch
    collector.shutdown()


def _improve(
    loss: ClipPPOLoss,
    optimizer: torch.optim.Optimizer,
    batch: TensorDictBase,
    settings: Settings,
) -> None:
    """Go through a batch so many times."""
    for _ in range(settings.epochs):
        for part in batch[torch.randperm(len(batch))].split(settings.minibatch):
            found = loss(part)
            total = sum(value for name, value in found.items() if name.startswith("loss_"))
            optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
            optimizer.step()
