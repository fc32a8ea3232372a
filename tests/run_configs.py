"""A configuration of a run as its folder holds it, for tests of folders."""

CONFIG = {
    "name": "x", "agent": {"name": "random"}, "inference": {"update": "exact"}, "seed": 0, "device": "cpu", "threads": 1,
    "run_dir": None, "resume": None, "data_dir": "data", "total_env_steps": 10, "epochs": None, "num_envs": 1,
    "max_minutes": None, "stop_after_successes_in_a_row": None, "policy": "greedy", "checkpoint_every": 5, "log_every": 5,
    "picture_every": 0, "video_every": 0,
    "env": {"name": "MiniGrid", "id": None, "slip": 0, "misread": 0.5, "permute_seed": None, "max_steps": 3, "options": {}},
}  # fmt: skip
