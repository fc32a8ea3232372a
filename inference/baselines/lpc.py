"""Langevin predictive coding: an amortised encoder starts the particles, unadjusted Langevin steps carry them on.

Each step draws particles from q(z | x), moves them along the gradient of the log joint with noise,
learns the generative parameters from where they end, and lets the encoder climb log q at the moved
particles, the forward divergence KL(posterior || q) up to a constant (Zahid, Guo, Fountas 2023,
arXiv 2311.13664, whose forward-divergence variant this is). Particles start afresh at every visit
of a data point; the store keeps the last ones.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from aif_dcpc.inference.baselines.vae import AmortisedLearner
from aif_dcpc.inference.learning import learn_step
from aif_dcpc.inference.model.state import Info
from aif_dcpc.inference.stores import with_batch


class LangevinCodingLearner(AmortisedLearner):
    """Learns a graph from Langevin particles that an encoder starts, and the encoder from where they end.

    The engine is an `UnadjustedLangevin` with its inner steps.
    """

    def step(
        self, data: Mapping[str, Tensor], indices: Tensor, masks: Mapping[str, Tensor] | None = None
    ) -> Info:
        """Start particles by the encoder, move them, learn the graph and then the encoder.

        `info.trace["encoder"]` holds log q at the moved particles, `(K, B)` nats.

        Raises:
            NonFiniteError: as `learn_step`.
        """
        images = data[self.site]
        with torch.no_grad():
            started, _ = self.encoder(images, self.engine.num_particles)
        state = with_batch(
            self.template, data, dict(zip(self.latents, started, strict=True)), masks
        )
        state, info = learn_step(self.engine, state, self.optimizer)
        fit = self.encoder.log_prob(images, [state.values[name].detach() for name in self.latents])
        self.optimizer.zero_grad(set_to_none=True)
        (-fit.mean(0).sum()).backward()
        self.optimizer.step()
        self.store.write(indices, state.values)
        self.steps += 1
        return Info(info.acceptance, info.log_joint, {"encoder": fit.detach()})
