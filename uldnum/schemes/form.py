r"""Tables in the answer of a network instead of the score.

At a noise level ``z = alpha x + sigma eps`` a network returns an answer N, from which the denoised image, the noise and
the score follow by affine maps of z and N. Every update of the package is affine in the score, and therefore affine in
N. The coefficients of N are computed in float64 when the tables are built, so that a step needs no pass over the state
to convert N to the score.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["START", "Form"]

# Largest amplification (`Form.amplification`) at the first of the default levels, and largest amplification without a
# warning in the move from the first level of a plan to the next one.
START = 30.0


class Form(NamedTuple):
    """Affine maps from z and the answer N of a target to the denoised image, the noise and the score.

    Each field holds the coefficient of z and the coefficient of N.

    Attributes
    ----------
    image : (float, float)
        Coefficients (p, q) of the denoised image ``x0 = p z + q N``.
    noise : (float, float)
        Coefficients (r, t) of the noise ``eps = r z + t N``.
    score : (float, float)
        Coefficients (a, b) of the score ``s = a z + b N``.
    """

    image: tuple[float, float]
    noise: tuple[float, float]
    score: tuple[float, float]

    @classmethod
    def of(cls, image: tuple[float, float], noise: tuple[float, float], sigma: float) -> Form:
        """Return the form with the given image and noise at the noise level sigma. The score is ``-eps/sigma``."""
        r, t = noise
        return cls(image, noise, (-r / sigma, -t / sigma))

    @classmethod
    def of_image(cls, alpha: float, sigma: float) -> Form:
        """Return the form of an answer that is the denoised image itself, so that ``eps = (z - alpha N)/sigma``."""
        return cls.of((0.0, 1.0), (1 / sigma, -alpha / sigma), sigma)

    def amplification(self, sigma: float) -> float:
        """Return the factor by which the denoised image multiplies an error of the predicted noise, at most.

        The image p z + q N is then a difference of large numbers. If the answer is the noise or the score, the factor
        is sigma/alpha. If it is the image, v or the velocity, the factor is at most 1.
        """
        return abs(self.image[0]) * sigma

    def rescaled(self, factor: float, sigma: float) -> Form:
        """Return the form for z multiplied by a factor, where sigma is the noise level after the multiplication."""
        (p, q), (r, t) = self.image, self.noise
        return self.of((p / factor, q), (r / factor, t), sigma)
