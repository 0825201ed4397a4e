"""Estimates of the divergence from a reference policy, from sampled tokens.

Reference: Schulman, Approximating KL Divergence (2020), http://joschu.net/blog/kl-approx.html.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

KlKind = Literal["k1", "abs", "k2", "k3"]

# Bound of the released low_var_kl, nats.
MAX_K3 = 10.0


def kl_estimate(logprob: Tensor, reference_logprob: Tensor, kind: KlKind) -> Tensor:
    """Elementwise estimate in nats of KL(policy, reference), d = logprob - reference_logprob.

    k1 d; abs |d|; k2 d^2 / 2; k3 exp(-d) - 1 + d, at most 10. The released names are kl, abs,
    mse and low_var_kl. Padding must be filled by the caller: a NaN here stays a NaN.
    """
    difference = logprob - reference_logprob
    match kind:
        case "k1":
            return difference
        case "abs":
            return difference.abs()
        case "k2":
            return 0.5 * difference.square()
        case "k3":
            # k3 is above its bound beyond 20 nats either way; an exp that overflowed would
            # turn the zero gradient of the outer clamp into NaN.
            bounded = difference.clamp(-20.0, 20.0)
            return ((-bounded).exp() - 1 + bounded).clamp(-MAX_K3, MAX_K3)
