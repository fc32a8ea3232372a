"""Why this action: the terms of every alternative, in words and numbers."""

from collections.abc import Sequence

from torch import Tensor

from aif_dcpc.agents.planners.protocol import Plan

SHOWN = 12  # policies
TERMS = ("risk", "ambiguity", "information_gain", "novelty")


def explain(plan: Plan, names: Sequence[str] | None = None) -> str:
    """Write a table of the best policies' expected free energy and its terms, best first, in nats.

    Args:
        plan: what the planner found.
        names: of Discrete actions; their numbers by default.
    """
    terms = [name for name in TERMS if name in plan.terms]
    heads = ["EFE", *(name.replace("_", " ") for name in terms)]
    lines = [f"{'policy':>16} " + " ".join(f"{head:>16}" for head in heads)]
    order = plan.expected_free_energy.argsort(stable=True)[:SHOWN]
    for index in order.tolist():
        numbers = [plan.expected_free_energy[index], *(plan.terms[name][index] for name in terms)]
        label = _label(plan.policies[index], names)
        lines.append(f"{label:>16} " + " ".join(f"{float(x):16.3f}" for x in numbers))
    return "\n".join(lines)


def _label(policy: Tensor, names: Sequence[str] | None) -> str:
    """Name a policy by its first actions."""
    if policy.is_floating_point():
        return " ".join(f"{x:.2f}" for x in policy[0].flatten().tolist())
    actions = policy[:4].tolist()
    return " ".join(str(a) if names is None else names[a] for a in actions)
