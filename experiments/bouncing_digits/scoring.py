"""What a cloud says of a film, and how far that is from the truth, digits matched in any order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from aif_dcpc.experiments.bouncing_digits.graph import names
from aif_dcpc.experiments.bouncing_digits.rendering import Renderer, fold


@dataclass(frozen=True)
class Belief:
    """Digits of films as particles see them.

    Attributes:
        what: `(K, B, D, latents)`.
        position: `(K, B, T, D, 2)`, unfolded.
    """

    what: Tensor
    position: Tensor

    @classmethod
    def of(cls, values: Mapping[str, Tensor], num_digits: int) -> "Belief":
        """From the particles of each site."""
        digits = names(num_digits)
        what = torch.stack([values[digit.what] for digit in digits], 2)
        return cls(what, torch.stack([values[digit.position] for digit in digits], 3))

    @classmethod
    def join(cls, beliefs: Sequence["Belief"]) -> "Belief":
        """Of all films that some beliefs are about."""
        return cls(
            torch.cat([b.what for b in beliefs], 1), torch.cat([b.position for b in beliefs], 1)
        )

    def then(self, future: Mapping[str, Tensor]) -> "Belief":
        """The same with the forecast's slices after the last."""
        digits = names(self.what.shape[2])
        ahead = torch.stack([future[digit.position] for digit in digits], 3)
        return replace(self, position=torch.cat([self.position, ahead], 2))

    def best(self, log_joint: Tensor) -> "Belief":
        """Of each film the one particle with the greatest log joint `(K, B)`."""
        films = torch.arange(log_joint.shape[1])
        index = log_joint.argmax(0)
        return Belief(self.what[index, films][None], self.position[index, films][None])

    def layers(self, renderer: Renderer) -> Tensor:
        """Each digit alone in its canvas, `(K, B, T, D, 1, canvas, canvas)`."""
        with torch.no_grad():
            return renderer.layer(self.what.unsqueeze(2), self.position)

    def frames(self, renderer: Renderer) -> Tensor:
        """Mean of the frames, `(B, T, 1, canvas, canvas)`."""
        values = [
            x
            for w, p in zip(self.what.unbind(2), self.position.unbind(3), strict=True)
            for x in (w[:, :, None], p)
        ]
        with torch.no_grad():
            return renderer(*values).mean.mean(0)

    def matched(self, truth: Tensor) -> "Belief":
        """Digits in the order in which they are nearest to the truth `(B, T, D, 2)`, whole films of every particle.

        If the truth is shorter, its slices are compared with the first of the belief's.
        """
        apart = fold(self.position[:, :, : truth.shape[1]]).unsqueeze(4) - fold(truth).unsqueeze(2)
        cost = apart.norm(dim=-1).mean(2)  # (K, B, D found, D true)
        order = torch.stack([assignment(c) for c in cost.flatten(0, 1)]).unflatten(
            0, cost.shape[:2]
        )
        what = self.what.gather(2, order[..., None].expand_as(self.what))
        return Belief(
            what, self.position.gather(3, order[:, :, None, :, None].expand_as(self.position))
        )


def assignment(cost: Tensor) -> Tensor:
    """For each column of `cost` `(D, D)` its row, of least total cost."""
    rows, columns = linear_sum_assignment(cost.numpy().T)
    return torch.as_tensor(columns)[torch.as_tensor(rows)]


def reconstruction_scores(
    belief: Belief, renderer: Renderer, test: Tensor, position: Tensor, half_width: float
) -> dict[str, float]:
    """Error of the frames, and of the digits' folded centres.

    Args:
        belief: of all frames.
        renderer: draws them.
        test: `(B, T, 1, canvas, canvas)`.
        position: true and unfolded, `(B, T, D, 2)`.
        half_width: pixels per unit of position.
    """
    error = pixels_off(belief.matched(position).position, position, half_width)
    return {
        "mse": mse(belief.frames(renderer), test),
        "within_2_pixels": (error <= 2).double().mean().item(),
        "position_error": error.mean().item(),
        "mse_of_black": test.square().mean().item(),
    }


def prediction_scores(
    belief: Belief,
    renderer: Renderer,
    test: Tensor,
    position: Tensor,
    half_width: float,
    *,
    seen: int,
) -> dict[str, float]:
    """Frames after the first `seen`, beside a film that stands still; digits are matched by the frames seen."""
    found = belief.matched(position[:, :seen]).position[:, :, seen:]
    error = pixels_off(found, position[:, seen:], half_width)
    still = position[:, seen - 1 : seen].expand_as(position[:, seen:])
    return {
        "predicted_mse": mse(belief.frames(renderer)[:, seen:], test[:, seen:]),
        "predicted_within_2_pixels": (error <= 2).double().mean().item(),
        "predicted_position_error": error.mean().item(),
        "still_mse": mse(test[:, seen - 1 : seen].expand_as(test[:, seen:]), test[:, seen:]),
        "still_position_error": pixels_off(still[None], position[:, seen:], half_width)
        .mean()
        .item(),
    }


def pixels_off(found: Tensor, truth: Tensor, half_width: float) -> Tensor:
    """Distance `(B, T, D)` between the particles' mean folded centre and the true one, pixels."""
    return (fold(found).mean(0) - fold(truth)).norm(dim=-1) * half_width


def mse(found: Tensor, truth: Tensor) -> float:
    """Per-pixel mean squared error."""
    return (found - truth).square().mean().item()
