"""The terms of expected free energy for any model, from futures that the engine imagines.

For outcomes o of particle i at one step, drawn from its kernel p_i, by nested Monte Carlo over K
particles (Rainforth et al. 2018, "On nesting Monte Carlo estimators"):

    H[o]             ~ -mean_i ln mean_j p_j(o_i)
    H[o | particle]  ~ -mean_i ln p_i(o_i)
    information gain = H[o] - H[o | particle], at most ln K

A particle holds states and parameters alike, so what is learned about either is one number here, and
novelty is 0. What outcomes of different steps tell is added up as if they told of different things.
"""

import torch
from torch import Tensor

from aif_dcpc.agents.planners.protocol import Preference, Situation


def imagined_terms(situation: Situation, policies: Tensor) -> dict[str, Tensor]:
    """Judge action sequences by imagining them at every particle.

    Args:
        situation: where to begin; what outcomes tell is counted for the sites that are preferred.
        policies: `(N, H, *event)`.

    Returns:
        the terms of each step, `(N, H)` nats: "risk", "ambiguity", "information_gain", "novelty" and
            "neg_expected_log_preference".
    """
    sites = list(situation.preferences)
    found = situation.engine.imagine(
        situation.state,
        {situation.action: policies},
        sites,
        log_prob=sites,
        cross_log_prob=sites,
        generator=situation.generator,
    )
    preferred = sum(
        _log_preference(preference, found[name]).mean(0)
        for name, preference in situation.preferences.items()
    )
    own = sum(found[f"log_prob/{name}"] for name in sites)
    crossed = sum(found[f"cross_log_prob/{name}"] for name in sites)
    assert isinstance(own, Tensor) and isinstance(crossed, Tensor) and isinstance(preferred, Tensor)
    ambiguity = -own.mean(0)
    entropy = -(crossed.logsumexp(1) - torch.tensor(float(len(own))).log()).mean(0)
    return {
        "risk": -preferred - entropy,
        "ambiguity": ambiguity,
        "information_gain": entropy - ambiguity,
        "novelty": torch.zeros_like(ambiguity),
        "neg_expected_log_preference": -preferred,
    }


def _log_preference(preference: Preference, values: Tensor) -> Tensor:
    """Log preference of values `(K, N, H, *event)`, `(K, N, H)` nats."""
    return preference(values) if callable(preference) else preference[values.long()]
