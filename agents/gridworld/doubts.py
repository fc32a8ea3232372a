"""What a grid agent has not understood after many episodes, in sentences.

A mission that says where a thing lies, say, cannot be learned from kinds and colours: then like last steps are
rewarded now and then, however many there are. Who looks at a success rate of a half is to be told why.
"""

from collections import Counter
from collections.abc import Sequence

from aif_dcpc.agents.gridworld.deeds import Deeds
from aif_dcpc.agents.gridworld.lessons import Lessons
from aif_dcpc.agents.gridworld.model.counts import rewarded, terminated
from aif_dcpc.agents.gridworld.model.task import named

MANY = 20  # episodes that tell something
RECENT = 40  # the latest, which are looked at
SHARE = 0.25  # of last steps that come out otherwise than most of their like do


def doubts_of(lessons: Lessons) -> tuple[str, ...]:
    """Say what is not understood; nothing where all is, or episodes are few."""
    latest = lessons.latest(RECENT)
    if len(latest) < MANY:
        return ()
    if not any(rewarded(deeds.outcome).any() for deeds in lessons.deeds):
        return (
            f"nothing was rewarded in any of its last {len(lessons.deeds)} episodes. It may need more steps "
            "(total_env_steps), or longer episodes (env.max_steps); where reward takes more than some six changes "
            "of the world, its search may never find it.",
        )
    ended = [deeds for deeds in latest if terminated(deeds.outcome[-1:]).any()]
    unlike = min(_unlike(ended, lessons, after=after) for after in (False, True))
    if len(ended) < MANY or unlike < SHARE * len(ended):
        return ()
    return (
        f"{unlike} of its last {len(ended)} episodes ended otherwise than most that ended with a like step, and "
        "nothing that it can learn tells which. It may need more steps; or the task hangs on what it does not "
        "model: it reads a mission as names of kinds and colours, and remembers one deed that has to come first and "
        "likes of what is ahead. Where things lie, two things at once, or clauses in turn need a model of your own "
        "(docs/your_own_agent.md).",
    )


def _unlike(ended: Sequence[Deeds], lessons: Lessons, *, after: bool) -> int:
    """How many last steps were rewarded though most of their like were not, or were not though most were.

    Alike are steps that are so for the agent: by what was done, to a thing of which kind and state, named by
    the mission or not, before or after the milestone; by the token ahead after a step, or before it.
    """
    task = lessons.task
    looks = lessons.looks
    like: dict[tuple[int, ...], Counter[bool]] = {}
    for deeds in ended:
        token = (deeds.after if after else deeds.token)[-1:]
        step = int(deeds.row[-1]), looks.class_of(int(token[0]))
        wanted = int(named(task.lexicon, looks, token, set(deeds.mission))[0])
        twin, passed = (int(side[-1]) for side in lessons.sides(deeds, after=after))
        verdict = bool(rewarded(deeds.outcome[-1:])[0])
        like.setdefault((*step, wanted, twin, passed), Counter())[verdict] += 1
    return sum(min(found[True], found[False]) for found in like.values())
