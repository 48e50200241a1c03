"""Seconds at a length that was not measured, from those that were."""

import bisect
from collections.abc import Mapping


def interpolate(points: Mapping[int, float], length: int) -> float:
    """points: length -> seconds, at least one. The straight line between the two neighbours; beyond either end in
    proportion to the length, since every stage reads all keys once: an extrapolation, to be planned with, not shown
    as a measurement."""
    lengths = sorted(points)
    if length in points:
        return points[length]
    if not lengths[0] < length < lengths[-1]:
        end = lengths[0] if length < lengths[0] else lengths[-1]
        return points[end] * length / end
    place = bisect.bisect(lengths, length)
    low, high = lengths[place - 1], lengths[place]
    return points[low] + (points[high] - points[low]) * (length - low) / (high - low)
