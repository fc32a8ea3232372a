"""What a grid agent is given before it has seen anything, in sentences: all of it."""

from aif_dcpc.agents.gridworld.model.conditionals import HAND_ERROR
from aif_dcpc.agents.gridworld.rewards import FACTOR
from aif_dcpc.agents.gridworld.settings import HierarchicalSettings
from aif_dcpc.agents.gridworld.wanderers import OFTEN
from aif_dcpc.agents.protocol import EgocentricView


def knowledge_of(view: EgocentricView, settings: HierarchicalSettings) -> tuple[str, ...]:
    """Say what is given; everything else is learned.

    Args:
        view: geometry of the view.
        settings: of the agent.
    """
    prior = settings.prior
    preferences = settings.preferences
    wrong, right = prior.misread
    return (
        f"where the {view.rows} x {view.columns} cells of a view lie around its own cell "
        f"{view.own_cell}, which token says that a cell is out of sight, which that the hand is empty",
        "sight: a cell is seen if one of its up to three neighbours towards the agent is seen and "
        "can be seen past; past which tokens it can see is learned",
        "motion: a step moves it by one cell, turns it by quarter turns, or neither; which action "
        f"does what, faced with which token, is learned (a priori it changes nothing with probability "
        f"{prior.stay:g}, and going ahead is {prior.ahead_odds:g} times as likely as any other motion; "
        f"{prior.deterministic:g} of all actions do the same, and end alike, in the same context)",
        "only its own actions change the map, beside things that move by themselves: a kind that is "
        f"seen beside where it was at more than {OFTEN:g} of its looks does, and is taken to stand where it is "
        "seen, and perhaps no longer after the next step. Actions change the cell ahead and the hand alone; "
        "what they change is learned, and may be said relatively: the hand takes what is ahead, what "
        "was in hand lies ahead, the thing ahead gets another state",
        "which tokens are of one kind, of one colour, and in one state, by numbers without a meaning: "
        "what an action does hangs on kind and state of the thing ahead, on kind and state of the "
        "thing in hand, and on whether both have the same colour",
        "an episode may be laid out as earlier ones were; where it began on the map that all share is "
        "inferred. Cells that were not seen yet are then expected to hold what they held, once two episodes "
        "were alike; else what usually stood there, in episodes like this one first, or where others had the "
        "like, as far as that has foretold anything before; what every episode had one of is still to be found",
        "where its place is, is inferred as if maps were independent; a cell's token depends on what stands next "
        "to it in the view that shows it first, along the column and along the row, in a way that is "
        "learned",
        f"heading and carried thing are read without error (the thing up to {HAND_ERROR:g}); cells "
        "are misread evenly, at a rate that is learned (a priori "
        f"{wrong / (wrong + right):.2g})",
        "of a reward its sign and size, and whether the episode ended; all depend on what the step did, on "
        "kind, state and perhaps colour of the thing that was ahead before it (or is after it), on whether "
        "the mission names it, and on whether one certain token has been written before in this episode; "
        "where the mission is always the same, perhaps on whether a like of the thing that is ahead after "
        "it has been seen elsewhere in this episode",
        "a reward of a part of the greatest reward's size is worth that part of a chance of it, and a penalty of a "
        "part of the greatest size of either that part of a chance of a whole one; sizes are learned, and "
        f"count as the greatest unless they are surely more than {FACTOR:g} times smaller",
        "what an action does to some things it may do to others, and where the thing in hand matters to it "
        "for some it may for others, an empty hand and a full one apart; to have brought a thing ahead for "
        "nothing will be for nothing again, as long as the episode lasts and nothing else is known",
        "a mission is a set of words, which may name kinds and colours; which word names what is "
        "learned, as is the token that has to be written first",
        f"preferences: a step with reward before one without by {preferences.step_cost:g} nats, for "
        f"ever, discounted by {preferences.discount:g} a step; what a step teaches about outcomes counts "
        f"{preferences.lasting:g} times while it learns; until something was rewarded, an episode that ends "
        "is thought to lead back to where it ended in as many steps as it took",
    )
