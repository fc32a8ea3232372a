"""`sample`: from data to draws in one call."""

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.block_sampler import BlockSampler, ChartMove, charts_of
from aif_dcpc.inference.arrival.start import arrive, scatter
from aif_dcpc.inference.arrival.warm_up import run_window, warm_up
from aif_dcpc.inference.model.ancestral import quiet_distributions
from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.joint import JointDensity
from aif_dcpc.inference.model.recording import flat_graph
from aif_dcpc.inference.queries.ranks import bulk_ess, rank_r_hat, tail_ess


def build_sampler(engine, data, K, seed, **setup):
    e = engine.with_num_particles(K)
    state = e.init(data, seed=seed, **setup)
    gen = e.generator
    block = Block.of(state)
    timing = {}
    with quiet_distributions(), torch.no_grad():
        like = state.log_weights
        t = time.process_time()
        shape = (K, block.num_chains, block.dimension)
        start = scatter(shape, like, gen)
        charts = charts_of(block)
        density = {c: JointDensity(block, c).recorded(start) for c in charts}
        maps = {
            "declared": flat_graph(lambda w: (block.to_declared(w)[0],), start),
            "standardised": flat_graph(lambda u: (block.to_standardised(u),), start),
        }
        maps = {c: (lambda x, f=f: f(x)[0]) for c, f in maps.items()}
        timing["record"] = time.process_time() - t
        t = time.process_time()
        found, metric = arrive(density["standardised"], start, gen)
        timing["start"] = time.process_time() - t
        moves = tuple(
            ChartMove(
                c, density[c], metric,
                like.new_full((block.num_chains,), -1.0 if True else 0.0),
                like.new_ones((K, block.num_chains)),
            )
            for c in charts
        )
        from aif_dcpc.inference.moves.hamiltonian import Point
        sampler = BlockSampler(block, moves, maps, Point(found.place, found.log_prob, found.score), "standardised", gen, found.evaluations)
    return sampler, timing, state


def sample(engine, data, *, K=128, draws=100, seed=0, **setup):
    sampler, timing, state = build_sampler(engine, data, K, seed, **setup)
    with quiet_distributions(), torch.no_grad():
        t = time.process_time()
        sweeps = warm_up(sampler)
        timing["warm"] = time.process_time() - t
        timing["warm_sweeps"] = sweeps
        timing["warm_grad"] = sampler.gradients
        t = time.process_time()
        kept = []
        acc = 0
        for _ in range(draws):
            a, points = sampler.sweep(adapt=False)
            kept.append(sampler.point.place)
            acc = acc + torch.stack(list(a.values())).amin(0) / draws
        places = torch.stack(kept)
        last = sampler.chart
        if last == "standardised":
            places = torch.stack([sampler.maps["declared"](x) for x in places])
        timing["draw"] = time.process_time() - t
        timing["draw_grad"] = sampler.gradients - timing["warm_grad"]
        t = time.process_time()
        r = rank_r_hat(places)
        ess = bulk_ess(places)
        timing["diag"] = time.process_time() - t
    return sampler, places, r, ess, acc, timing
