"""An agent for cue chaining: the grid is known, and what each cue means; how far to trust the cues is learned.

`aif-train agent=aif_dcpc.experiments.declared.cue_chaining:build env=CueChaining`
"""

import torch
from torch import Tensor
from torch.distributions import Beta, Categorical, Distribution

from aif_dcpc.agents.seeker import Seeker
from aif_dcpc.envs.cue_chaining import COLUMNS, ENDS, FIRST, MOVES, ROWS, SECOND, START, moved
from aif_dcpc.inference import GraphicalModel, lag

STREAMS = ("location", "cue_1", "cue_2", "outcome")
OVER = ROWS * COLUMNS  # after an end


def number(cell: tuple[int, int]) -> int:
    """Number of a cell, row by row."""
    return cell[0] * COLUMNS + cell[1]


def next_places() -> Tensor:
    """Where each action leads from each place, `(36, 5)`."""
    table = torch.full((OVER + 1, len(MOVES)), OVER)
    for place in range(OVER):
        cell = divmod(place, COLUMNS)
        if cell not in ENDS:
            for action in range(len(MOVES)):
                table[place, action] = number(moved(cell, action))
    return table


def pointing(shown: Tensor, value: Tensor, number_of_values: int, trust: Tensor) -> Distribution:
    """Show `1 + value` with probability `trust`, else any other; 0 where nothing is shown."""
    others = (1 - trust) / (number_of_values - 1)
    each = torch.arange(1, number_of_values + 1)
    told = torch.where(each == 1 + value.unsqueeze(-1), trust.unsqueeze(-1), others.unsqueeze(-1))
    none = torch.where(shown, 0.0, 1.0).unsqueeze(-1)
    told, none = torch.broadcast_tensors(told, none.expand(*none.shape[:-1], number_of_values))
    return Categorical(torch.cat([none[..., :1], (1 - none) * told], -1))


def cue_chaining_model() -> GraphicalModel:
    """Declare the grid, its two cues and its two ends."""
    lead = next_places()
    seconds = torch.tensor([number(cell) for cell in SECOND])
    ends = torch.tensor([number(cell) for cell in ENDS])
    model = GraphicalModel()
    model.add_input("action")
    model.add_site("trust_1", lambda: Beta(4.0, 1.0), scope="global")
    model.add_site("trust_2", lambda: Beta(4.0, 1.0), scope="global")
    model.add_site("second", lambda: Categorical(torch.full((4,), 0.25)), scope="episode")
    model.add_site("rewarded", lambda: Categorical(torch.full((2,), 0.5)), scope="episode")
    model.add_site(
        "location",
        lambda place, action: Categorical(torch.eye(OVER + 1)[lead[place, action]]),
        [lag("location"), lag("action")],
        initial=lambda: Categorical(torch.eye(OVER + 1)[number(START)]),
        scope="slice",
    )
    model.add_site(
        "cue_1",
        lambda place, second, trust: pointing(place == number(FIRST), second, 4, trust),
        ["location", "second", "trust_1"],
        scope="slice",
    )
    model.add_site(
        "cue_2",
        lambda place, second, rewarded, trust: pointing(
            place == seconds[second.long()], rewarded, 2, trust
        ),
        ["location", "second", "rewarded", "trust_2"],
        scope="slice",
    )
    model.add_site(
        "outcome",
        lambda place, rewarded: Categorical(
            torch.eye(3)[
                torch.where(
                    (place.unsqueeze(-1) == ends).any(-1),
                    1 + (place == ends[rewarded.long()]).long(),
                    0,
                )
            ]
        ),
        ["location", "rewarded"],
        scope="slice",
    )
    return model


SETTINGS = {"horizon": 15, "discount": 0.95, "wish": 3.0}
build = Seeker("cue_chaining", cue_chaining_model, STREAMS, SETTINGS)
