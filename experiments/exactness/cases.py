"""The cases of the table, in its order; each is built when it is its turn."""

from collections.abc import Callable

from aif_dcpc.experiments.exactness.case import Case
from aif_dcpc.experiments.exactness.discrete import (
    beta_bernoulli,
    dirichlet_categorical,
    gamma_poisson,
    hidden_markov_model,
    mixture,
    switching_system,
)
from aif_dcpc.experiments.exactness.linear_gaussian import (
    chain_of_two,
    collider,
    counterfactual,
    intervention,
    levels,
    state_space,
)

CASES: tuple[Callable[[], Case], ...] = (
    chain_of_two,
    lambda: state_space(20),
    lambda: state_space(200),
    collider,
    levels,
    lambda: hidden_markov_model(False),
    lambda: hidden_markov_model(True),
    switching_system,
    beta_bernoulli,
    gamma_poisson,
    dirichlet_categorical,
    mixture,
    lambda: state_space(20, missing=True),
    intervention,
    counterfactual,
)
