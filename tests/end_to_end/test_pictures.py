"""Pictures: cells as the world draws them, plans and poses where they are, sizes that stay, the last step included.

Oracles: MiniGrid's own drawing; places known by construction; a recorder of what rerun is told.
"""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from aif_dcpc import envs
from aif_dcpc.agent_runs import recordings
from aif_dcpc.agent_runs.explanations import HOW_TO_READ
from aif_dcpc.agent_runs.recorder import action_names
from aif_dcpc.agents.gridworld.pictures import (
    CELL,
    LEAST,
    PLAN,
    POSE,
    UNKNOWN,
    map_picture,
    token_tiles,
)
from aif_dcpc.agents.gridworld.planning.belief import Belief
from aif_dcpc.agents.panels import HEIGHT, WORDS, panel
from aif_dcpc.commands import rollout as rollout_command
from aif_dcpc.commands import train as train_command
from aif_dcpc.envs.minigrid import describe_token, to_token
from aif_dcpc.learning_curve import NAME, save_learning_curve
from aif_dcpc.pictures import captioned, read_gif

GREEN_GOAL = 8, 1, 0  # MiniGrid's type, colour, state
YELLOW_DOORS = {(4, 4, 0): "open", (4, 4, 1): "closed", (4, 4, 2): "locked"}
SIDE = 12  # of the map


def tile(cell):
    env = envs.make("MiniGrid")
    return env.get_wrapper_attr("token_tile")(int(to_token(np.array(cell))))


def belief(cells, *, seen, pose=((4, 4, 0),), weights=(1.0,)):
    return Belief(
        origin=np.array([0, 0]),
        cells=cells.reshape(SIDE * SIDE, -1),
        unseen=np.ones(cells.shape[-1]) / cells.shape[-1],
        seen=seen.ravel(),
        pose=np.array(pose),
        weights=np.array(weights),
        hand=0,
        passed=0,
        visited={},
    )


def known_map(num_tokens=2):
    """Token 0 everywhere, token 1 in cell (6, 5); all seen but a frame of one cell."""
    cells = np.zeros((SIDE, SIDE, num_tokens))
    cells[..., 0] = 1
    cells[6, 5] = np.eye(num_tokens)[1]
    seen = np.zeros((SIDE, SIDE), bool)
    seen[1:-1, 1:-1] = True
    return cells, seen


NOWHERE = np.zeros((0, 3), np.int64)
PURE = np.stack([np.full((CELL, CELL, 3), 200.0), np.full((CELL, CELL, 3), 90.0)])


def middle(picture, row, column):
    """Pixel in the middle of a map cell; the whole map is drawn."""
    at = [int((place + 0.5) * HEIGHT / SIDE) for place in (row, column)]
    return picture[at[0], at[1]].astype(int)


def test_cells_look_as_their_tokens_as_far_as_they_are_known():
    cells, seen = known_map()
    cells[3, 3] = 0.5  # entropy ln 2: half as sure
    drawn = map_picture(belief(cells, seen=seen), PURE, NOWHERE)
    assert drawn.shape == (HEIGHT + WORDS, HEIGHT, 3)
    assert (middle(drawn, 2, 2) == 200).all() and (middle(drawn, 6, 5) == 90).all()
    assert (middle(drawn, 0, 0) == UNKNOWN).all()
    expected = 0.5 * 145 + 0.5 * UNKNOWN
    assert np.abs(middle(drawn, 3, 3) - expected).max() <= 1


def test_the_plan_and_the_pose_are_drawn_where_they_are():
    cells, seen = known_map()
    path = np.array([(4, 4, 0), (4, 5, 0), (4, 6, 1), (5, 6, 1)])
    drawn = map_picture(belief(cells, seen=seen), PURE, path)
    for y, x, _ in path[1:]:
        assert (middle(drawn, y, x) == PLAN).all()
    assert (middle(drawn, 6, 6) == 200).all()
    alone = map_picture(belief(cells, seen=seen), PURE, NOWHERE)
    assert (middle(alone, 4, 4) == POSE).all() and (middle(alone, 4, 5) == 200).all()


def test_a_map_laid_out_from_elsewhere_is_drawn_the_same():
    """The array wraps; places do not."""
    cells, seen = known_map()
    path = np.array([(4, 4, 0), (4, 5, 0)])
    whole = map_picture(belief(cells, seen=seen), PURE, path)
    turned = belief(np.roll(cells, (3, 5), (0, 1)), seen=np.roll(seen, (3, 5), (0, 1)))
    step = np.array([3, 5, 0])
    moved = Belief(**{**vars(turned), "origin": step[:2], "pose": turned.pose + step})
    assert (map_picture(moved, PURE, path + step) == whole).all()


@pytest.mark.parametrize("known", [1, 3, 5, 10])
def test_a_map_keeps_its_size_while_it_grows(known):
    cells, _ = known_map()
    seen = np.zeros((SIDE, SIDE), bool)
    seen[1 : 1 + known, 1 : 1 + known] = True
    pose = ((1, 1, 0),)
    drawn = map_picture(belief(cells, seen=seen, pose=pose), PURE, NOWHERE)
    assert drawn.shape == (HEIGHT + WORDS, HEIGHT, 3) and LEAST < SIDE


def test_tokens_look_as_in_the_world():
    """The goal is green; doors differ by state, and all are told apart from other things."""
    goal = tile(GREEN_GOAL)
    assert goal.shape == (CELL, CELL, 3) and (goal[CELL // 2, CELL // 2] == (0, 255, 0)).all()
    doors = [tile(cell) for cell in YELLOW_DOORS]
    for cell, state in YELLOW_DOORS.items():
        assert describe_token(int(to_token(np.array(cell)))) == f"yellow door ({state})"
    assert all((a != b).any() for i, a in enumerate(doors) for b in doors[:i])
    for door in doors:
        yellow = (door[..., 0] > 100) & (door[..., 1] > 100) & (door[..., 2] < 60)
        assert yellow.any()
    tokens = [int(to_token(np.array(GREEN_GOAL))), 999]
    tiles = token_tiles(tokens, {tokens[0]: goal}, 3)
    assert (tiles[0] == goal).all() and (tiles[1] == tiles[1][0, 0]).all()


def test_renamed_tokens_and_actions_look_and_are_called_as_what_they_stand_for():
    env = envs.make("MiniGrid", permute_seed=3)
    original = int(to_token(np.array(GREEN_GOAL)))
    renamed = int(env.tokens[original])
    assert (env.get_wrapper_attr("token_tile")(renamed) == tile(GREEN_GOAL)).all()
    plain = action_names(envs.make("MiniGrid"))
    assert plain == ["left", "right", "forward", "pickup", "drop", "toggle", "done"]
    assert action_names(env) == [plain[env.actions[action]] for action in range(7)]


def test_words_are_never_cut():
    narrow = np.zeros((4, 10, 3), np.uint8)
    assert captioned(narrow, "twelve chars").shape[1] >= 12 * 6
    wide = np.zeros((HEIGHT, 700, 3), np.uint8)
    assert panel(wide, "a wide world", HEIGHT).shape == (HEIGHT + WORDS, 700, 3)


# -- runs ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A run of agent tmaze with all its pictures."""
    place = tmp_path_factory.mktemp("pictures") / "r"
    words = ("agent=tmaze", "env=TMaze", "seed=1", "total_env_steps=20", "video_every=1")
    old = sys.argv
    sys.argv = ["aif-train", *words, "picture_every=4", f"run_dir={place}"]
    try:
        train_command.main()
    finally:
        sys.argv = old
    return place


def shape_of(path):
    with Image.open(path) as picture:
        return (picture.height, picture.width, 3)


def test_frames_of_a_run_are_of_one_size_and_the_last_step_is_there(learned):
    """An episode of n actions has n + 1 frames: in the last one the world is as the last action left it."""
    records = [json.loads(line) for line in (learned / "metrics.jsonl").read_text().splitlines()]
    lengths = [int(r["train/episode_length"]) for r in records if "train/episode_length" in r]
    sizes = set()
    for number, length in enumerate(lengths):
        frames = list(read_gif(learned / "videos" / f"episode-{number:06d}.gif"))
        assert len(frames) == length + 1
        assert (frames[-1][:HEIGHT] != frames[-2][:HEIGHT]).any()
        sizes |= {frame.shape for frame in frames}
    for path in (learned / "figures").glob("belief-*.png"):
        sizes.add(shape_of(path))
    assert len(lengths) > 3 and len(sizes) == 1


def test_a_run_ends_with_its_learning_curve(learned, tmp_path):
    assert shape_of(learned / NAME) == (320, 1050, 3)
    save_learning_curve(tmp_path, "agent")  # which recorded nothing
    assert not (tmp_path / NAME).exists()
    lines = [{"step": 5, "train/free_energy": 3.0}, {"step": 9, "valid/mse": None}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 1'  # cut short
    (tmp_path / "metrics.jsonl").write_text(text)
    save_learning_curve(tmp_path, "images")
    assert shape_of(tmp_path / NAME) == (320, 1050, 3)


def played(learned, run, *words, code=0):
    episodes = ("episodes=3", "video_episodes=2")
    return run(rollout_command.main, f"run={learned}", *episodes, *words, code=code)


def test_reasons_of_a_rollout_are_written_step_by_step(learned, run):
    mean_length = json.loads(played(learned, run, "explain=true").splitlines()[-1])["mean_length"]
    texts = sorted((learned / "explanations").glob("*.txt"))
    assert [path.stem for path in texts] == ["rollout-greedy-10000", "rollout-greedy-10001"]
    steps = 0
    for path in texts:
        head, *told = path.read_text().split("\n\n")
        assert head == HOW_TO_READ
        assert [step.splitlines()[0] for step in told] == [f"step {i}" for i in range(len(told))]
        assert all(step.count("*") == 1 and "left arm" in step for step in told)
        assert len(list((path.with_suffix("")).glob("step-*.png"))) == len(told)
        steps += len(told)
    assert steps < 3 * mean_length


class Told:
    """What stands in the place of rerun: it remembers what it is told."""

    def __init__(self):
        self.logged = []
        self.now = None
        self.Image = self.Tensor = self.Points2D = self.Scalars = np.asarray

    def RecordingStream(self, application):
        self.logged = []
        return self

    def binary_stream(self):
        return SimpleNamespace(read=lambda: json.dumps(self.logged).encode())

    def set_time(self, timeline, *, sequence):
        assert timeline == "step"
        self.now = sequence

    def log(self, place, what):
        self.logged.append((self.now, place, list(what.shape)))


def test_recordings_hold_view_beliefs_particles_and_terms_of_each_step(learned, run, monkeypatch):
    monkeypatch.setattr(recordings, "require_rerun", Told)
    monkeypatch.setattr("aif_dcpc.agent_runs.rollouts.require_rerun", Told)
    played(learned, run, "rerun=true", "explain=true")
    for seed in (10000, 10001):
        path = learned / "recordings" / f"rollout-greedy-{seed}.rrd"
        logged = json.loads(path.read_text())
        text = (learned / "explanations" / f"rollout-greedy-{seed}.txt").read_text()
        length = text.count("\n\nstep ")
        places = {}
        for step, place, _ in logged:
            places.setdefault(place, []).append(step)
        for place in ("world", "belief/side", "particles/side", "efe/total"):
            assert places[place] == list(range(length + 1)), place


def test_without_the_extra_it_is_one_sentence(learned, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert "pip install 'aif_dcpc[rerun]'" in played(learned, run, "rerun=true", code=2)


def test_a_real_recording_is_one_of_rerun(learned, run):
    pytest.importorskip("rerun")
    played(learned, run, "rerun=true")
    path = learned / "recordings" / "rollout-greedy-10000.rrd"
    assert path.read_bytes()[:3] == b"RRF" and path.stat().st_size > 10_000
