r"""Which share of a child makes a parent's latent neither hedge nor absorb it, from exact losses.

One parent at rate p with one child, $q = P(\text{child} \mid \text{parent})$; latent 0 in the
inner level, latent 1 outside; $x = f_0 + a f_1$. Write $e$ for the child's component of latent 0's
encoder, $h$ for that of its decoder, $g = 1 - c$ for what the child's latent does not give to the
inner level, and $r_0$ for what L1 shrinkage leaves of $f_0$ when the parent fires alone. The inner
level has coefficient $\beta$, the outer 1, L1 $\lambda$. The expected loss is stationary at $e = 0$
if, to first order in $\lambda$ for each force,

- for $d_0$ along $f_1$: $\beta[(1-q)h - qg(1-h)] + (1-q)h - q\lambda/2 = 0$. The inner level pulls
  the child in (hedging); parents that fire alone push it out.
- for $d_0$ along $f_0$:
  $(1-q)(1+\beta)(\lambda - 2r_0) + q[\lambda + \beta(\lambda - 2gr_0)] = 0$. When the child fires
  too, its latent's small part along $f_0$ has filled the shrinkage in the outer level.
- for $e$: $\lambda(1 - h + \beta) = 2\beta g r_0 + 2\beta h g (1 - h)$. On the left what L1 saves
  if the parent's latent is weaker with the child, which is absorption; on the right what the inner
  level gains if it is stronger, which is hedging.

The left side hardly depends on the child's rate, while the right grows with it through $h$. So
every rate needs a share of its own, and a single $\beta$ at share 0 ($g = 1$) fits one rate only.
"""

from collections.abc import Callable

from latent_assay.errors import ConfigError


def excess_of_absorption(*, rate: float, missing: float, beta: float, l1: float) -> float:
    """Absorption minus hedging, the force on the encoder at e = 0.

    Positive where the parent's latent is drawn to be weaker with its child.

    **Arguments:**
    - `rate`: q, the child's rate given the parent.
    - `missing`: g, one minus the share.
    - `beta`: coefficient of the inner level.
    - `l1`: the L1 coefficient.
    """
    q, g = rate, missing
    if not 0 < q < 1:
        raise ConfigError(f"a child's rate given its parent lies between 0 and 1, got {q}.")
    room = (1 - q) * (1 + beta) + q * beta * g
    left_over = l1 * (1 + beta) / (2 * room)
    h = (q * beta * g + q * l1 / 2) / room
    return l1 * (1 - h + beta) - 2 * beta * g * (left_over + h * (1 - h))


def balancing_share(rate: float, *, l1: float, beta: float = 1.0) -> float:
    """The share at which hedging and absorption of a child cancel.

    >>> round(balancing_share(0.15, l1=0.03), 2)
    0.5
    """

    def force(missing: float) -> float:
        return excess_of_absorption(rate=rate, missing=missing, beta=beta, l1=l1)

    return 1 - _root(force, 0.0, 10.0)


def balancing_beta(rate: float, *, l1: float) -> float:
    r"""The $\beta$ of a plain matryoshka loss at which they cancel.

    >>> round(balancing_beta(0.15, l1=0.03), 2)
    0.33
    """

    def force(beta: float) -> float:
        return excess_of_absorption(rate=rate, missing=1.0, beta=beta, l1=l1)

    return _root(force, 0.0, 1e3)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a function goes from positive to negative."""
    if not falling(low) > 0 > falling(high):
        raise ConfigError(
            f"no balance was found up to {high:g}; this child is too rare for its L1 coefficient."
        )
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2
