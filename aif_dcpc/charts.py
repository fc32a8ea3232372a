"""What charts on TensorBoard show, in a sentence each, and which settings make runs comparable there."""

from collections.abc import Iterator, Mapping
from typing import Any

# tag, or what it begins with -> what is shown
DESCRIPTIONS = {
    "train/return": "Sum of rewards of an episode, as it ends.",
    "train/success": "Whether an episode succeeded: what the environment says, else a positive return.",
    "train/success_rate": "Share of successes in the last 20 episodes.",
    "train/episode_length": "Environment steps of an episode.",
    "train/episode": "Number of the episode, from 0.",
    "train/free_energy": "Mean of minus the log joint of images and particles, nats per image: what parameters descend.",
    "train/env_steps_to": "Environment steps until so many episodes in a row had succeeded.",
    "0_results": "What matters most, first on the page: the chart of this name under train/, valid/ or eval/.",
    "efe/total": "Expected free energy of the plan that was followed, nats, lower is better. It is risk + ambiguity - "
    "novelty, and neg_expected_log_preference - information_gain - novelty (+ horizon_value, if there is one); of "
    "agent hierarchical risk + ambiguity - information_gain - novelty.",
    "efe/risk": "Divergence of predicted from preferred outcomes under that plan, nats, all its steps added up.",
    "efe/ambiguity": "Expected entropy of outcomes given states under that plan, nats, all its steps added up.",
    "efe/information_gain": "Expected information about states, nats, all steps of the plan; more lowers the total.",
    "efe/novelty": "Expected information about parameters, nats, all steps of the plan; more lowers the total.",
    "efe/neg_expected_log_preference": "Cross-entropy of predicted and preferred outcomes, nats, all steps of the plan.",
    "efe/horizon_value": "What lies beyond the horizon of the plan, nats.",
    "efe/this_step": "What this step adds to the total, nats; see efe_step.",
    "efe/later_steps": "What all steps after this one add to the total, nats.",
    "efe/policy_collapse": "1 where the last 40 actions were all the same.",
    "efe/configurations": "How many states of the world the plan was searched in.",
    "efe_step/total": "Expected free energy of this step alone, nats: risk - novelty.",
    "efe_step/risk": "Divergence of predicted from preferred outcomes in this step, nats.",
    "efe_step/novelty": "Expected information about parameters in this step, nats, as far as it counts.",
    "planning/iterations": "Sweeps of value iteration until no value changed any more.",
    "learning/fixed": "Share of actions taken to do the same everywhere.",
    "learning/usual": "Share of rows taken to do what their action usually does.",
    "learning/slips": "Share of rows where one of three effects follows, with chances that are the same everywhere.",
    "learning/rows_visited": "Pairs of state and action that have been tried.",
    "inference/free_energy": "Minus the log joint of the episode at the particles, nats.",
    "inference/ess": "Effective number of particles, 1 to all.",
    "inference/unique_ancestors": "Particles of the first slice that still have descendants.",
    "inference/acceptance": "Share of proposed moves of a site that were accepted; 1 for exact draws.",
    "learning/log_joint": "Log joint that learning ascends, nats.",
    "learning/rate": "Rate of the optimiser.",
    "valid/reconstruction_bce": "Cross-entropy between held-out images and the means of their particles, nats.",
    "valid/mse": "Squared difference between held-out images and the means of their particles, per pixel.",
    "valid/free_energy": "Minus the log joint of held-out images and particles inferred afresh, nats per image.",
    "eval/return": "Mean return of a rollout, parameters frozen.",
    "eval/success_rate": "Share of successes of a rollout, parameters frozen.",
    "eval/episode_length": "Mean environment steps of a rollout's episodes.",
    "speed/ms": "Milliseconds of a step, by what they were spent on.",
    "speed/env_steps_per_second": "Environment steps per second, all told.",
}
# what matters most stands first on the board, which sorts by name; there under a name of its own as well
FIRST = {
    "train/return": "0_results/return",
    "train/success_rate": "0_results/success_rate",
    "valid/reconstruction_bce": "0_results/reconstruction_bce",
    "valid/mse": "0_results/mse",
    "eval/return": "0_results/return",
    "eval/success_rate": "0_results/success_rate",
}
# charts of these appear once they change, such as the acceptance of exact draws never does
SHOWN_WHEN_CHANGED = ("inference/", "planning/", "efe/policy_collapse", "efe/configurations")
HEADLINES = {  # by which runs are compared
    "agent": ("train/return", "train/success_rate"),
    "images": ("train/free_energy", "valid/mse", "valid/reconstruction_bce"),
}
NOT_COMPARED = ("run_dir", "resume", "trust", "data_dir", "name")


def description(tag: str) -> str:
    """What a chart shows: by its tag, or by the longest known beginning; empty where nothing is known."""
    known = [
        begin
        for begin in DESCRIPTIONS
        if tag == begin or tag.startswith((f"{begin}/", f"{begin}_"))
    ]
    return DESCRIPTIONS[max(known, key=len)] if known else ""


def compared_settings(config: Mapping[str, Any]) -> dict[str, bool | str | float | int]:
    """Settings of a run by their paths, as TensorBoard's table of hyperparameters takes them."""
    return dict(_leaves({k: v for k, v in config.items() if k not in NOT_COMPARED}))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, (bool, int, float, str)):
            yield f"{prefix}{key}", value
        elif value is not None:
            yield f"{prefix}{key}", str(value)
