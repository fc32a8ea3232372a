"""Measurements on posteriordb: verdicts on draws of known law, ratios and tables by hand."""

import json
import math

import numpy as np
import pytest
from scipy.stats import lognorm, norm

from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.posteriordb import beside_nuts, report, verdict
from aif_dcpc.experiments.posteriordb.beside_nuts import fastest, ratio, times_shorter
from aif_dcpc.experiments.posteriordb.simulated import SIMULATED
from aif_dcpc.experiments.posteriordb.stopwatch import stopwatch
from aif_dcpc.experiments.posteriordb.verdict import called, errors
from aif_dcpc.inference import DCPC
from aif_dcpc.inference.errors import ConvergenceWarning

ONE_COMP = "one_comp_mm_elim_abs-one_comp_mm_elim_abs"
LEVELS = (
    np.arange(200_000) + 0.5
) / 200_000  # as many quantiles of a law stand for draws without error


def spread_out(law):
    return law.ppf(LEVELS).reshape(4, -1)


# -- verdicts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "widening", "expected"),
    [
        (0.05, 1.05, "right"),
        (-0.09, 0.91, "right"),
        (0.15, 1.0, "middling"),
        (0.0, 0.85, "middling"),
        (-0.25, 1.0, "wrong"),
        (0.0, 1.25, "wrong"),
        (0.0, 0.75, "wrong"),
    ],
)
def test_errors_are_those_of_the_law_that_was_drawn_from(shift, widening, expected):
    known = {"a": {"mean": 3.0, "sd": 2.0}, "b": {"mean": 0.0, "sd": 1.0}}
    draws = {"a": spread_out(norm(3 + 2 * shift, 2 * widening)), "b": spread_out(norm())}
    off = errors("any", draws, known)
    assert off.mean == pytest.approx(abs(shift), abs=1e-3)
    assert off.sd == pytest.approx(abs(widening - 1), abs=1e-3)
    assert off.verdict == expected
    if expected != "right":
        assert "a" in (off.mean_at, off.sd_at)


def test_the_worst_parameter_counts_and_not_the_last():
    known = {name: {"mean": 0.0, "sd": 1.0} for name in "abc"}
    draws = {n: spread_out(norm(s, 1)) for n, s in zip("abc", (0.0, 0.3, 0.1), strict=True)}
    assert errors("any", draws, known).mean_at == "b"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_wrong(value):
    draws = {"a": np.full((2, 50), value)}
    off = errors("any", draws, {"a": {"mean": 0.0, "sd": 1.0}})
    assert off.mean == math.inf
    assert off.verdict == "wrong"


def test_a_parameter_that_is_not_drawn_is_refused():
    with pytest.raises(KeyError, match="sigma"):
        errors("any", {}, {"sigma": {"mean": 0.0, "sd": 1.0}})


def test_heavy_tails_are_compared_on_logarithms():
    """A lognormal law whose logarithm is shifted by .15 of its sd .8, and 1.1 times as wide."""
    law = lognorm(s=0.8, scale=math.exp(1.0))
    known = {"K_m": {"mean": None, "sd": None} | {k: law.ppf(p) for k, p in verdict.LEVELS.items()}}
    draws = {"K_m": spread_out(lognorm(s=0.8, scale=math.exp(1.0 + 0.15 * 0.8)))}
    off = errors(ONE_COMP, draws, known)
    assert off.mean == pytest.approx(0.15, abs=1e-3)
    assert off.sd == pytest.approx(0.0, abs=1e-3)
    wider = errors(ONE_COMP, {"K_m": spread_out(lognorm(s=0.88, scale=math.exp(1.0)))}, known)
    assert wider.sd == pytest.approx(0.1, abs=1e-3)
    # the outer quantiles of the logarithm lie 1.645 sds out, and move by a tenth of that
    assert wider.mean == pytest.approx(0.1645, abs=1e-3)


def test_only_a_wrong_run_without_a_warning_is_silently_wrong():
    wrong = verdict.Errors(0.3, "a", 0.0, "a")
    right = verdict.Errors(0.0, "a", 0.0, "a")
    assert called(wrong, warned=False) == "silently wrong"
    assert called(wrong, warned=True) == "wrong"
    assert called(right, warned=False) == called(right, warned=True) == "right"


def test_chains_that_stand_still_have_no_effective_draws():
    chains = pytest.importorskip("aif_dcpc.experiments.posteriordb.chains", exc_type=ImportError)
    rng = np.random.default_rng(0)
    moving = rng.standard_normal((4, 1000))
    assert chains.least_ess({"a": moving}) == pytest.approx(4000, rel=0.15)
    assert chains.worst_r_hat({"a": moving}) < 1.01
    assert chains.worst_r_hat({"a": moving[:1]}) < 1.02
    apart = moving + 5 * np.arange(4)[:, None]
    assert chains.least_ess({"a": moving, "b": apart}) < 10
    assert chains.worst_r_hat({"a": moving, "b": apart}) > 1.5
    stuck = moving * 0 + 1
    assert (
        chains.least_ess({"a": moving, "b": stuck}) < 10
        or chains.worst_r_hat({"b": stuck}) == math.inf
    )


# -- tables and ratios -----------------------------------------------------------------------------


def engine_row(seed, *, ess=1000.0, verdict="right", name="p", **seconds):
    times = {"building": 1.0, "seconds": 4.0, "recording": 1.5, "drawing": 1.0, "judging": 0.5}
    times |= seconds
    row = {"posterior": name, "way": "program", "seed": seed, "verdict": verdict, "ess": ess}
    off = {"mean_error": 0.01, "mean_at": "a", "sd_error": 0.02, "sd_at": "a"}
    return row | times | off | {"r_hat": 1.0, "draws": 100, "warnings": []}


def nuts_row(seed, *, ess=400.0, chains=1, verdict="right", names=("p",), form="centred"):
    way = {"form": form, "chains": chains, "double": False, "dense": False}
    times = {"warm_up": 1.0, "drawing": 1.0, "tracing": 3.0, "compiling": 5.0}
    row = {"posterior": names[0], "posteriors": list(names), "seed": seed}
    return row | way | times | {"verdict": verdict, "ess": ess}


def test_a_ratio_is_of_speeds_without_and_with_what_is_compiled():
    ours, theirs = [engine_row(0)], [nuts_row(0)]
    compiled = ratio(ours, theirs, beside_nuts.engine_compiled, beside_nuts.nuts_compiled)
    assert compiled == pytest.approx((1000 / 2) / (400 / 2))
    soon = times_shorter(ours, theirs, beside_nuts.engine_compiled, beside_nuts.nuts_compiled)
    assert soon == pytest.approx((1 + 2.5) / 2)
    waiting = ratio(ours, theirs, beside_nuts.engine_waiting, beside_nuts.nuts_waiting)
    assert waiting == pytest.approx((1000 / 5) / (400 / 10))


def test_wrong_runs_count_against_the_engine_alone():
    ours = [engine_row(0), engine_row(1, verdict="silently wrong"), engine_row(2, verdict="wrong")]
    seconds = beside_nuts.engine_compiled, beside_nuts.nuts_compiled
    assert ratio(ours, [nuts_row(0)], *seconds) == pytest.approx((2.5 * 0.01**2) ** (1 / 3))
    assert ratio([engine_row(0)], [nuts_row(0, verdict="wrong")], *seconds) == pytest.approx(2.5)
    failed = {"posterior": "p", "seed": 0, "verdict": "failed", "failure": "ModelError: no"}
    assert ratio([failed], [nuts_row(0)], *seconds) == pytest.approx(0.01)
    assert times_shorter([failed], [nuts_row(0)], *seconds) == pytest.approx(0.01)


def test_nuts_is_taken_in_the_way_that_serves_it_best():
    slow = [nuts_row(seed, chains=4, ess=100) for seed in range(2)]
    fast = [nuts_row(seed, ess=400) for seed in range(2)]
    assert fastest([*slow, *fast], beside_nuts.nuts_compiled) == fast
    broken = [nuts_row(0, ess=400), nuts_row(1, ess=400, verdict="wrong")]
    assert fastest([*broken, *slow], beside_nuts.nuts_compiled) == slow


def test_each_figure_has_a_best_way_of_its_own():
    """Four chains are faster at last, one chain has its thousand draws sooner when compiling counts."""
    four = [nuts_row(0, chains=4, ess=2000) | {"compiling": 50.0}]
    one = [nuts_row(0, ess=500)]
    assert fastest([*four, *one], beside_nuts.nuts_compiled) == four
    assert fastest([*four, *one], beside_nuts.nuts_waiting) == one
    ours = [engine_row(0)]
    waiting = ratio(ours, [*four, *one], beside_nuts.engine_waiting, beside_nuts.nuts_waiting)
    assert waiting == pytest.approx((1000 / 5) / (500 / 10))
    text = beside_nuts.table(ours, [*four, *one])
    # 1 + 1 * 1000 / 2000; 3 + 5 + 1 + 1 * 1000 / 500
    assert "| 2, 1.5 | 5, 11 |" in text


def test_a_thousand_effective_draws_take_what_comes_before_and_their_share_of_drawing():
    row = engine_row(0, ess=4000.0)
    assert beside_nuts.time_to_enough(row, beside_nuts.engine_compiled) == 1.0 + 1.0 / 4
    assert beside_nuts.time_to_enough(row, beside_nuts.engine_waiting) == 4.0 + 1.0 / 4
    assert beside_nuts.time_to_enough(nuts_row(0), beside_nuts.nuts_waiting) == 9.0 + 2.5


def test_the_table_joins_posteriors_under_all_their_names():
    ours = [engine_row(s, name=n) for n in ("p", "q", "alone") for s in (0, 1)]
    theirs = [nuts_row(s, names=("p", "q")) for s in (0, 1)]
    text = beside_nuts.table(ours, theirs)
    lines = [line for line in text.splitlines() if line.startswith(("| p", "| q", "| alone"))]
    assert [line.split(" | ")[0] for line in lines[1:]] == ["| p", "| q"]
    assert "2 posteriors, geometric mean of the ratios: 2.50 compiled, 5.00 waiting" in text
    assert "1,000 effective draws, times shorter: 1.75 compiled, 2.30 waiting." in text
    with pytest.raises(ConfigError, match=r"call measure and nuts\.run first"):
        beside_nuts.table(ours, [])


def test_a_report_takes_the_worst_over_seeds_and_the_last_line_of_a_run():
    rows = [engine_row(0, verdict="wrong"), engine_row(1), engine_row(0, ess=50.0)]
    rows[1] |= {"mean_error": 0.09, "warnings": ["slow"]}
    text = report.table(rows)
    assert "| p | 2 right | 0.090 | 2.0% | 1.000 | 50 | 4.0 | 100 | 1 of 2 |" in text
    assert "2 runs: 2 right, 0 middling, 0 wrong, 0 silently wrong, 0 failed; 1 right ones" in text


def test_a_report_shows_what_has_failed():
    failed = {"posterior": "p", "seed": 0, "verdict": "failed", "failure": "ModelError: no"}
    assert "| p | 1 failed | - |" in report.table([failed])
    assert "ModelError: no" in report.line(failed)


# -- the engine's runs -----------------------------------------------------------------------------


@pytest.fixture
def measure():
    name = "aif_dcpc.experiments.posteriordb.measure"
    return pytest.importorskip(name, exc_type=ImportError)


def test_a_run_is_sampled_and_judged(measure):
    row = measure.run("dogs-dogs", 0, way="program", max_seconds=30.0)
    assert row["verdict"] == "right"
    parts = ("recording", "drawing", "judging")
    assert sum(row[part] for part in parts) < row["seconds"]
    assert min(row[part] for part in (*parts, "building")) > 0
    assert json.loads(json.dumps(row)) == row


def test_sites_lead_to_the_same_posterior(measure):
    assert measure.run("dogs-dogs", 0, way="sites", max_seconds=30.0)["verdict"] == "right"


def test_a_run_that_raises_is_a_row(measure, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("no\nmore")

    monkeypatch.setattr(measure, "build", refuse)
    row = measure.run("dogs-dogs", 0, way="program", max_seconds=30.0)
    assert row == {"verdict": "failed", "failure": "ValueError: no"}


def test_runs_that_are_there_are_skipped_unless_asked_for_again(
    measure, monkeypatch, tmp_path, capsys
):
    calls = []

    def run(name, seed, **_):
        calls.append((name, seed))
        return {k: v for k, v in engine_row(seed).items() if k not in ("posterior", "way", "seed")}

    monkeypatch.setattr(measure, "run", run)
    monkeypatch.setattr(measure, "_wake", lambda: None)
    asked = ["dogs-dogs", "--results", str(tmp_path / "r.jsonl"), "--seeds"]
    measure.main([*asked, "0"])
    measure.main([*asked, "0", "1"])
    assert calls == [("dogs-dogs", 0), ("dogs-dogs", 1)]
    measure.main([*asked, "0", "--again"])
    assert calls[2:] == [("dogs-dogs", 0)]
    measure.main([*asked, "0", "--report"])
    assert len(calls) == 3
    assert "2 right" in capsys.readouterr().out


def test_a_misspelt_posterior_is_told(measure, tmp_path):
    with pytest.raises(ConfigError, match=r"'dogs-dog'.*Did you mean 'dogs-dogs'"):
        measure.main(["dogs-dog", "--results", str(tmp_path / "r.jsonl")])


def test_the_stopwatch_leaves_the_engine_as_it_was():
    from aif_dcpc.inference.arrival import sample
    from aif_dcpc.inference.model import joint

    before = joint.replayed, sample._draw, sample._finish
    with stopwatch() as parts, pytest.warns(ConvergenceWarning, match="far out in a heavy tail"):
        model, data = SIMULATED["funnel"].build()
        draws = DCPC(model).sample(data, seed=0, num_particles=16)
    assert (joint.replayed, sample._draw, sample._finish) == before
    assert len(parts.recording) >= 2 and len(parts.drawing) == len(parts.judging) >= 1
    known = (*parts.recording, *parts.drawing, *parts.judging)
    assert sum(known) < draws.seconds + 0.01
