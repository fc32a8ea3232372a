"""Where motion slips one step in five and one cell in ten is misread, the grid agent takes nothing to move by itself."""

from aif_dcpc import envs
from aif_dcpc.agent_runs.assembly import make_agent

STEPS = 150


def test_misreadings_move_nothing() -> None:
    """Doors, keys and goals that are taken to move are left out of the map, and no door is ever found open."""
    env = envs.make("MiniGrid", id="MiniGrid-DoorKey-5x5-v0", slip=0.2, misread=0.1)
    agent = make_agent("hierarchical", {}, env, 3)
    seen, _ = env.reset(seed=3)
    agent.begin(seed=3)
    moving = 0
    for step in range(STEPS):
        seen, reward, terminated, truncated, _ = env.step(agent.act(seen))
        agent.feedback(seen, reward, terminated, truncated)
        moving += bool(agent.episode_filter.moving())
        if terminated or truncated:
            seen, _ = env.reset(seed=step)
            agent.begin(seed=step)
    assert agent.episode_filter.wanderers.changes.sum() > 5 * STEPS  # it has seen much
    assert moving < 0.1 * STEPS
