"""Does a run forget where its particles were? A few looks at the cloud while it sweeps.

Sixteen clouds, evenly spread over the sweeps after warming up, are kept as they are, and compared in
the end: split R-hat on ranks, particle by particle. Particles that are far apart for as long as the
run lasts, in modes or in a region that is left too seldom, have not been shown to be a sample.
"""

import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.queries.ranks import rank_diagnostics

NUMBER = 16
LEAST_SWEEPS = 160  # after warming up; a shorter run is mostly somebody's pilot
MAX_R_HAT = 1.5  # a run of less than about two times that it takes to forget
MOST_COLUMNS = 1000  # numbers of a site that are compared, evenly chosen
LEAST_PARTICLES = 4


@dataclass
class Looks:
    """Clouds of one run, now and then.

    Attributes:
        since: of the cloud's sweeps, how many were made before the first that counts.
        every: sweeps between looks; 0 where the run is too short to tell.
        sweeps: how many have been made after warming up.
        clouds: values by site, unconstrained.
    """

    since: int
    every: int
    sweeps: int = 0
    clouds: list[dict[str, Tensor]] = field(default_factory=list)

    @classmethod
    def over(cls, state: State, num_sweeps: int, warmup: int, *, judged: bool) -> "Looks":
        """Looks over so many sweeps of a cloud, those of its warm-up left out."""
        since = max(state.opened + warmup, state.sweeps)
        number = state.sweeps + num_sweeps - since
        return cls(since, number // NUMBER if judged and number >= LEAST_SWEEPS else 0)

    def look(self, state: State) -> None:
        """Keep the cloud after a sweep if it is due."""
        self.sweeps = max(state.sweeps - self.since, 0)
        if self.every and self.sweeps and self.sweeps % self.every == 0:
            self.clouds.append({n: state.values[n] for n in state.conditioning.latent})

    def warn(self, state: State) -> None:
        """Warn of sites whose particles stay apart (reads from the device: call it after a run).

        Warns:
            ConvergenceWarning: one sentence for the worst site, with its remedy.
        """
        if len(self.clouds) < NUMBER or state.num_particles < LEAST_PARTICLES:
            return
        names = [n for n in state.conditioning.latent if n not in state.conditioning.circular]
        found = [(self._r_hat(name), name) for name in names]
        worst, name = max(found, default=(1.0, ""))
        if worst > MAX_R_HAT:
            warnings.warn(
                f"site {name!r}: particles stay apart over the {self.sweeps} sweeps after warming up (R-hat "
                f"{worst:.2g}): they have not been shown to be a sample; run more sweeps, call engine.sample(data), "
                "or engine.temper(data) where several modes are possible.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _r_hat(self, name: str) -> float:
        trace = torch.stack([cloud[name].flatten(1) for cloud in self.clouds])
        step = -(-trace.shape[-1] // MOST_COLUMNS)
        found = rank_diagnostics(trace[..., ::step].double()).r_hat
        return float(torch.nan_to_num(found, nan=1.0).max())
