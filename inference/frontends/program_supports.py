"""Which latents of a Pyro program some move can reach."""

from typing import Any

from torch.distributions import Distribution, biject_to, constraints

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.supports import INTEGER_SUPPORTS, base_law, support_of

Message = Any  # Pyro's record of one statement, by key


def innermost(distribution: Distribution) -> Distribution:
    """Return the law under all that wraps it."""
    while isinstance(base := getattr(distribution, "base_dist", None), Distribution):
        distribution = base
    return distribution


def check_coordinates(site: Message) -> None:
    """Refuse a latent that no move can reach: no coordinates, nor a finite or ordered support."""
    name = site["name"]
    family = type(innermost(site["fn"])).__name__
    support = support_of(site["fn"])
    if support is None or isinstance(support, constraints.MixtureSameFamilyConstraint):
        return
    if support.is_discrete:
        finite = base_law(site["fn"]).has_enumerate_support
        if not finite and not isinstance(support, INTEGER_SUPPORTS):
            raise ModelError(
                f"site {name!r}: no move updates a latent {family}; draw its single trials, for "
                "example dist.Categorical(probs) in a plate, and count them: "
                "one_hot(trials, size).sum(0)."
            )
        return
    if not _has_bijection(support):
        raise ModelError(
            f"site {name!r}: a latent {family} has no unconstrained coordinates; write it in terms "
            "of sites that have, for example LKJCholesky and standard deviations for a covariance."
        )


def _has_bijection(support: constraints.Constraint) -> bool:
    """Whether a support has coordinates with a Jacobian."""
    try:
        biject_to(support)
    except NotImplementedError:
        return False
    return True
