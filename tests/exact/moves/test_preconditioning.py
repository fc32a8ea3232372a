"""Roots of preconditioners against eigenvalues."""

import pytest
import torch

from aif_dcpc.inference.moves.adaptation import LEAST_CURVATURE, root_of_inverse


def symmetric(eigenvalues, seed=0):
    """A matrix with given eigenvalues and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator))
    return basis @ torch.diag(torch.tensor(eigenvalues)) @ basis.mT, basis


@pytest.mark.parametrize(
    "eigenvalues", [[-200.0, -3.0, 1.0, 40.0, 400.0], [-1.0, -1.0, -1.0], [0.0, -5.0, 900.0]]
)
def test_an_indefinite_curvature_is_taken_by_its_absolute_eigenvalues(eigenvalues):
    matrix, basis = symmetric(eigenvalues)
    root = root_of_inverse(matrix[None], magnitude=True)[0]
    least = LEAST_CURVATURE * matrix.diagonal().abs().mean()
    wanted = (torch.tensor(eigenvalues).square() + least.square()).rsqrt()
    found = basis.mT @ root @ root.mT @ basis
    assert torch.allclose(found.diagonal(), wanted, rtol=0.02)
    assert torch.allclose(root, root.triu())


def test_a_definite_curvature_is_inverted_as_it_is():
    matrix, _ = symmetric([0.02, 3.0, 50.0])
    found = root_of_inverse(matrix[None], magnitude=True)[0]
    assert torch.allclose(found @ found.mT, torch.linalg.inv(matrix), rtol=1e-2)
    assert torch.equal(found, root_of_inverse(matrix[None])[0])
