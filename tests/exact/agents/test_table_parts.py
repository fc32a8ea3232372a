"""Parts of structured tables: pooling, draws of structures and rows, what is learned from other rows, novelty."""

import itertools
from math import lgamma, log

import numpy as np
import pytest
import torch
from scipy.special import digamma, xlogy
from scipy.stats import beta, kstest

from aif_dcpc.agents.gridworld.tables.heads import learned_shares, stages, taught
from aif_dcpc.agents.gridworld.tables.loops import (
    choose,
    choose_structures,
    draw_tables,
    kinds,
    pool,
)
from aif_dcpc.agents.gridworld.tables.novelty import dirichlet_information
from aif_dcpc.agents.gridworld.tables.posterior import TablePosterior, evidence_gain
from aif_dcpc.agents.gridworld.tables.prior import PooledDirichletPrior, structure_posterior

BASE = np.array([0.5, 0.3, 0.2])
ALPHAS = (0.1, 1.0)
CHANCES = (0.4, 0.7, 0.3)
SHARES = (0.8, 0.2)
TOKENS = 3
HANDS = 2


def prior_of(shares: tuple[float, ...] | None = SHARES) -> PooledDirichletPrior:
    """Three tokens by two hands: nothing matters, the token does, or both do."""
    bases = [torch.tensor(BASE)] * 3
    return PooledDirichletPrior.of(
        (TOKENS, HANDS), ((0, 1), (1,), ()), bases, ALPHAS, CHANCES, shares
    )


def counts_of(seed: int, *leading: int) -> torch.Tensor:
    source = np.random.default_rng(seed)
    return torch.tensor(source.integers(0, 4, (*leading, TOKENS, HANDS, 3))).double()


def log_row(counts: np.ndarray, alpha: float) -> float:
    """Log evidence of one row."""
    gain = sum(lgamma(alpha * b + n) - lgamma(alpha * b) for b, n in zip(BASE, counts, strict=True))
    return gain + lgamma(alpha) - lgamma(alpha + counts.sum())


def structures(counts: np.ndarray) -> list[tuple[float, float, np.ndarray]]:
    """Log weight, concentration and Dirichlet parameters `(TOKENS, HANDS, 3)` under every structure."""
    found = []
    for alpha, share in zip(ALPHAS, SHARES, strict=True):
        every = counts.sum((0, 1))
        rows = np.broadcast_to(every + alpha * BASE, counts.shape)
        found.append((log(share * CHANCES[0]) + log_row(every, alpha), alpha, rows))
        for split in itertools.product((False, True), repeat=TOKENS):
            weight = log(share * (1 - CHANCES[0]))
            rows = np.empty(counts.shape)
            for v, hand in enumerate(split):
                weight += log(CHANCES[2] if hand else CHANCES[1])
                of_row = counts[v] if hand else counts[v].sum(0, keepdims=True)
                weight += sum(log_row(row, alpha) for row in of_row)
                rows[v] = of_row + alpha * BASE
            found.append((weight, alpha, rows))
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_novelty_is_what_one_more_outcome_tells_of_structure_and_row(seed: int) -> None:
    """H[mean] less the mean of H[row]; and the mean after one more idle trial, structures as likely as before."""
    prior = prior_of()
    counts = counts_of(seed, 2)
    mean, novelty, after_idle = prior.summary(counts, 1)
    for head in range(2):
        every = structures(counts[head].numpy())
        weights = np.exp([w for w, _, _ in every])
        weights /= weights.sum()
        means = np.array([rows / rows.sum(-1, keepdims=True) for _, _, rows in every])
        expected = np.tensordot(weights, means, 1)
        spread = []
        idle = []
        for _, _, rows in every:
            total = rows.sum(-1)
            inner = (rows / total[..., None] * digamma(rows + 1)).sum(-1)
            spread.append(digamma(total + 1) - inner)
            idle.append((rows + np.array([0, 1, 0])) / (total[..., None] + 1))
        entropy = -(expected * np.log(expected)).sum(-1)
        told = entropy - np.tensordot(weights, np.array(spread), 1)
        assert np.allclose(mean[head], expected, atol=1e-9)
        assert np.allclose(novelty[head], told, atol=1e-9) and (told > 0).all()
        assert np.allclose(after_idle[head], np.tensordot(weights, np.array(idle), 1), atol=1e-9)


def test_shares_say_how_likely_concentrations_are() -> None:
    own = counts_of(3, 4)
    head = torch.tensor([1, 0, 1, 1])
    table = TablePosterior(prior_of(), counts_of(4, 2))
    found = table.log_evidence(own, head)
    for n in range(4):
        every = structures((table.past[head[n]] + own[n]).numpy())
        assert float(found[n]) == pytest.approx(np.logaddexp.reduce([w for w, _, _ in every]))
    even = TablePosterior(prior_of(None), counts_of(4, 2))
    assert even.prior.shares.tolist() == [0.5, 0.5]


def test_what_is_gained_is_summed_over_heads() -> None:
    table = TablePosterior(prior_of(), counts_of(5, 2))
    before = counts_of(6, 3, 2)
    after = before.clone()
    after[0, 1, 2, 0, 1] += 2
    after[2] += 1
    found = evidence_gain(table, before, after)
    heads = torch.arange(2)
    for n in range(3):
        gain = table.log_evidence(after[n], heads) - table.log_evidence(before[n], heads)
        assert float(found[n]) == pytest.approx(float(gain.sum()))
    assert float(found[1]) == 0


def test_counts_are_pooled_by_context() -> None:
    prior = prior_of()
    counts = counts_of(7, 2)
    rows = [counts.sum((1, 2))[:, None], counts.sum(2), counts.flatten(1, 2)]
    expected = torch.cat(rows, 1).numpy()
    found = pool(counts.flatten(1, 2).numpy(), prior.index, prior.num_rows)
    assert np.array_equal(found, expected) and np.array_equal(
        prior.pooled(counts.numpy()), expected
    )
    assert prior.level.tolist() == [0] + 3 * [1] + 6 * [2]
    assert prior.group.tolist() == [0, 0, 1, 2, 0, 0, 1, 1, 2, 2]
    assert prior.group_of_context.tolist() == [0, 0, 1, 1, 2, 2]


def test_cases_that_are_alike_are_found() -> None:
    """In counts and in label; by the first of each kind."""
    counts = np.array([[1.0, 2], [0, 2], [1, 2], [1, 2], [0, 2], [1, 0]])
    first, kind = kinds(counts, np.array([0, 0, 1, 0, 0, 1]))
    assert first.tolist() == [0, 1, 2, 5] and kind.tolist() == [0, 1, 2, 0, 1, 3]
    table = TablePosterior(prior_of(), counts_of(4, 2))
    own = counts_of(8, 1).expand(4, -1, -1, -1)
    head = torch.tensor([0, 1, 0, 1])
    assert torch.unique(table.log_evidence(own, head)).shape == (2,)
    means = table.mean_at(own, head, torch.tensor([0, 1, 5, 1]))
    assert torch.equal(means[1], means[3]) and torch.unique(means, dim=0).shape == (3, 3)
    drawn = table.draw(own, head, np.random.default_rng(0))
    assert len({tuple(d.flatten().tolist()) for d in drawn}) == 4  # each by itself


def test_cases_of_one_count_are_told_apart_by_head_and_context() -> None:
    table = TablePosterior(prior_of(), counts_of(4, 2))
    own = counts_of(8, 1)
    every = list(itertools.product(range(2), range(TOKENS * HANDS)))
    head, context = torch.tensor(every).T.contiguous()
    found = table.mean_at(own.expand(len(every), -1, -1, -1), head, context)
    for n in range(len(every)):
        alone = table.mean_at(own, head[n : n + 1], context[n : n + 1])
        assert torch.allclose(found[n], alone[0]), every[n]


def test_choices_are_made_in_proportion() -> None:
    """Five standard errors."""
    source = np.random.default_rng(0)
    weights = np.array([0.2, 0.0, 0.6, 1.2])
    share = np.bincount([choose(source, weights) for _ in range(4000)], minlength=4) / 4000
    expected = weights / 2
    assert (np.abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / 4000)).all()


def test_structures_are_drawn_by_their_weights() -> None:
    """The concentration, whether anything matters, and what does for each token by itself."""
    number = 4000
    source = np.random.default_rng(0)
    weights = source.random((2, 3, 2))  # concentration, pooling, token
    weights[:, 0] = weights[:, 0, :1]
    weights[:, 1:, 1] *= (weights[:, 1:, 0].sum(1) / weights[:, 1:, 1].sum(1))[:, None]
    weights /= weights[:, :, 0].sum()
    many = np.stack([0 * weights, weights])
    alpha, pooling = choose_structures(source, np.full(number, 1), many)

    def close(found: float, expected: float) -> bool:
        return abs(found - expected) <= 5 * (expected * (1 - expected) / number) ** 0.5

    for a in range(2):
        assert close(((alpha == a) & (pooling[:, 0] == 0)).mean(), weights[a, 0, 0])
        for first, second in itertools.product((1, 2), repeat=2):
            both = (alpha == a) & (pooling == [first, second]).all(1)
            chance = weights[a, first, 0] * weights[a, second, 1] / weights[a, 1:, 1].sum()
            assert close(both.mean(), chance), (a, first, second)
    assert ((pooling == 0).all(1) | (pooling > 0).all(1)).all()


def test_rows_are_drawn_from_their_dirichlet_and_shared_where_pooled() -> None:
    """One structure for certain: the first token's hands pooled, the second's apart. False alarm 1 in 10,000 each."""
    number = 400
    prior = PooledDirichletPrior.of(
        (2, 2), ((0, 1), (1,), ()), [torch.tensor(BASE)] * 3, ALPHAS, CHANCES
    )
    past = torch.zeros(1, 2, 2, 3).double()
    past[0, 0, 0, 1] = 3
    table = TablePosterior(prior, past)
    own = np.zeros((2, 7, 3))
    own[0, 1, 0] = 2
    own[0, 6, 2] = 4
    weights = np.zeros((2, 2, 3, 2))
    weights[0, 1, 1, 0] = weights[0, 1, 2, 1] = 1
    head = np.zeros(2, np.int64)
    kind = np.zeros(number, np.int64)
    drawn = draw_tables(
        np.random.default_rng(0), kind, own, head, prior.possible, table._rows, prior.index, weights
    )
    assert drawn.shape == (number, 4, 3) and np.allclose(drawn.sum(-1), 1, atol=1e-5)
    assert np.array_equal(drawn[:, 0], drawn[:, 1])
    assert not np.allclose(drawn[:, 2], drawn[:, 3])
    for context, parameters in (
        (0, BASE + np.array([2, 3, 0])),
        (2, BASE),
        (3, BASE + np.array([0, 0, 4])),
    ):
        for x in range(3):
            law = beta(parameters[x], parameters.sum() - parameters[x])
            assert kstest(drawn[:, context, x].astype(float), law.cdf).pvalue > 1e-4, (context, x)


def test_what_cannot_be_is_never_drawn() -> None:
    row = torch.tensor([0.5, 0.0, 0.5])
    prior = PooledDirichletPrior.of((1, 1), ((0, 1), (1,), ()), [row] * 3, ALPHAS, CHANCES)
    own = torch.zeros(50, 1, 1, 3).double()
    own[:, 0, 0, 1] = 1
    table = TablePosterior(prior, torch.zeros(1, 1, 1, 3).double())
    drawn = table.draw(own, torch.zeros(50).long(), np.random.default_rng(0))
    assert not drawn[..., 1].any() and torch.allclose(drawn.sum(-1), torch.ones(50, 1, 1).double())
    mean = table.mean_at(own[:1], torch.tensor([0]), torch.tensor([0]))
    assert mean[0].tolist() == pytest.approx([0.5, 0, 0.5]) and mean[0, 1] == 0
    # one count where nothing can be: -12, whatever the concentration
    nothing = table.log_evidence(0 * own[:1], torch.tensor([0]))
    assert float(table.log_evidence(own[:1], torch.tensor([0])) - nothing) == pytest.approx(-12)
    assert float(table.log_evidence(2 * own[:1], torch.tensor([0]))) < -20
    stored = TablePosterior(prior, own[:1])
    assert float(stored.log_evidence(0 * own[:1], torch.tensor([0])) - nothing) == pytest.approx(
        -12
    )


def test_what_cannot_be_counts_alike_before_and_after_what_can() -> None:
    """log p(past + own) is one number, whichever part of the counts is the past."""
    row = torch.tensor([0.5, 0.0, 0.5])
    prior = PooledDirichletPrior.of((2, 1), ((0, 1), (1,), ()), [row] * 3, ALPHAS, CHANCES)
    head = torch.tensor([0])
    possible = torch.tensor([[[[20.0, 0, 3]], [[0, 0, 1]]]]).double()
    impossible = torch.tensor([[[[0.0, 2, 0]], [[0, 1, 0]]]]).double()
    every = float(TablePosterior(prior, 0 * possible).log_evidence(possible + impossible, head))
    for past, own in ((possible, impossible), (impossible, possible)):
        assert float(TablePosterior(prior, past).log_evidence(own, head)) == pytest.approx(every)
    alone = float(TablePosterior(prior, 0 * possible).log_evidence(possible, head))
    assert every == pytest.approx(alone - 3 * 12)  # and tells nothing else
    posterior = TablePosterior(prior, possible + impossible)
    mean = posterior.mean_at(0 * possible, head, torch.tensor([0]))
    assert mean == pytest.approx(
        TablePosterior(prior, possible).mean_at(0 * possible, head, torch.tensor([0]))
    )


@pytest.mark.parametrize(("a", "b"), [(0.4, 2.0), (1.0, 1.0), (7.0, 3.0), (0.001, 0.002)])
def test_what_an_outcome_tells_of_a_row_is_mutual_information(a: float, b: float) -> None:
    """H of the mean chance less the mean of H over Beta(a, b), by quadrature; twice the same row, twice the same."""
    chance = beta(a, b).ppf((np.arange(200_000) + 0.5) / 200_000)
    inner = -(xlogy(chance, chance) + xlogy(1 - chance, 1 - chance)).mean()
    mean = a / (a + b)
    expected = -(mean * log(mean) + (1 - mean) * log(1 - mean)) - inner
    found = dirichlet_information(np.array([[a, b], [b, a]]))
    assert found == pytest.approx([expected] * 2, abs=1e-4)
    assert (dirichlet_information(np.array([1e9, 1e-9])) >= 0).all()


# -- what heads have in common ---------------------------------------------------------------------


def test_learned_shares_are_the_mode() -> None:
    """Where expectation and maximisation stand still: near the root of the derivative of the log posterior."""
    source = np.random.default_rng(1)
    evidence = source.normal(0, 3, (5, 2, 3, TOKENS))
    prior = prior_of()
    found = learned_shares(evidence, prior)

    def log_posterior(share: float) -> float:
        shares = np.array([share, 1 - share])
        _, total = structure_posterior(evidence, prior.chances_of(np.arange(5)), shares)
        return float(total.sum() + (2 * np.array(SHARES) * np.log(shares)).sum())

    grid = np.linspace(0.005, 0.995, 397)
    best = grid[np.argmax([log_posterior(s) for s in grid])]
    assert found.sum() == pytest.approx(1) and abs(found[0] - best) < 0.02


def test_rows_are_at_stages_of_being_known() -> None:
    counts = torch.zeros(1, 2, 2, 3)
    counts[0, 0, 0] = torch.tensor([3.0, 0.4, 0.0])
    counts[0, 0, 1] = torch.tensor([0.0, 0.6, 0.0])
    counts[0, 1, 0] = torch.tensor([2.5, 0.0, 0.0])
    expected = [[[7, 6, 6], [4, 5, 4]], [[1, 0, 0], [0, 0, 0]]]
    assert stages(counts)[0].tolist() == expected
    counts[0, 1, 1, 2] = 0.1
    assert stages(counts)[0, 1].tolist() == [[5, 4, 4], [4, 4, 4]]


def test_rows_that_were_hardly_tried_lean_towards_what_happened_in_others() -> None:
    """By hand: a base measure of mass 2, and one for each other row that x happened in; empty hands by themselves."""
    base = torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64)
    some = base.expand(3, 2, 4).clone()
    some[2, 1] = torch.tensor([0.8, 0.0, 0.1, 0.1])  # the second event cannot be there
    prior = PooledDirichletPrior.of((3, 2), ((0, 1), (1,), ()), [base, base, some], ALPHAS, CHANCES)
    counts = torch.zeros(2, 3, 2, 4, dtype=torch.float64)
    counts[0, 0, 0] = torch.tensor([5.0, 1, 0, 0])  # known
    counts[0, 1, 0] = torch.tensor([0.0, 1, 0, 0])
    counts[0, 0, 1] = torch.tensor([0.0, 0.4, 1, 0])
    counts[0, 1, 1] = torch.tensor([0.0, 2, 0, 0])
    found = taught(prior, counts, 3).base[0]
    plain = prior.base[0]
    index = {(v, h): int(prior.index[2, 2 * v + h]) for v in range(3) for h in range(2)}
    assert np.allclose(found[index[0, 0]], plain[index[0, 0]])  # it speaks for itself
    empty = 2 * base.numpy() + [1, 2, 0, 0]
    for v in (1, 2):
        assert np.allclose(found[index[v, 0]], empty / empty.sum())
    full = 2 * base.numpy() + [0, 1, 1, 0]
    assert np.allclose(found[index[1, 1]], full / full.sum())
    impossible = 2 * np.array([0.8, 0, 0.1, 0.1]) + [0, 0, 1, 1]
    assert np.allclose(found[index[2, 1]], impossible / impossible.sum())
    of_token = {v: int(prior.index[1, 2 * v]) for v in range(3)}
    every = 2 * base.numpy() + [1, 2, 1, 0]
    assert np.allclose(found[of_token[2]], every / every.sum())
    assert np.allclose(found[of_token[0]], base) and np.allclose(found[of_token[1]], base)
    assert np.allclose(found[0], base)
    assert np.allclose(taught(prior, counts, 3).base[1], plain)  # the second head has met nothing


def test_where_the_hand_mattered_it_may_again() -> None:
    """Chances where expectation and maximisation stand still: prior mass 2, and each token that was met, given that it matters."""
    prior = prior_of()
    counts = torch.zeros(1, TOKENS, HANDS, 3, dtype=torch.float64)
    counts[0, :2, 0, 0] = 6
    counts[0, :2, 1, 2] = 6
    chances = taught(prior, counts, 3).chances[0]
    assert chances[0] == CHANCES[0] and chances[1:].sum() == pytest.approx(1) and chances[2] > 0.4
    evidence = prior.log_evidences(prior.pooled((counts > 0).double().numpy()))[0]
    each = np.exp(evidence[:, 1:]) * chances[1:, None]  # concentration, pooling, token
    alpha = SHARES * each.sum(1).prod(1)
    expected = (alpha[:, None, None] / alpha.sum() * each / each.sum(1, keepdims=True)).sum(0)
    mass = 2 * np.array(CHANCES[1:]) + expected[:, :2].sum(1)
    assert np.allclose(chances[1:], mass / mass.sum(), atol=1e-3)
    assert np.allclose(taught(prior, 0 * counts, 3).chances[0], CHANCES)
