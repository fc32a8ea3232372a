"""Does a run forget where its particles were? A few looks at the cloud while it sweeps.

Sixteen clouds, evenly spread over the sweeps after warming up, are kept as they are, with their log
densities, and compared in the end. Two things are no sample: particles that stay apart from each other
for as long as the run lasts, in modes or in a region that is left too seldom (split R-hat on ranks); and
particles of which every look lies far below all others in log density, few as they may be. Far in value
alone is not enough: so are draws from a heavy tail, whose density is low there, but never by so much.
Draws from the posterior that do not move remain a sample; only what is recorded of them is worth little.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from aif_dcpc.inference.model.densities import log_joint
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import POSTERIOR, State
from aif_dcpc.inference.queries.ranks import rank_diagnostics

NUMBER = 16
LEAST_SWEEPS = 160  # after warming up; a shorter run is mostly somebody's pilot
LEAST_FIRST_SWEEPS = 40  # straight from the prior, to fetch other particles; nothing is said before
MAX_R_HAT = 1.5  # a run of less than about two times that it takes to forget
MOST_COLUMNS = 1000  # numbers of a site that are compared, evenly chosen
MOST_NUMBERS = 500_000  # of all looks and particles together
LEAST_PARTICLES = 4
MOST_PARTICLES = 256  # that are compared
FAR = 30.0  # nats below the median
FAR_SPREADS = 10.0  # and so many robust standard deviations, for models whose density varies a lot
NORMAL = 1.4826  # standard deviation over the median distance from the median, of a Gaussian


@dataclass
class Looks:
    """Clouds of one run, now and then.

    Attributes:
        since: of the cloud's sweeps, how many were made before the first that counts.
        every: sweeps between looks; 0 where the run is too short to tell.
        sweeps: how many have been made after warming up.
        clouds: values by site, unconstrained.
        heights: log joint of each cloud, `(K, B)` nats.
    """

    since: int
    every: int
    sweeps: int = 0
    clouds: list[dict[str, Tensor]] = field(default_factory=list)
    heights: list[Tensor] = field(default_factory=list)

    @classmethod
    def over(cls, state: State, num_sweeps: int, warmup: int, *, least: int | None) -> "Looks":
        """Looks over so many sweeps of a cloud, those of its warm-up left out.

        There are none where fewer than `least` are left, or it is None.
        """
        since = max(state.opened + warmup, state.sweeps)
        number = state.sweeps + num_sweeps - since
        return cls(since, 0 if least is None or number < least else number // NUMBER)

    def look(self, state: State) -> None:
        """Keep the cloud after a sweep if it is due."""
        self.sweeps = max(state.sweeps - self.since, 0)
        if self.every and self.sweeps and self.sweeps % self.every == 0:
            self.clouds.append({n: state.values[n] for n in state.conditioning.latent})
            with no_validation(), torch.no_grad():
                self.heights.append(log_joint(state))

    def doubts(self, state: State) -> list[str]:
        """Say why the cloud is no sample, in one sentence with its remedy; nothing where it may be one.

        Reads from the device: call it after a run.
        """
        if len(self.clouds) < NUMBER or state.num_particles < LEAST_PARTICLES:
            return []
        names = [n for n in state.conditioning.latent if n not in state.conditioning.circular]
        worst, name = max(((self._r_hat(name), name) for name in names), default=(1.0, ""))
        if worst > self._bound():
            return [self._said_of_apart(name, worst, state)]
        behind = float(left_behind(torch.stack(self.heights)).double().mean())
        if behind:
            return [
                f"{behind:.2%} of the particles lie far below the others in log density for all of the "
                f"{self.sweeps} sweeps after warming up: they have not arrived, and means and variances are "
                "theirs as well; run more sweeps, or call engine.sample(data)."
            ]
        return []

    def _said_of_apart(self, name: str, r_hat: float, state: State) -> str:
        """One sentence with its remedy, by what is known of the cloud."""
        if state.origin == POSTERIOR:
            return (
                f"site {name!r}: the particles are draws from the posterior, but have hardly moved over the "
                f"{self.sweeps} sweeps after warming up (R-hat {r_hat:.2g}): what is recorded is worth little "
                "more than one draw of each; call engine.sample(data)."
            )
        return (
            f"site {name!r}: particles stay apart over the {self.sweeps} sweeps after warming up (R-hat "
            f"{r_hat:.2g}): they have not been shown to be a sample; run more sweeps, call "
            "engine.sample(data), or engine.temper(data) where several modes are possible."
        )

    def _bound(self) -> float:
        """The largest R-hat of a run that may be a sample; shorter runs forget less."""
        return MAX_R_HAT * max(1.0, LEAST_SWEEPS / max(self.sweeps, 1))

    def _r_hat(self, name: str) -> float:
        trace = torch.stack([cloud[name].flatten(1) for cloud in self.clouds])
        trace = trace[:, :: -(-trace.shape[1] // MOST_PARTICLES)]
        most = min(MOST_COLUMNS, max(MOST_NUMBERS // trace[..., 0].numel(), 1))
        step = -(-trace.shape[-1] // most)
        found = rank_diagnostics(trace[..., ::step].double()).r_hat
        return float(torch.nan_to_num(found, nan=1.0).max())


def left_behind(heights: Tensor) -> Tensor:
    """Tell which particles' log densities `(S, K, B)` lie far below the others' in every look, `(K, B)`."""
    x = heights.double()
    middle = x.flatten(0, 1).median(0).values
    spread = NORMAL * (x.flatten(0, 1) - middle).abs().median(0).values
    return x.amax(0) < middle - torch.clamp(FAR_SPREADS * spread, min=FAR)
