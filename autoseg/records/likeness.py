"""What the scans of the training looked like, in a few numbers, and how far a new one lies from them."""

from __future__ import annotations

from autoseg.records.record import Record


class Aspect(Record):
    """One way in which scans can differ, such as their noise.

    Attributes:
        name: A word for people.
        centre: Median of each number over the training scans.
        scale: Robust standard deviation of each, never below what is no difference worth a word.
        precision: Inverse of the shrunk correlation of the scaled numbers, row by row.
        usual: Distance (root mean square of the whitened numbers) below which most training scans lie (90 of 100 where
            they are many), each measured by the scans of other patients.
        excess: By how much the others lie farther out, on average.
    """

    name: str
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    usual: float = 0.0
    excess: float = 1.0


class Likeness(Record):
    """By what a scan is told that is unlike the training scans.

    Attributes:
        aspects: Of the image alone, and `prediction`: of what the networks say of it, where it is known out of fold.
        limit: An unlikeness above it is flagged; conformal: at most `alarm_fraction` of new scans that are like those
            of the training lie above it.
        alarm_fraction: How many false alarms are put up with; where scans are few, what can be promised with them.
        cases: Training scans that were measured.
    """

    aspects: tuple[Aspect, ...]
    limit: float
    alarm_fraction: float
    cases: int


class AspectFound(Record):
    """How far one scan lies out in one aspect: distance beyond the usual, in times of the mean excess.

    Where distances fall off exponentially, as tails mostly do, each further 1 leaves a third of the scans.
    """

    name: str
    unlikeness: float


class Unlikeness(Record):
    """How unlike the training scans one scan is.

    Attributes:
        unlikeness: Of the aspect in which it lies out farthest, and half of that of the second.
        limit: Of the record that it was measured by.
        aspects: Those above the limit, the farthest first; where only two together are, these two.
    """

    unlikeness: float
    limit: float
    aspects: tuple[AspectFound, ...] = ()

    @property
    def flagged(self) -> bool:
        """Whether a person should look at the scan before its prediction is believed."""
        return self.unlikeness > self.limit

    def line(self) -> str:
        """Return in what the scan is unlike the others, in one line."""
        found = ", ".join(f"{item.name} ({item.unlikeness / self.limit:.1f} x the limit)" for item in self.aspects)
        return f"unlike the training scans in {found}"
