"""The printed summary of every graph: sites, shapes, parents, parameters. Oracles: counted by hand; the model's own."""

import pytest
import torch
from image_graphs import GRAPHS, smallest
from torch import nn
from torch.distributions import Independent, Normal

from aif_dcpc.experiments.bouncing_digits.graph import bouncing_digits
from aif_dcpc.inference import GraphicalModel
from aif_dcpc.inference.images import (
    class_embedding,
    dlgm,
    generator,
    labelled_dlgm,
    labelled_embedding,
    sequential_memory,
    summary,
)


def linear(inputs, outputs):
    return inputs * outputs + outputs


def up(inputs, outputs):
    """A transposed convolution of 4 x 4 and the group normalisation after it."""
    return 16 * inputs * outputs + outputs + 2 * outputs


class Layer(nn.Linear):
    """A Gaussian around a linear map of the parent."""

    def forward(self, x):
        return Independent(Normal(super().forward(x), 1.0), 1)


UPWARDS = linear(4, 256) + up(256, 16) + up(16, 16) + up(16, 8) + up(8, 8)
RESIDUAL = 2 * (9 * 16 * 16 + 16 + 2 * 16)  # of width 16: two 3 x 3 convolutions, each normalised
# site -> shape, parents, parameters
WANTED = {
    "dlgm": (
        dlgm((2, 3), (1, 4, 4)),
        {
            "z1": ("2", "-", 0),
            "z2": ("3", "z1", linear(2, 3) + 3 + 9),
            "image": ("1 x 4 x 4", "z2", linear(3, 16)),
        },
    ),
    "generator 32": (
        generator((3, 32, 32), latents=4, width=16),
        {
            "z": ("4", "-", 0),
            "image": (
                "3 x 32 x 32",
                "z",
                linear(4, 4096) + 2 * RESIDUAL + up(16, 16) + linear(9 * 16, 3) + 1,
            ),
        },
    ),
    "generator with a learned prior": (
        generator((3, 32, 32), latents=4, width=16, prior="learned"),
        {
            "z": ("4", "-", 4 + 4 + 16),
            "image": (
                "3 x 32 x 32",
                "z",
                linear(4, 4096) + 2 * RESIDUAL + up(16, 16) + linear(9 * 16, 3) + 1,
            ),
        },
    ),
    "generator 64": (
        generator((3, 64, 64), latents=4, width=16),
        {"z": ("4", "-", 0), "image": ("3 x 64 x 64", "z", UPWARDS + 16 * 8 * 3 + 3 + 1)},
    ),
    "labelled dlgm": (
        labelled_dlgm(3, (2, 4), (1, 2, 2), covariance="diagonal"),
        {
            "z1": ("2", "-", 0),
            "z2": ("4", "z1", linear(2, 4) + 4),
            "image": ("1 x 2 x 2", "z2", linear(4, 4)),
            "label": ("scalar", "z2", linear(4, 3)),
        },
    ),
    "labelled embedding": (
        labelled_embedding(3, (1, 2, 2), latents=2, hidden=5, label_hidden=6),
        {
            "embedding": ("2", "-", 0),
            "image": ("1 x 2 x 2", "embedding", linear(2, 5) + linear(5, 4)),
            "label": ("scalar", "embedding", linear(2, 6) + linear(6, 3)),
        },
    ),
    "class embedding": (
        class_embedding(3, (1, 2, 2), latents=2, hidden=5),
        {
            "label": ("scalar", "-", 0),
            "embedding": ("2", "label", 3 * (2 + 2 + 4)),
            "image": ("1 x 2 x 2", "embedding", linear(2, 5) + linear(5, 4)),
        },
    ),
    "bouncing digits": (
        bouncing_digits(latents=2, hidden=5, patch=4, canvas=8),
        {
            "what": ("2", "-", 0),
            "velocity": ("2", "-", 0),
            "position": ("2", "position[-1], velocity", 0),
            "frame": ("1 x 8 x 8", "what, position", linear(2, 5) + linear(5, 16) + 1),
        },
    ),
    "sequential memory": (
        sequential_memory((1, 2, 2), latents=3, hidden=5),
        {
            "state": ("3", "state[-1]", linear(3, 5) + linear(5, 3)),
            "image": ("1 x 2 x 2", "state", linear(3, 5) + linear(5, 4)),
        },
    ),
}


@pytest.mark.parametrize("graph", WANTED)
def test_the_summary_names_every_site_its_shape_parents_and_parameters(graph):
    model, wanted = WANTED[graph]
    header, *lines, total = summary(model).splitlines()
    assert header.split() == ["site", "shape", "parents", "parameters"]
    found = [tuple(cell.strip() for cell in line.split("  ") if cell.strip()) for line in lines]
    assert found == [
        (name, shape, parents, str(count)) for name, (shape, parents, count) in wanted.items()
    ]
    assert total.split() == ["total", str(sum(count for _, _, count in wanted.values()))]
    assert len({len(line) for line in (header, *lines, total)}) == 1  # columns are aligned


@pytest.mark.parametrize("graph", GRAPHS)
def test_every_graph_has_a_summary_of_all_its_sites_and_parameters(graph):
    model = smallest(GRAPHS[graph])
    _, *lines, total = [line.split() for line in summary(model).splitlines()]
    assert [line[0] for line in lines] == list(model.order)
    assert sum(int(line[-1]) for line in lines) == int(total[-1])
    assert int(total[-1]) == sum(parameter.numel() for parameter in model.parameters())


def test_sites_with_dots_and_colons_in_their_names_have_parameters():
    model = GraphicalModel()
    model.add_site("net", lambda: Independent(Normal(torch.zeros(2), 1.0), 1))
    model.add_site("net.out", Layer(2, 3), ["net"])
    model.add_site("net:out", Layer(3, 1), ["net.out"])
    _, *lines, total = [line.split() for line in summary(model).splitlines()]
    counts = {line[0]: int(line[-1]) for line in lines}
    assert counts == {"net": 0, "net.out": linear(2, 3), "net:out": linear(3, 1)}
    assert total[-1] == "13"
