"""The chain of corrections that every scan of a data set gets, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoseg.records.dataset import Case, Channel, Correction, FileSource
from autoseg.records.errors import UsageError, UserError
from autoseg.stages.importing.channels import check_channel
from autoseg.stages.importing.draft import Draft, ImportOptions
from autoseg.stages.importing.listing import enumerate_cases
from autoseg.stages.importing.structures import needs_remap

ALL_MR = "all-mr"
SHADED = ("mr", "other")
SHOWS_BODY = ("ct", "mr", "pet", "other")


def settle(draft: Draft, options: ImportOptions) -> tuple[Correction, ...]:
    """Return the corrections in the order in which they are done.

    Raises:
        UsageError: A channel to be registered does not exist or is the first one; one without a bias field is to be
            corrected for it; `fill_nan` means nothing; a data set that shows no body is to be cropped to it.
    """
    chain = [*_filling(options), *_unshading(draft, options), *_registering(draft, options)]
    placed = {"register_to_first", "resample_to_first"}
    named = {item.channel for item in (*chain, *draft.corrections) if item.kind in placed}
    chain += draft.corrections
    chain += [item for item in _resampling(draft) if item.channel not in named]
    chain += _cropping(draft, options)
    if options.resample_labels:
        chain.append(Correction(kind="resample_labels", because="Asked for: labels follow the image's grid, nearest."))
    chain += _cleaning(options)
    chain.append(
        Correction(kind="orient", because="One orientation for all scans, so that left is always on the same side.")
    )
    if needs_remap(draft.labels):
        values = ", ".join(f"{before} -> {after}" for before, after in sorted(draft.labels.remap().items()))
        chain.append(
            Correction(
                kind="remap_labels", because=f"Values in the files become {values}; predictions get the files' values."
            )
        )
    return tuple(chain)


def _filling(options: ImportOptions) -> list[Correction]:
    fill = options.fill_nan
    if fill is None:
        return []
    if fill == "min":
        because = "Asked for: non-finite voxels become the smallest finite value of their channel."
        return [Correction(kind="fill_nan", because=because)]
    try:
        value = float(fill)
    except ValueError:
        raise UsageError(f"non-finite voxels cannot become {fill!r}", fix="Say 'min' or a number.") from None
    return [Correction(kind="fill_nan", value=value, because=f"Asked for: non-finite voxels become {value:g}.")]


def _unshading(draft: Draft, options: ImportOptions) -> list[Correction]:
    """Correct the bias field of the channels named, or of every MR channel."""
    magnetic = {channel.name for channel in draft.channels if channel.kind == "mr"}
    wanted: set[str] = set()
    for name in options.n4:
        if name == ALL_MR:
            if not magnetic:
                raise UsageError(
                    f"no channel is MR: {_kinds(draft.channels)}",
                    fix="Leave --n4 out, or name the channel that is MR.",
                )
            wanted |= magnetic
            continue
        check_channel(name, draft.channels)
        kind = next(channel.kind for channel in draft.channels if channel.name == name)
        if kind not in SHADED:
            raise UsageError(
                f"channel {name} is {kind}, which has no bias field", fix="Name MR channels, or say all-mr."
            )
        wanted.add(name)
    because = "Asked for: the coil's smooth shading is divided out (N4), before anything is moved."
    return [Correction(kind="n4", channel=item.name, because=because) for item in draft.channels if item.name in wanted]


def _cropping(draft: Draft, options: ImportOptions) -> list[Correction]:
    if not options.crop_foreground:
        return []
    first = draft.channels[0]
    if first.kind not in SHOWS_BODY:
        raise UsageError(
            f"the first channel, {first.name}, is {first.kind}: it does not show where the body ends",
            fix="Leave --crop-foreground out.",
        )
    because = f"Asked for: only the body in {first.name} and 10 mm around it are kept; predictions fill the whole scan."
    return [Correction(kind="crop_foreground", value=10.0, because=because)]


def _cleaning(options: ImportOptions) -> list[Correction]:
    smallest = options.drop_specks_mm3
    if smallest is None:
        return []
    if not 0 < smallest < float("inf"):
        raise UsageError(f"specks below {smallest:g} mm3 mean nothing", fix="Give a volume in mm3 above 0.")
    because = f"Asked for: pieces of labels below {smallest:g} mm3 become what surrounds them."
    return [Correction(kind="drop_specks", value=smallest, because=because)]


def _kinds(channels: Sequence[Channel]) -> str:
    return ", ".join(f"{channel.name} ({channel.kind})" for channel in channels)


def _registering(draft: Draft, options: ImportOptions) -> list[Correction]:
    first = draft.channels[0].name
    for name in options.register:
        check_channel(name, draft.channels)
        if name == first:
            raise UsageError(
                f"channel {name} is the first one and cannot be registered onto itself",
                fix="Name the channels that move.",
            )
    return [
        Correction(kind="register_to_first", channel=name, because=f"Asked for: {name} is moved rigidly onto {first}.")
        for name in options.register
    ]


def _resampling(draft: Draft) -> list[Correction]:
    """Name each channel whose header puts it on another grid than the first channel of its case."""
    first = draft.channels[0].name
    found = []
    for channel in draft.channels[1:]:
        away = [(case.id, words) for case in draft.cases if (words := _difference(case, channel, draft.channels))]
        if away:
            example, words = away[0]
            found.append(
                Correction(
                    kind="resample_to_first",
                    channel=channel.name,
                    because=f"{channel.name} lies on another grid than {first} in {len(away)} of {len(draft.cases)} "
                    f"cases ({enumerate_cases([id for id, _ in away], most=3)}); {example}: {words}.",
                )
            )
    return found


def _difference(case: Case, channel: Channel, channels: Sequence[Channel]) -> str | None:
    """Return in words how a channel's grid differs from that of the case's first channel, from the headers alone."""
    from autoseg.images.files import read_header

    reference = next((case.images[c.name] for c in channels if c.name in case.images), None)
    source = case.images.get(channel.name)
    if not isinstance(source, FileSource) or not isinstance(reference, FileSource) or source.path == reference.path:
        return None
    try:
        return read_header(Path(reference.path)).grid.difference(read_header(Path(source.path)).grid)
    except UserError:
        return None  # The check reads every file and says what is wrong with this one.
