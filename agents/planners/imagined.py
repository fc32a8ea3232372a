"""The terms of expected free energy for any model, from futures that the engine imagines.

For outcomes o of particle i at one step, drawn from its kernel p_i, by nested Monte Carlo over K
particles (Rainforth et al. 2018, "On nesting Monte Carlo estimators"):

    H[o]             ~ -mean_i ln mean_j p_j(o_i)
    H[o | particle]  ~ -mean_i ln p_i(o_i)
    information gain = H[o] - H[o | particle], at most ln K

A particle holds states and parameters alike, so what is learned about either is one number here, and
novelty is 0. What outcomes of different steps tell is added up as if they told of different things.
An outcome that later slices read, a state that is seen, is predicted from imagined outcomes, which
particles do not share: what it tells is not estimated, and counts as 0. A model of that kind brings
a judge of its own, as `agents/gaussian` does.
"""

import math

import torch
from torch import Tensor

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.protocol import Preference, Situation
from aif_dcpc.inference.model.graph import Lag


def imagined_terms(situation: Situation, policies: Tensor) -> dict[str, Tensor]:
    """Judge action sequences by imagining them at every particle.

    Args:
        situation: where to begin; what outcomes tell is counted for the sites that are preferred.
        policies: `(N, H, *event)`.

    Returns:
        the terms of each step, `(N, H)` nats: "risk", "ambiguity", "information_gain", "novelty" and
            "neg_expected_log_preference".

    Raises:
        AgentError: no site has a preference.
    """
    if not situation.preferences:
        raise AgentError(
            "imagined futures are judged by the sites that are preferred, and there is none: name one "
            "with preferences={SITE: LOG_PREFERENCE}."
        )
    sites = list(situation.preferences)
    told = [name for name in sites if not _is_read_later(situation, name)]
    found = situation.engine.imagine(
        situation.state,
        {situation.action: policies},
        sites,
        log_prob=sites,
        cross_log_prob=told,
        generator=situation.generator,
    )
    preferred = sum(
        _log_preference(preference, found[name]).mean(0)
        for name, preference in situation.preferences.items()
    )
    assert isinstance(preferred, Tensor)
    ambiguity = torch.zeros_like(preferred)
    gain = torch.zeros_like(preferred)
    for name in sites:
        ambiguity = ambiguity - found[f"log_prob/{name}"].mean(0)
    if told:
        own = torch.stack([found[f"log_prob/{name}"] for name in told]).sum(0)
        crossed = torch.stack([found[f"cross_log_prob/{name}"] for name in told]).sum(0)
        gain = (own - crossed.logsumexp(1)).mean(0) + math.log(len(own))
    entropy = ambiguity + gain
    return {
        "risk": -preferred - entropy,
        "ambiguity": ambiguity,
        "information_gain": gain,
        "novelty": torch.zeros_like(ambiguity),
        "neg_expected_log_preference": -preferred,
    }


def _is_read_later(situation: Situation, name: str) -> bool:
    """Whether later slices read a site."""
    sites = situation.engine.model.sites.values()
    parents = [parent for site in sites for parent in site.parents]
    return any(isinstance(parent, Lag) and parent.site == name for parent in parents)


def _log_preference(preference: Preference, values: Tensor) -> Tensor:
    """Log preference of values `(K, N, H, *event)`, `(K, N, H)` nats."""
    return preference(values) if callable(preference) else preference[values.long()]
