"""A variational autoencoder on a chain of latents: the engine's graph as the decoder, learned by backpropagation.

q(z | x) = q(z_L | x) ... q(z_1 | z_2), each a diagonal Gaussian whose mean and scale a hidden layer
computes from the layer below; decoder and encoder climb the evidence lower bound by reparameterised
gradients (Kingma and Welling 2014, arXiv 1312.6114; Rezende et al. 2014), K samples per data point.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from aif_dcpc.inference.engine import DCPC
from aif_dcpc.inference.errors import ModelError, NonFiniteError
from aif_dcpc.inference.learning import Learner
from aif_dcpc.inference.model.densities import aligned_inputs, log_density
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import Info, State
from aif_dcpc.inference.stores import ParticleStore, with_batch

HIDDEN = 256


class Encoder(nn.Module):
    """q(z_L | x) ... q(z_1 | z_2) for latents with sizes `sizes`, the deepest last.

    Args:
        inputs: number of pixels.
        sizes: of z_L, ..., z_1.
    """

    def __init__(self, inputs: int, sizes: Sequence[int]) -> None:
        super().__init__()
        ends = zip([inputs, *sizes[:-1]], sizes, strict=True)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(a, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * b))
            for a, b in ends
        )

    def forward(self, images: Tensor, num_particles: int) -> tuple[list[Tensor], Tensor]:
        """Draws `(K, B, size)` of each latent, z_L first, and their summed log density `(K, B)`."""
        below = images.flatten(1).expand(num_particles, len(images), -1)
        drawn = []
        log_prob = torch.zeros(below.shape[:2], dtype=images.dtype, device=images.device)
        for layer in self.layers:
            law = _law(layer, below)
            below = law.rsample()
            log_prob = log_prob + law.log_prob(below)
            drawn.append(below)
        return drawn, log_prob

    def log_prob(self, images: Tensor, values: Sequence[Tensor]) -> Tensor:
        """log q of given latents `(K, B, size)`, z_L first, `(K, B)` nats."""
        below = images.flatten(1).expand(values[0].shape[0], len(images), -1)
        total = torch.zeros(below.shape[:2], dtype=images.dtype, device=images.device)
        for layer, value in zip(self.layers, values, strict=True):
            total = total + _law(layer, below).log_prob(value)
            below = value
        return total


def _law(layer: nn.Module, below: Tensor) -> Independent:
    mean, raw = layer(below).chunk(2, -1)
    return Independent(
        Normal(mean, torch.nn.functional.softplus(raw) + 1e-4, validate_args=False), 1
    )


def chain_encoder(template: State, site: str) -> Encoder:
    """An encoder of `site` for the latents of a cloud.

    Raises:
        ModelError: the latents are no vectors.
    """
    latents = tuple(reversed(template.conditioning.latent))
    if any(template.values[name].ndim != 3 for name in latents):
        raise ModelError("an encoder needs latents that are vectors: choose a graph such as dlgm.")
    pixels = template.values[site][0, 0].numel()
    return Encoder(pixels, [template.values[name].shape[-1] for name in latents])


class AmortisedLearner(Learner):
    """What learners with an encoder beside the graph have in common.

    Args:
        engine, optimizer, template, store: as `Learner`; the encoder's parameters join the
            optimiser.
        site: the observed site that the encoder reads.
        rate: of the encoder.

    Raises:
        ModelError: the latents are no chain of vectors above the observed site.
    """

    def __init__(
        self,
        engine: DCPC,
        optimizer: torch.optim.Optimizer,
        template: State,
        store: ParticleStore,
        *,
        site: str,
        rate: float,
    ) -> None:
        super().__init__(engine, optimizer, template, store)
        self.site = site
        self.latents = tuple(reversed(template.conditioning.latent))
        self.encoder: Encoder = chain_encoder(template, site)
        optimizer.add_param_group({"params": list(self.encoder.parameters()), "lr": rate})

    def state_dict(self) -> dict[str, Any]:
        """As `Learner`, with the encoder."""
        return {**super().state_dict(), "encoder": self.encoder.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` gave."""
        super().load_state_dict(state)
        self.encoder.load_state_dict(state["encoder"])


class VariationalLearner(AmortisedLearner):
    """Learns decoder and encoder by the evidence lower bound.

    The store keeps the encoder's last draws.
    """

    def step(
        self, data: Mapping[str, Tensor], indices: Tensor, masks: Mapping[str, Tensor] | None = None
    ) -> Info:
        """Climb the evidence lower bound of some data.

        `info.log_joint` holds log p at the encoder's draws.

        `info.trace["bound"]` holds log p - log q, `(K, B)` nats.

        Raises:
            NonFiniteError: the bound is not finite.
        """
        drawn, log_q = self.encoder(data[self.site], self.engine.num_particles)
        state = with_batch(self.template, data, dict(zip(self.latents, drawn, strict=True)), masks)
        log_p = _log_joint(state)
        loss = -(log_p - log_q).mean(0).sum()
        if not bool(torch.isfinite(loss)):
            raise NonFiniteError(
                f"step {self.steps}: the evidence lower bound is not finite; try a lower rate."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.store.write(indices, state.values)
        self.steps += 1
        return Info({}, log_p.detach(), {"bound": (log_p - log_q).detach()})


def _log_joint(state: State) -> Tensor:
    """log p(x, z) `(K, B)`, differentiable in values and parameters; for models without time."""
    total = torch.zeros_like(state.log_weights)
    with no_validation():
        for factor in state.conditioning.factor_graph.factors:
            inputs = aligned_inputs(state, factor)
            total = total + log_density(state, factor, inputs, 0, 0)  # masked terms are zero
    return total
