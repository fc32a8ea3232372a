"""Cholesky factors of random correlation matrices whose draws follow their density.

`torch.distributions.LKJCholesky` has the right density, but draws the squared length of row i > 1
from the wrong beta distribution (first parameter i - 1/2 for i/2; torch 2.14): in 3 dimensions the
correlations come out too large. First clouds and predictions are draws, so a model wants this
class; `GraphicalModel.from_pyro` puts it in the other's place.

    >>> import torch
    >>> factor = LKJCholesky(4, 2.0).sample((1000,))
    >>> bool(((factor @ factor.mT).diagonal(dim1=-2, dim2=-1) - 1).abs().max() < 1e-5)
    True

Reference: Lewandowski, Kurowicka, Joe (2009), Journal of Multivariate Analysis 100, section 3.2
    (the onion method).
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Beta
from torch.distributions import LKJCholesky as Density
from torch.nn.functional import pad


class LKJCholesky(Density):
    r"""p(L) proportional to det(L L^T)^(concentration - 1) over correlation matrices L L^T.

    Each correlation then is 2 b - 1 with b ~ Beta(a, a), a = concentration - 1 + dim / 2.

    Args:
        dim: size of the matrix, at least 2.
        concentration: positive; 1 is uniform over correlation matrices, larger values favour small
            correlations.
    """

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw lower triangular factors, `(*sample_shape, *batch_shape, dim, dim)`, row by row.

        Row i (from 0) has a part below the diagonal of squared length Beta(i / 2, concentration +
        (dim - 1 - i) / 2) and of uniform direction.
        """
        with torch.no_grad():
            eta = self.concentration.unsqueeze(-1)
            row = torch.arange(1, self.dim, dtype=eta.dtype, device=eta.device)
            beta = Beta(row / 2, eta + (self.dim - 1 - row) / 2, validate_args=False)
            squared = beta.sample(torch.Size(sample_shape))
            noise = torch.randn(
                (*squared.shape, self.dim - 1), dtype=eta.dtype, device=eta.device
            ).tril()
            below = noise / noise.norm(dim=-1, keepdim=True) * squared.sqrt().unsqueeze(-1)
            diagonal = (1 - squared).clamp_min(torch.finfo(eta.dtype).tiny).sqrt()
            return pad(below, (0, 1, 1, 0)) + torch.diag_embed(pad(diagonal, (1, 0), value=1.0))
