"""The time of a step from the latest ones: what a few slow steps cannot spoil."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

LATEST = 60
GROUP = 5
FEWEST_GROUPS = 3


def pace(seconds: Sequence[float]) -> float:
    """Return the seconds that a step takes: of groups of five in a row each the mean, and of these the median.

    A mean within a group, because a step that waits for its batch may be followed by one that need not; a median
    among groups, because the first steps make room and choose kernels, and anything may disturb a machine for a
    while. Of two groups in the middle the faster: what spoils a group makes it slower. Of fewer than fifteen steps the
    median of the steps themselves.

    Args:
        seconds: Of the latest steps, in their order; the oldest that fill no group are left out.

    Raises:
        ValueError: No step.
    """
    size = GROUP if len(seconds) >= FEWEST_GROUPS * GROUP else 1
    first = len(seconds) % size
    groups = [seconds[start : start + size] for start in range(first, len(seconds), size)]
    return statistics.median_low(sum(group) / size for group in groups)
