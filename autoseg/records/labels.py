"""Names and values of what is segmented."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from autoseg.records.record import Record


class Structure(Record):
    """One class that a label map holds.

    Attributes:
        name: As the user calls it.
        value: What stands for it inside autoseg: 1 to K, without a gap.
        original: What stands for it in the user's files; predictions are written with it.
        colour: Red, green and blue (0 to 255) where the user's masks are pictures painted in colours, else None.
    """

    name: str
    value: int
    original: int
    colour: tuple[int, int, int] | None = None


class Region(Record):
    """A target made of several structures, for data whose targets overlap (whole tumour, tumour core).

    Attributes:
        name: As the user calls it.
        values: The structures (inside values) that it unites.
        original: What a prediction writes where this region is the last one that holds.
    """

    name: str
    values: tuple[int, ...]
    original: int


class Labels(Record):
    """What is segmented, and how files and tensors name it.

    Attributes:
        structures: The classes; inside values 1 to K in order. 0 is background.
        regions: Where given, the network learns these with sigmoids instead of the structures with a softmax; in
            the order in which a prediction paints them.
        ignore: Value in the user's files that means "do not learn from here", or None; inside it is K + 1.
        mirror_pairs: Pairs of inside values that are left and right of one another.
    """

    structures: tuple[Structure, ...]
    regions: tuple[Region, ...] = ()
    ignore: int | None = None
    mirror_pairs: tuple[tuple[int, int], ...] = ()

    @model_validator(mode="after")
    def _consecutive(self) -> Self:
        if [item.value for item in self.structures] != list(range(1, len(self.structures) + 1)):
            raise ValueError("structures must have the inside values 1, 2, 3 ... in order")
        names = [item.name for item in self.structures]
        if len(set(names)) != len(names):
            raise ValueError("two structures have one name")
        originals = [item.original for item in self.structures]
        if len(set(originals)) != len(originals):
            raise ValueError("two structures have one value")
        return self

    @property
    def painted(self) -> bool:
        """Whether the user's masks are pictures painted in colours."""
        return any(item.colour is not None for item in self.structures)

    @property
    def output(self) -> Literal["softmax", "sigmoid"]:
        """How the network's outputs compete: softmax over background and structures, or a sigmoid a region."""
        return "sigmoid" if self.regions else "softmax"

    @property
    def output_channels(self) -> int:
        """Channels of the network's output: background and structures, or one a region."""
        return len(self.regions) or len(self.structures) + 1

    @property
    def ignore_value(self) -> int | None:
        """The inside value of what is ignored, or None."""
        return None if self.ignore is None else len(self.structures) + 1

    @property
    def targets(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """What is scored: (name, inside values) of each region, or of each structure where there is no region."""
        if self.regions:
            return tuple((region.name, region.values) for region in self.regions)
        return tuple((item.name, (item.value,)) for item in self.structures)

    @property
    def region_values(self) -> tuple[int, ...]:
        """The inside value that a prediction paints for each region, in painting order; empty without regions.

        It stands for what the region writes in the user's files, or is the region's first structure where no
        structure is written so.
        """
        table = self.remap()
        return tuple(table.get(region.original, region.values[0]) for region in self.regions)

    def remap(self) -> dict[int, int]:
        """Return value in the user's files -> inside value, background and ignore included."""
        table = {0: 0} | {item.original: item.value for item in self.structures}
        if self.ignore is not None:
            table[self.ignore] = len(self.structures) + 1
        return table
