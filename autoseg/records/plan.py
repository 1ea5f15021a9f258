"""Plans written by code, and the reasons in them."""

from __future__ import annotations

from typing import Literal

from autoseg.records.configuration import Configuration
from autoseg.records.dataset import Channel, Correction
from autoseg.records.errors import UsageError
from autoseg.records.labels import Labels
from autoseg.records.machine import DeviceProfile
from autoseg.records.record import Record


class Decision(Record):
    """What was decided, the value, and why, with the numbers behind it. `what` is `<configuration>.<field>`."""

    what: str
    value: str
    because: str


class LineupEntry(Record):
    """One configuration of the line-up and its share of a training budget (shares add up to 1)."""

    configuration: str
    share: float


class Plan(Record):
    """Everything needed to preprocess, train and predict; carries labels, channels and corrections along.

    Attributes:
        name: The plan's folder; `default` unless `--plan` says otherwise.
        configurations: All that were planned.
        lineup: Those worth training, in order (a second stage after its first).
        inputs_digest: Digest of all that the planner was given, so that `run` plans again only when that changed.
    """

    schema_version: Literal[1] = 1
    name: str
    dataset: str
    presets: tuple[str, ...]
    device: DeviceProfile
    channels: tuple[Channel, ...]
    labels: Labels
    corrections: tuple[Correction, ...]
    configurations: tuple[Configuration, ...]
    lineup: tuple[LineupEntry, ...]
    decisions: tuple[Decision, ...]
    fingerprint_digest: str
    inputs_digest: str = ""
    version: str

    def configuration(self, name: str) -> Configuration:
        """Return the configuration with this name.

        Raises:
            UsageError: There is none; the message lists those there are.
        """
        for configuration in self.configurations:
            if configuration.name == name:
                return configuration
        there = ", ".join(item.name for item in self.configurations)
        raise UsageError(f"plan {self.name} has no configuration {name!r}", fix=f"It has: {there}.")
