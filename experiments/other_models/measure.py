"""Is the engine right on models that it was not built on? `python -m aif_dcpc.experiments.other_models.measure [NAME ...]`.

`engine.sample(data)` with its defaults on every program of `programs.py`, one seed, against the
references of `nuts.py`. Right is within .1 standard deviations in every mean and 10 % in every standard
deviation, wrong beyond .2 or 20 %; silently wrong a wrong one without a warning.
"""

import argparse
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.commands.command import check_names, run_script
from aif_dcpc.experiments.other_models.data import data_of
from aif_dcpc.experiments.other_models.programs import PROGRAMS, tensors
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival.draws import Draws

REFERENCE = Path(__file__).with_name("reference.json")
LOGARITHMS = ("overall", "local", "slab", "certainty")  # as in `nuts.py`, which knows no PyTorch
HEADER = (
    "| program | verdict | mean error (sd) | where | sd error | where | R-hat | least ESS | "
    "processor s | draws | warnings |\n|---|---|---|---|---|---|---|---|---|---|---|"
)
CONSTANT = 1e-6  # standard deviation of what does not vary, as corners of a Cholesky factor


def errors(draws: Draws, known: Mapping[str, Any]) -> tuple[tuple[float, str], tuple[float, str]]:
    """The worst error of a mean, in standard deviations, and of a standard deviation, relative."""
    of_mean = []
    of_sd = []
    for site, numbers in known.items():
        x = flat(draws, site)
        mean = torch.tensor(numbers["mean"]).double()
        sd = torch.tensor(numbers["sd"]).double()
        varies = sd > CONSTANT
        of_mean.append((float(((x.mean(0) - mean).abs() / sd)[varies].max()), site))
        of_sd.append((float((x.std(0) / sd - 1).abs()[varies].max()), site))
    return max(of_mean), max(of_sd)


def flat(draws: Draws, site: str) -> Tensor:
    """All draws of a site, or of its logarithm, `(S K, N)`."""
    x = draws[site].double().flatten(0, 1).flatten(1)
    return x.log() if site in LOGARITHMS else x


def verdict(of_mean: float, of_sd: float, *, warned: bool) -> str:
    """One word, or two."""
    if of_mean < 0.1 and of_sd < 0.1:
        return "right"
    if of_mean <= 0.2 and of_sd <= 0.2:
        return "middling"
    return "wrong" if warned else "silently wrong"


def line(name: str, seed: int) -> str:
    """Sample one program; a line of the table."""
    known = json.loads(REFERENCE.read_text(encoding="utf-8"))[name]
    program = PROGRAMS[name]
    model, data = GraphicalModel.from_pyro(program, **tensors(data_of(name)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draws = DCPC(model).sample(data, seed=seed)
    (of_mean, mean_site), (of_sd, sd_site) = errors(draws, known)
    r_hat = max(float(x.max()) for x in draws.r_hat.values())
    least = min(float(x.min()) for x in draws.bulk_ess.values())
    count = draws.num_draws * draws.acceptance.shape[0]
    cells = [
        name.replace("_", " "),
        verdict(of_mean, of_sd, warned=bool(draws.warnings)),
        *(f"{of_mean:.3f}", mean_site, f"{of_sd:.1%}", sd_site),
        *(f"{r_hat:.3f}", f"{least:.0f}", f"{draws.seconds:.1f}", str(count)),
        " ".join(draws.warnings) or "-",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table of all programs asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(PROGRAMS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    check_names("program", options.names, PROGRAMS)
    torch.set_num_threads(1)
    print(HEADER, flush=True)
    for name in options.names or list(PROGRAMS):
        print(line(name, options.seed), flush=True)


if __name__ == "__main__":
    run_script(main)
