"""Several tests ask the same of many independent clouds; shared here."""

import math

from aif_dcpc.inference import DCPC

COPIES = 16


def agrees(samples, expected, *, floor=1e-3):
    """Whether means of `(num_sweeps, K, copies, *event)` match an expectation within 5 standard errors.

    Copies are independent, so by Student's t a right engine fails a number at most twice in 10,000
    times with 16 of them, 5 in 100,000 with 24, 2 in 100,000 with 32; `floor`, a number or one for
    each entry, makes it rarer.
    """
    per_copy = samples.double().mean((0, 1))
    error = per_copy.std(0) / math.sqrt(len(per_copy))
    return bool(((per_copy.mean(0) - expected).abs() < 5 * error + floor).all())


def close(draws, mean, variance):
    """Whether mean and variance of independent Gaussian draws lie within 5 standard errors.

    Each fails a right engine about once in a million times.
    """
    draws = draws.double().flatten()
    number = len(draws)
    near = abs(draws.mean() - mean) < 5 * math.sqrt(variance / number) + 1e-4
    return bool(near and abs(draws.var() / variance - 1) < 5 * math.sqrt(2 / number))


def off(draws, expected):
    """Standard errors between the mean of draws `(S, K, *rest)` and an expectation, at most over `rest`."""
    chains = draws.double().mean(0)
    error = chains.std(0) / math.sqrt(len(chains))
    return float(((chains.mean(0) - expected).abs() / error).max())


def chains_agree(draws, mean, variance):
    """Whether draws `(S, K, *rest)` have a mean and a variance, each within 5 standard errors of chains."""
    spread = (draws.double() - mean).square()
    return off(draws, mean) < 5 and off(spread, variance) < 5


def imported_posterior(
    imported, *, names, sweeps=150, warmup=60, num_particles=16, masks=None, do=None
):
    """Traces `(sweeps, K, COPIES, *event)` of sites of a Pyro program, given what `GraphicalModel.from_pyro` returned."""
    model, data = imported
    engine = DCPC(model, num_particles=num_particles, warmup=warmup)
    wide = {n: v.expand(COPIES, *v.shape[1:]) for n, v in data.items()}
    shown = {n: m.expand(COPIES, *m.shape[1:]) for n, m in (masks or {}).items()}
    action = {n: v.expand(COPIES, *v.shape[1:]) for n, v in (do or {}).items()}
    state, _ = engine.run(engine.init(wide, masks=shown, do=action, seed=0), warmup)
    _, info = engine.run(state, sweeps, record=names)
    return {n: v.double() for n, v in info.trace.items()}
