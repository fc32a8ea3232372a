"""The notebooks on a grid world and on pictures of one's own find what they say.

Oracles: the fewest steps that the world allows; coins.
"""

import numpy as np
from notebook_scripts import executed, program


def test_the_grid_agent_learns_to_open_the_door(capsys):
    names = executed(program("minigrid"))
    episodes = names["episodes"]
    assert sum(episode.success for episode in episodes) >= 27
    late = [episode.shortest_ratio for episode in episodes[-10:] if episode.success]
    assert np.median(late) <= 1.3
    assert names["reward"] > 0 and len(names["frames"]) == len(names["maps"])
    said = capsys.readouterr().out
    assert "ambiguity" in said and "novelty" in said


def test_a_failure_is_seen_in_the_three_numbers():
    names = executed(program("your_pictures"))
    found = {name: numbers for name, (_, numbers) in names["results"].items()}
    camera = found["as a camera finds them"]
    cut = found["cut out"]
    # the classes differ in no pixel's mean: both accuracies are those of a coin
    assert abs(camera["accuracy"] - 0.5) < 4 * camera["error"]
    assert abs(camera["pixels"] - 0.5) < 4 * camera["error"]
    assert cut["accuracy"] > 0.9 and cut["explained"] > camera["explained"] > 0.5
