"""Why this action: the four terms of every alternative, in words and numbers."""

from collections.abc import Sequence

from aif_dcpc.agents.gridworld.planning.planner import Plan


def explain(plan: Plan, names: Sequence[str] | None = None) -> str:
    """A table of the expected free energy of every first action and its terms, best first, in nats.

    Args:
        plan: what the planner found.
        names: of the actions; numbers by default.
    """
    labels = names or [str(a) for a in range(len(plan.expected_free_energy))]
    lines = [
        f"{'action':>12} {'EFE':>9} {'risk':>9} {'ambiguity':>9} {'info gain':>9} {'novelty':>9}"
    ]
    for action in plan.expected_free_energy.argsort(kind="stable").tolist():
        terms = (
            plan.expected_free_energy,
            plan.risk,
            plan.ambiguity,
            plan.information_gain,
            plan.novelty,
        )
        lines.append(f"{labels[action]:>12} " + " ".join(f"{term[action]:9.3f}" for term in terms))
    return "\n".join(lines)
