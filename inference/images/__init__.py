"""Generative models of images: graphs only; learning and inference are the engine's.

A graph, and what is in it:

    >>> from aif_dcpc.inference.images import dlgm, summary
    >>> model = dlgm(sizes=(2, 3), image_shape=(1, 4, 4))
    >>> print(summary(model))
    site   shape      parents  parameters
    z1     2          -                 0
    z2     3          z1               21
    image  1 x 4 x 4  z2               64
    total                              85
"""

from aif_dcpc.inference.images.dlgm import dlgm
from aif_dcpc.inference.images.generators import generator
from aif_dcpc.inference.images.labelled import (
    class_embedding,
    class_probabilities,
    labelled_dlgm,
    labelled_embedding,
)
from aif_dcpc.inference.images.masking import with_visible
from aif_dcpc.inference.images.sequential_memory import sequential_memory
from aif_dcpc.inference.images.summary import summary

__all__ = [
    "class_embedding",
    "class_probabilities",
    "dlgm",
    "generator",
    "labelled_dlgm",
    "labelled_embedding",
    "sequential_memory",
    "summary",
    "with_visible",
]
