"""Langevin predictive coding: an amortised encoder starts the particles, unadjusted Langevin steps carry them on.

Each step draws particles from q(z | x), moves them along the gradient of the log joint with noise, learns the generative
parameters from where they end, and lets the encoder climb log q at the moved particles, the forward divergence
KL(posterior || q) up to a constant (Zahid, Guo, Fountas 2023, arXiv 2311.13664, whose forward-divergence variant this
is). Particles start afresh at every visit of a datum; the store keeps the last ones.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.baselines.vae import Encoder, chain_encoder
from aif_dcpc.inference.engine import DCPC
from aif_dcpc.inference.learning import Learner, learn_step
from aif_dcpc.inference.state import Info, State
from aif_dcpc.inference.stores import ParticleStore, rebind


class LangevinCodingLearner(Learner):
    """Learns a graph from Langevin particles that an encoder starts, and the encoder from where they end.

    Args:
        engine: whose sweep moves the particles, for LPC an `UnadjustedLangevin` with its inner steps.
        optimizer, template, store: as `Learner`; the encoder's parameters join the optimiser.
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
        self.site, self.latents = site, tuple(reversed(template.problem.latent))
        self.encoder: Encoder = chain_encoder(template, site)
        optimizer.add_param_group({"params": list(self.encoder.parameters()), "lr": rate})

    def step(self, data: Mapping[str, Tensor], indices: Tensor, masks: Mapping[str, Tensor] | None = None) -> Info:
        """Start particles by the encoder, move them, learn the graph and then the encoder.

        `info.trace["encoder"]` holds log q at the moved particles, `(K, B)` nats.

        Raises:
            NonFiniteError: as `learn_step`.
        """
        images = data[self.site]
        with torch.no_grad():
            started, _ = self.encoder(images, self.engine.num_particles)
        state = rebind(self.template, data, dict(zip(self.latents, started, strict=True)), masks)
        state, info = learn_step(self.engine, state, self.optimizer)
        fit = self.encoder.log_prob(images, [state.values[name].detach() for name in self.latents])
        self.optimizer.zero_grad(set_to_none=True)
        (-fit.mean(0).sum()).backward()
        self.optimizer.step()
        self.store.write(indices, state.values)
        self.steps += 1
        return Info(info.acceptance, info.log_joint, {"encoder": fit.detach()})

    def state_dict(self) -> dict[str, Any]:
        """As `Learner`, with the encoder."""
        return {**super().state_dict(), "encoder": self.encoder.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` gave."""
        super().load_state_dict(state)
        self.encoder.load_state_dict(state["encoder"])
