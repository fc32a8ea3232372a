"""How many Runge-Kutta steps of fourth order solve the two differential equations, for every sampler alike."""

STEPS = 4  # per interval of populations; the relative error is below 5e-4 in the posterior's bulk
FIRST_STEPS = 8  # of concentrations, in the first interval
LATER_STEPS = 2  # and in each of the others
# largest error of a log density, relative to its size, that so few steps leave
TOLERANCE = 1e-3
SOLVED = (
    "hudson_lynx_hare-lotka_volterra",
    "one_comp_mm_elim_abs-one_comp_mm_elim_abs",
)
