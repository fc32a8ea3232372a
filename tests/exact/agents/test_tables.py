"""Structured tables against enumeration of every structure."""

import itertools
from math import lgamma, log

import numpy as np
import pytest
import torch

from aif_dcpc.agents.gridworld.tables.heads import taught
from aif_dcpc.agents.gridworld.tables.novelty import dirichlet_information
from aif_dcpc.agents.gridworld.tables.posterior import TablePosterior
from aif_dcpc.agents.gridworld.tables.prior import PooledDirichletPrior
from aif_dcpc.agents.gridworld.tables.summary import Summary

BASE = np.array([0.5, 0.3, 0.2])
ALPHAS = (0.1, 1.0)
CHANCES = (0.4, 0.7, 0.3)
HEADS = 2
TOKENS = 3
HANDS = 2


def log_evidence(counts, alpha):
    """Log evidence of the counts of one row under a Dirichlet prior of mass alpha."""
    cells = sum(
        lgamma(alpha * b + n) - lgamma(alpha * b) for b, n in zip(BASE, counts, strict=True)
    )
    return lgamma(alpha) - lgamma(alpha + counts.sum()) + cells


def mean(counts, alpha):
    return (counts + alpha * BASE) / (counts.sum(-1, keepdims=True) + alpha)


def enumerated(counts):
    """Log evidence and posterior mean of one head's counts `(TOKENS, HANDS, 3)`: 2 * (1 + 2^TOKENS) structures."""
    logs = []
    means = []
    for alpha in ALPHAS:
        logs.append(log(0.5 * CHANCES[0]) + log_evidence(counts.sum((0, 1)), alpha))
        means.append(np.broadcast_to(mean(counts.sum((0, 1)), alpha), counts.shape))
        for split in itertools.product((False, True), repeat=TOKENS):
            rows = [(v, [h]) for v in range(TOKENS) if split[v] for h in range(HANDS)]
            rows += [(v, list(range(HANDS))) for v in range(TOKENS) if not split[v]]
            found = np.empty(counts.shape)
            for v, hands in rows:
                found[v, hands] = mean(counts[v, hands].sum(0), alpha)
            prior = (
                0.5 * (1 - CHANCES[0]) * np.prod([CHANCES[2] if s else CHANCES[1] for s in split])
            )
            logs.append(
                log(prior) + sum(log_evidence(counts[v, hands].sum(0), alpha) for v, hands in rows)
            )
            means.append(found)
    top = max(logs)
    weights = np.exp(np.array(logs) - top)
    return top + log(weights.sum()), np.tensordot(weights / weights.sum(), np.array(means), 1)


@pytest.fixture(params=range(3))
def table(request):
    """A table, counts of stored episodes, and counts of the running one."""
    source = np.random.default_rng(request.param)
    base = torch.tensor(BASE)
    prior = PooledDirichletPrior.of(
        (TOKENS, HANDS), ((0, 1), (1,), ()), [base] * 3, ALPHAS, CHANCES
    )
    past, own = (
        torch.tensor(source.integers(0, 4, (HEADS, TOKENS, HANDS, 3))).double() for _ in range(2)
    )
    return prior, past, own


def test_evidence_and_means_are_those_of_all_structures(table):
    prior, past, own = table
    posterior = TablePosterior(prior, past)
    heads = torch.arange(HEADS)
    evidence, means = zip(
        *(enumerated((past + own)[head].numpy()) for head in range(HEADS)), strict=True
    )
    assert posterior.log_evidence(own, heads).tolist() == pytest.approx(evidence, abs=1e-9)
    assert np.allclose(prior.summary(past + own, 0)[0], means, atol=1e-9)
    for context in range(TOKENS * HANDS):
        found = posterior.mean_at(own, heads, torch.full((HEADS,), context))
        assert np.allclose(found, np.stack(means).reshape(HEADS, -1, 3)[:, context], atol=1e-9)


def test_draws_have_the_posterior_mean(table):
    """Within 5 standard errors of 36 entries: a false alarm in 50,000."""
    prior, past, own = table
    number = 20_000
    cases = own.repeat(number, 1, 1, 1)
    heads = torch.arange(HEADS).repeat(number)
    drawn = (
        TablePosterior(prior, past)
        .draw(cases, heads, np.random.default_rng(1))
        .unflatten(0, (number, HEADS))
    )
    expected = np.stack([enumerated((past + own)[head].numpy())[1] for head in range(HEADS)])
    error = drawn.std(0) / number**0.5
    assert bool(((drawn.mean(0) - torch.tensor(expected)).abs() < 5 * error).all())


def test_one_exception_is_found_where_nothing_else_depends_on_the_hand():
    """Nine failures with an empty hand, one success with a thing in it, while all other tokens behave alike."""
    base = torch.tensor(BASE)
    prior = PooledDirichletPrior.of(
        (TOKENS, HANDS), ((0, 1), (1,), ()), [base] * 3, ALPHAS, (1 / 3, 0.8, 0.2)
    )
    counts = torch.zeros(1, TOKENS, HANDS, 3, dtype=torch.float64)
    counts[0, 0, 0, 0] = 9
    counts[0, 0, 1, 2] = 1
    counts[0, 1, :, 1] = 5
    counts[0, 2, :, 0] = 5
    assert float(prior.summary(counts, 0)[0][0, 0, 1, 2]) > 0.5


def test_how_noisy_rows_are_is_learned_from_all_heads_together():
    """Rows that always give the same speak for a tiny concentration, rows that vary for a large one."""
    alphas = (0.001, 0.1, 1.0)
    base = torch.tensor(BASE)
    prior = PooledDirichletPrior.of(
        (TOKENS, HANDS), ((0, 1), (1,), ()), [base] * 3, alphas, (0.4, 0.7, 0.3)
    )
    certain = torch.zeros(8, TOKENS, HANDS, 3, dtype=torch.float64)
    certain[:, 0, :, 1] = 10
    certain[:, 1:, :, 0] = 10
    noisy = torch.full((8, TOKENS, HANDS, 3), 4.0, dtype=torch.float64)
    nothing = torch.zeros_like(certain)
    shares = [
        TablePosterior(prior, past).with_learned_shares().prior.shares
        for past in (certain, noisy, nothing)
    ]
    assert shares[0].argmax() == 0 and shares[1].argmax() == 2
    assert np.allclose(shares[2], 1 / 3)
    assert all(abs(share.sum() - 1) < 1e-12 for share in shares)
    # what is learned is used: a first exception is taken for less likely among certain heads
    own = torch.zeros(1, TOKENS, HANDS, 3, dtype=torch.float64)
    own[0, 2, 0, 0] = 3
    chance = [
        float(
            TablePosterior(prior, past)
            .with_learned_shares()
            .mean_at(own, torch.tensor([0]), torch.tensor([2 * HANDS]))[0, 2]
        )
        for past in (certain, noisy)
    ]
    assert chance[0] < 1e-3 < chance[1]


def test_what_a_row_teaches_by_itself_is_averaged_over_what_may_matter(table):
    """A token's row as if the hand mattered, and if not; as if it did where something else came of it."""
    prior, past, _ = table
    past[0, 0, :, 1:] = 0
    found = prior.apart(past, 0)
    for head, v, h in itertools.product(range(HEADS), range(TOKENS), range(HANDS)):
        counts = past[head, v].numpy()
        if_hand, if_not = (dirichlet_information(BASE + n) for n in (counts[h], counts.sum(0)))
        averaged = CHANCES[1] * if_not + CHANCES[2] * if_hand
        expected = if_hand if counts[:, 1:].sum() > 0.5 else averaged
        assert found[head, v, h] == pytest.approx(expected)


STILL, TAKEN, OTHER, FREE = range(4)  # events; the last is not known yet
EMPTY, FULL = range(2)


def grasping(possible=True):
    """Two things of five were taken by an empty hand, and not by a full one; two others never were."""
    base = torch.tensor([0.8, 0.05, 0.1, 0.05])
    row = base.expand(5, 2, 4).clone()
    if not possible:
        row[4, :, TAKEN] = 0
        row = row / row.sum(-1, keepdim=True)
    prior = PooledDirichletPrior.of(
        (5, 2), ((0, 1), (1,), ()), [base, row[:, :1], row], (0.001, 0.1), (1 / 3, 0.8, 0.2)
    )
    counts = torch.zeros(1, 5, 2, 4, dtype=torch.float64)
    counts[0, :2, EMPTY, TAKEN] = 3
    counts[0, :2, FULL, STILL] = 3
    counts[0, 2:4, :, STILL] = 3
    return prior, counts


def test_what_is_done_to_some_things_may_be_done_to_others():
    """A thing that was only met with a full hand: an empty one may take it; a full one may not."""
    prior, counts = grasping()
    counts[0, 4, FULL, STILL] = 1
    before = prior.summary(counts, STILL)[0][0, 4]
    after = taught(prior, counts, FREE).summary(counts, STILL)[0][0, 4]
    assert after[EMPTY, TAKEN] > 0.1 > 3 * before[EMPTY, TAKEN]
    assert after[FULL, TAKEN] < 0.02
    assert after[EMPTY, OTHER] < before[EMPTY, OTHER]
    assert torch.allclose(after.sum(-1), torch.ones(2, dtype=after.dtype))


def test_where_it_cannot_be_it_speaks_for_something_not_known_yet():
    prior, counts = grasping(possible=False)
    after = taught(prior, counts, FREE).summary(counts, STILL)[0][0, 4]
    assert after[EMPTY, TAKEN] < 1e-4
    assert after[EMPTY, FREE] > 0.1


def test_an_action_that_never_did_anything_is_not_expected_to():
    prior, counts = grasping()
    counts[..., TAKEN] = 0
    before = prior.summary(counts, STILL)[0][0, 4, EMPTY, TAKEN]
    after = taught(prior, counts, FREE).summary(counts, STILL)[0][0, 4]
    assert after[EMPTY, TAKEN] < before


def test_what_was_tried_is_not_hoped_for_by_what_others_taught():
    """Rows with counts keep the base measure that they had, also of an action whose rows are noisy."""
    prior, counts = grasping()
    taught_prior = taught(prior, counts, FREE)
    pooled = prior.pooled((counts > 0).double().numpy())
    assert pooled.any()
    tried = prior.pooled(counts.numpy()).sum(-1) > 2.5
    assert np.array_equal(taught_prior.base[tried], prior.base.repeat(1, 0)[tried])
    untried = ~tried
    untried[:, 0] = False
    assert (taught_prior.base[untried] != prior.base[untried]).any(-1).all()


def test_a_summary_of_what_has_not_changed_is_the_last_one():
    """Also where every action has a base measure of its own; one more count changes its action alone."""
    prior, counts = grasping()
    own = taught(prior, counts, FREE)
    summary = Summary(STILL)
    first = summary.update(counts, own)
    assert summary.update(counts.clone(), own) is first
    more = counts.clone()
    more[0, 0, 0, STILL] += 1
    for part, fresh in zip(summary.update(more, own), own.summary(more, STILL), strict=True):
        assert torch.allclose(part, fresh)
