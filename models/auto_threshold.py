"""The threshold of keep_ratio auto: as large as a change of the loss allows (docs/calibration.md)."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from shadowattn.models.observations import Observations

MOST_CHANGE = 0.005  # of perplexity, on calibration text: leaves room for texts that are harder
PROBES = (2.0**-6, 2.0**-7, 2.0**-8)  # their changes stand out of the noise of INT8 weights
_LOSS_PER_DAMAGE = 0.16  # SmolLM2: from 0.15 to 0.17 between +0.7 and +6 %
CANDIDATES = 2.0 ** np.arange(-5.0, -14.25, -0.25)


def expected(seen: Observations, factors: np.ndarray) -> float:
    """Where nothing was measured: what one relative error cost the loss of SmolLM2."""
    return choose(lambda threshold: seen.damage(threshold * factors), {1.0: _LOSS_PER_DAMAGE * seen.damage(factors)})


def choose(damage: Callable[[float], float], changes: Mapping[float, float], most: float = MOST_CHANGE) -> float:
    """The largest candidate whose expected change of the loss is at most `most`.

    damage(threshold): what is expected, up to one factor. changes: threshold -> measured change of the loss. The factor
    comes from the measurements, the mean of their ratios' logarithms: a change of half a percent cannot be told from
    the noise that INT8 weights make, larger ones can.
    """
    ratios = [math.log(change / damage(threshold)) for threshold, change in changes.items() if change > 0]
    if not ratios:  # nothing was lost at all
        return float(CANDIDATES[0])
    factor = math.exp(sum(ratios) / len(ratios))
    good = [threshold for threshold in CANDIDATES if factor * damage(threshold) <= most]
    return float(good[0] if good else CANDIDATES[-1])
