"""What agent `hierarchical` asks of spaces and settings, told before torch is imported."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import gymnasium

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.protocol import EgocentricView, number_of

STREAMS = {"view", "carried", "heading"}
OPTIONAL = {"looks"}
NEEDED = {part.name for part in fields(EgocentricView)} - OPTIONAL
Rule = tuple[str, Callable[[Any], bool]]


def _two_positive(values: Any) -> bool:
    fits = isinstance(values, tuple | list) and len(values) == 2
    return fits and all(type(value) in (int, float) and value > 0 for value in values)


POSITIVE: Rule = ("be positive", lambda value: value > 0)
CHANCE: Rule = ("lie between 0 and 1", lambda value: 0 < value < 1)
AT_LEAST_ONE: Rule = ("be at least 1", lambda value: value >= 1)
NOT_NEGATIVE: Rule = ("not be negative", lambda value: value >= 0)
EXACT: Rule = ("be 'exact'", lambda value: value == "exact")
VIEW: Rule = ("be 'egocentric_view'", lambda value: value == "egocentric_view")
RULES: Mapping[str, Rule] = {
    "knowledge": VIEW,
    "inference.update": EXACT,
    "inference.num_particles": AT_LEAST_ONE,
    "inference.num_sweeps": NOT_NEGATIVE,
    "map_size": ("be at least 8, and at most 1000", lambda value: 8 <= value <= 1000),
    "precision": POSITIVE,
    "preferences.step_cost": POSITIVE,
    "preferences.discount": CHANCE,
    "preferences.lasting": NOT_NEGATIVE,
    "search.configurations": AT_LEAST_ONE,
    "search.per_event": AT_LEAST_ONE,
    "search.min_probability": CHANCE,
    "search.passable": CHANCE,
    "replay.capacity": AT_LEAST_ONE,
    "replay.refreshed": NOT_NEGATIVE,
    "replay.sweeps": NOT_NEGATIVE,
    "prior.stay": CHANCE,
    "prior.stay_alike": CHANCE,
    "prior.nothing": CHANCE,
    "prior.deterministic": CHANCE,
    "prior.hand_matters": CHANCE,
    "prior.effect_odds": POSITIVE,
    "prior.ahead_odds": POSITIVE,
    "prior.token_concentration": POSITIVE,
    "prior.misread": ("be two positive numbers", _two_positive),
}


def check_ranges(values: Mapping[str, Any]) -> None:
    """Refuse a setting out of its range; one that is not given has its default, which is within.

    Raises:
        AgentError: there is one, by its first rule.
    """
    for path, (words, holds) in RULES.items():
        group, _, key = path.rpartition(".")
        given = values.get(group, {}) if group else values
        if isinstance(given, Mapping) and key in given and not _holds(holds, given[key]):
            raise AgentError(f"agent setting {path} must {words}.")


def _holds(rule: Callable[[Any], bool], value: Any) -> bool:
    """Whether a value keeps to a rule; what cannot be compared does not."""
    try:
        return rule(value)
    except TypeError:
        return False


def view_of(space: gymnasium.Space[Any], metadata: Mapping[str, Any]) -> EgocentricView:
    """The geometry of an egocentric view of tokens, given as such or as a mapping of its fields.

    Raises:
        AgentError: the observations are of another kind.
    """
    view = metadata.get("egocentric_view")
    if isinstance(view, Mapping) and NEEDED <= view.keys() <= NEEDED | OPTIONAL:
        view = EgocentricView(**view)
    if not isinstance(view, EgocentricView) or STREAMS - set(getattr(space, "spaces", ())):
        raise AgentError(
            "agent 'hierarchical' models egocentric symbolic views (streams view, carried and "
            "heading, and the geometry under metadata['egocentric_view']); this environment's "
            "observations are not of that kind."
        )
    return view


def check(
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    metadata: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Refuse what the agent cannot model, and settings out of their ranges."""
    number_of(action_space, "hierarchical")
    view_of(observation_space, metadata)
    check_ranges(settings)
