"""Step sizes and curvatures that gradient moves learn while they warm up.

The curvature of a factor is estimated by the secant condition: regress the change of its scores on
the change of its inputs over all particles, data and slices, `H = -E[dx dx']^-1 E[dx dscore']`. The
precision of a whole chunk of slices is assembled from these blocks (block-tridiagonal for a chain),
so that for a linear-Gaussian model a step of size 1 is an exact Gibbs draw of the chunk. Step sizes
follow Robbins-Monro towards an acceptance of .57.

Adapting from the very particles that move does not preserve the target: the engine adapts while
warming up, and for as many sweeps whenever the target has moved (a series that has grown, an
intervention).
"""

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

TARGET_ACCEPTANCE = 0.57
MAX_STEP = 1.5
MIN_STEP = 1e-5
FOLLOWING = 20  # updates made when learning resumes: later gains would be too small to follow
MOST_ROOTS = 12  # two lengths of a series, in every way of cutting it
FAR = 1e4  # changes of a score this many times the usual size are left out of the curvature
LEAST_CURVATURE = 0.01  # of the mean, for eigenvalues of an indefinite curvature
NEWTON_STEPS = 24  # enough for eigenvalues a thousand times smaller than the matrix
RIDGES = (1e-6, 1e-2, 1e-1, 1.0, 10.0, 1000.0)


@dataclass(frozen=True)
class Secant:
    """Second moments of input changes and score changes of one factor.

    Attributes:
        xx: `(N, N)` for dense curvature or `(N,)` for diagonal, mean of dx dx'.
        xy: same shape, mean of dx dscore'.
        samples: effective number of changes behind the moments.
    """

    xx: Tensor
    xy: Tensor
    samples: Tensor

    def curvature(self) -> Tensor:
        """Estimated negative Hessian, symmetric, `(N, N)` or `(N,)`.

        It is shrunk to its diagonal where data are few.

        As long as no change could be used it is one, as before anything was learned: the step then
        shrinks until proposals are accepted, and the curvature is learned from those.
        """
        known = self.samples > 0
        if self.xx.ndim == 1:
            diagonal = -self.xy / self.xx.clamp_min(torch.finfo(self.xx.dtype).tiny)
            return torch.where(known, diagonal, torch.ones_like(diagonal))
        size = self.xx.shape[0]
        moved = (
            self.xx.diagonal() > 0
        )  # inputs that are observed everywhere never move: as curved as the others
        variance = torch.where(moved, self.xx.diagonal(), torch.ones_like(self.xx.diagonal()))
        diagonal = -self.xy.diagonal() / variance
        usual = diagonal.abs().sum() / moved.sum().clamp_min(1)
        diagonal = torch.where(moved, diagonal, usual)
        weight = size / (size + self.samples)
        left = self.xx * (1 - weight) + torch.diag(variance) * (weight + 1e-6)
        right = -self.xy * (1 - weight) + torch.diag(variance * diagonal) * (weight + 1e-6)
        solved, _ = torch.linalg.solve_ex(left, right)
        eye = torch.eye(size, dtype=solved.dtype, device=solved.device)
        return torch.where(known, 0.5 * (solved + solved.mT), eye)

    def updated(self, xx: Tensor, xy: Tensor, samples: Tensor, gain: float) -> "Secant":
        """Moments moved towards a new estimate by `gain`: not at all if nothing is new, wholly if nothing was known."""
        share = torch.where(samples > 0, torch.where(self.samples > 0, gain, 1.0), 0.0).to(xx.dtype)
        kept = self.samples * (1 - share)
        return Secant(
            torch.lerp(self.xx, xx, share), torch.lerp(self.xy, xy, share), kept + samples
        )


def root_of_inverse(precision: Tensor, *, magnitude: bool = False) -> Tensor:
    """R with R R' = precision^-1, made positive definite where it is not, without host synchronisation.

    Args:
        precision: `(C, N, N)`, or diagonals `(C, N)`.
        magnitude: whether an indefinite matrix is first tried with the absolute values of its
            eigenvalues, which keeps the scales that are known, before ridges blur them; half a
            millisecond for N = 64.

    Returns:
        upper triangular `(C, N, N)`, or diagonals `(C, N)`.
    """
    if precision.ndim == 2:
        scale = precision.abs().mean(-1, keepdim=True).clamp_min(1e-12)
        return torch.maximum(precision.abs(), 1e-3 * scale).rsqrt()
    size = precision.shape[-1]
    eye = torch.eye(size, dtype=precision.dtype, device=precision.device)
    scale = precision.diagonal(dim1=-2, dim2=-1).abs().mean(-1).clamp_min(1e-12)[:, None, None]
    ridges = RIDGES if size <= 256 else RIDGES[::2]  # large factorisations are dear
    tries = [precision + ridge * scale * eye for ridge in ridges]
    if magnitude:
        tries.insert(1, _magnitude(precision, LEAST_CURVATURE * scale))
    factors, status = torch.linalg.cholesky_ex(torch.stack(tries))
    first = (status == 0).int().argmax(0)
    chosen = factors.gather(0, first[None, :, None, None].expand(1, *precision.shape))[0]
    return torch.linalg.solve_triangular(chosen, eye.expand_as(chosen), upper=False).mT


def _magnitude(matrix: Tensor, least: Tensor) -> Tensor:
    """(H H + least^2)^(1/2): H `(C, N, N)` with the absolute values of its eigenvalues, none below `least` `(C, 1, 1)`.

    By the coupled Newton-Schulz iteration, which needs products of matrices alone (Higham 2008,
    Functions of Matrices, section 6.7; a metric such as this one: Betancourt 2013, arXiv
    1212.4693).
    """
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
    square = torch.baddbmm(least.square() * eye, matrix, matrix)
    norm = torch.linalg.matrix_norm(square)[:, None, None]
    root = square / norm
    inverse = eye
    constant = 1.5 * eye
    for _ in range(NEWTON_STEPS):
        change = torch.baddbmm(constant, inverse, root, alpha=-0.5)
        root = torch.bmm(root, change)
        inverse = torch.bmm(change, inverse)
    return norm.sqrt() * 0.5 * (root + root.mT)


T = TypeVar("T")
Sums = tuple[Tensor, ...]
Summing = Generator[Sums, Sums, Sums]  # yields sums over the data at hand, is sent those over all


def of_all_data(summing: Generator[Sums, Sums, T]) -> T:
    """What comes of sums where the data at hand are all data."""
    sums = next(summing)
    while True:
        try:
            sums = summing.send(sums)
        except StopIteration as done:
            found: T = done.value
            return found


def secant_sums(dx: Tensor, dscore: Tensor, dense: bool) -> Summing:
    """Sums of products of changes `(num_changes, N)`, and how many changes were usable."""
    products = dx * dscore
    usable = yield from _usable(products)
    if dense:
        dx = _cleared(dx.clone(), usable)
        dscore = _cleared(dscore.clone(), usable)
        xx = dx.mT @ dx
        xy = dx.mT @ dscore
    else:
        xx = _cleared(dx.square(), usable).sum(0)
        xy = _cleared(products, usable).sum(0)
    return (yield (xx, xy, usable.sum()))


def _usable(products: Tensor) -> Generator[Sums, Sums, Tensor]:
    """`(num_changes, 1)`: changes that are finite, and no more than FAR times the usual (geometric mean) size.

    One proposal far into a tail would otherwise swamp, or overflow, the moments of all others for
    good.

    Args:
        products: of input changes and score changes, `(num_changes, N)`.
    """
    size = products.abs().sum(-1, keepdim=True)
    finite = torch.isfinite(size)
    moved = finite & (size > 0)
    logs = torch.where(
        moved, torch.log(torch.where(moved, size, torch.ones_like(size))), torch.zeros_like(size)
    )
    sum_of_logs, number = yield (logs.sum(), moved.sum())
    usual = sum_of_logs / number.clamp_min(1)
    return finite & (logs < usual + math.log(FAR))


def _cleared(x: Tensor, usable: Tensor) -> Tensor:
    """`x` `(num_changes, N)`, in place, with zeros where a change is not usable (five times as fast as `where`)."""
    return x.nan_to_num_(0.0, 0.0, 0.0).mul_(usable)


@dataclass(frozen=True)
class SiteAdaptation:
    """What a gradient move has learned about one site.

    Attributes:
        log_steps: by proposal and chunk width, 0-dim tensors.
        secants: by factor key.
        roots: of the preconditioners, by (width, gap, phase, length); rebuilt after each change of
            the secants.
        strides: step constants, by proposal and chunk width; rebuilt after each change of the
            steps.
        updates: number of updates so far, by proposal and chunk width (host integers).
    """

    log_steps: Mapping[tuple[str, int], Tensor] = field(default_factory=dict)
    secants: Mapping[str, Secant] = field(default_factory=dict)
    roots: Mapping[tuple[int, int, int, int], Tensor] = field(default_factory=dict)
    strides: Mapping[tuple[str, int], tuple[Tensor, ...]] = field(default_factory=dict)
    updates: Mapping[tuple[str, int], int] = field(default_factory=dict)

    def settled(self) -> "SiteAdaptation":
        """Return the knowledge in use; processes that share the learning exchange what is outstanding first."""
        return self

    def log_step(self, key: tuple[str, int], like: Tensor) -> Tensor:
        """Current log step of a proposal at a chunk width; starts at log .5."""
        kept = self.log_steps.get(key)
        return torch.full((), -0.7, dtype=like.dtype, device=like.device) if kept is None else kept

    def stepped(self, key: tuple[str, int], acceptance: Tensor, like: Tensor) -> "SiteAdaptation":
        """Robbins-Monro step towards the target acceptance, gain t^-.6."""
        count = self.updates.get(key, 0)
        move = (count + 1) ** -0.6 * 2 * (acceptance - TARGET_ACCEPTANCE)
        log_step = (self.log_step(key, like) + move).clamp(math.log(MIN_STEP), math.log(MAX_STEP))
        steps = {**self.log_steps, key: log_step}
        updates = {**self.updates, key: count + 1}
        return replace(self, log_steps=steps, updates=updates, strides={})

    def learned(
        self, key: str, dx: Tensor, dscore: Tensor, dense: bool, count: int
    ) -> "SiteAdaptation":
        """Take in changes `(num_changes, N)` of one factor's inputs and scores."""
        return self.with_secant(key, of_all_data(secant_sums(dx, dscore, dense)), len(dx), count)

    def with_secant(self, key: str, sums: Sums, number: int, count: int) -> "SiteAdaptation":
        """Take in sums over changes of one factor, and how many there were."""
        xx, xy, used = sums
        known = self.secants.get(key)
        samples = (used * (xx > 0).any()).to(xx.dtype)
        if known is None:
            secant = Secant(xx / number, xy / number, samples)
        else:
            secant = known.updated(xx / number, xy / number, samples, (count + 1) ** -0.6)
        return replace(self, secants={**self.secants, key: secant}, roots={})

    def resumed(self) -> "SiteAdaptation":
        """Return the same knowledge with gains that can follow a target that drifts, as series grow."""
        return replace(self, updates={k: min(n, FOLLOWING) for k, n in self.updates.items()})

    def kept_root(self, key: tuple[int, int, int, int], root: Tensor) -> "SiteAdaptation":
        """Remember a root, and forget the oldest: those of a series that grows would pile up."""
        newest = list(self.roots.items())[1 - MOST_ROOTS :]
        return replace(self, roots={**dict(newest), key: root})

    def reopened(self) -> "SiteAdaptation":
        """The same knowledge with gains restarted, for a target that has moved (other factors may be active)."""
        return replace(self, roots={}, updates={})
