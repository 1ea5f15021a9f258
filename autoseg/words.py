"""What the words after an option mean."""

from __future__ import annotations

from pathlib import Path

from autoseg.records.errors import UsageError
from autoseg.records.metrics import DEFAULT_FAMILIES, FAMILIES, METRICS, Family


def folds(text: str) -> tuple[str, ...]:
    """Return the folds that `0..4`, `0,2` or `all` means, in order and without repetition; none for "".

    Raises:
        UsageError: The text is none of these.
    """
    found: list[str] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        first, dots, last = part.partition("..")
        if part == "all":
            found.append(part)
        elif first.isdigit() and (last.isdigit() if dots else True) and len(part) < 20:
            found += [str(number) for number in range(int(first), int(last or first) + 1)]
        else:
            raise UsageError(f"-f {text!r} names no folds", fix="Write 0..4, 0,2 or all.", code="bad_folds")
    return tuple(dict.fromkeys(found))


def settings(words: list[str]) -> dict[str, str]:
    """Return the changes that `--set key=value` asks for."""
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {word!r} is no change", fix="Write --set key=value.", code="bad_setting")
        pairs[key] = value
    return pairs


def families(text: str, *, lesions: bool = False) -> frozenset[Family]:
    """Return the families of figures that `all`, `usual`, or names of families and figures separated by commas mean.

    Args:
        text: As typed.
        lesions: Whether lesions are wanted as well.

    Raises:
        UsageError: A name means nothing.
    """
    found: set[Family] = {"lesions"} if lesions else set()
    family_of = {metric.name: metric.family for metric in METRICS} | {family: family for family in FAMILIES}
    for word in filter(None, text.replace(" ", "").split(",")):
        if word == "all":
            found.update(FAMILIES)
        elif word == "usual":
            found.update(DEFAULT_FAMILIES)
        elif word in family_of:
            found.add(family_of[word])
        else:
            there = ", ".join(["all", "usual", *FAMILIES])
            raise UsageError(
                f"--metrics {word!r} is no figure", fix=f"Write {there}, or a column of the scores.", code="no_metric"
            )
    return frozenset(found)


def planning_settings(words: list[str], *, plan: str) -> dict[str, str]:
    """Return the keys of the presets that `--set` sets at planning; a key without a section is of `[planning]`.

    `normalization.CHANNEL` is another word for `planning.normalizations.CHANNEL`.

    Raises:
        UsageError: The plan has no name of its own: it would take the place of the one that the rules make.
    """
    if words and plan == "default":
        raise UsageError(
            "--set makes a plan by hand, which needs a name of its own",
            fix="Add for example --plan by_hand.",
            code="unnamed_plan",
        )
    found = {}
    for key, value in settings(words).items():
        section, dot, name = key.partition(".")
        full = key if dot else f"planning.{key}"
        if section in {"normalization", "normalizations"} and dot:
            full = f"planning.normalizations.{name}"
        found[full] = value
    return found


def filling(text: str | None) -> str | float | None:
    """Return what `--nan fill=min` or `--nan fill=0` fills with."""
    if text is None:
        return None
    value = text.removeprefix("fill=")
    if value == "min":
        return value
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"--nan {text!r} is no filling", fix="Write --nan fill=min or --nan fill=0.") from None


def devices(device: str | None, gpus: int, ranks: int) -> tuple[str | None, int]:
    """Return the device and the number of ranks on it that `--device`, `--gpus` and `--ranks` mean together.

    Raises:
        UsageError: They contradict one another.
    """
    if gpus and (ranks > 1 or device not in (None, "cuda")):
        raise UsageError("--gpus goes with no other device and not with --ranks", fix="Give --gpus alone.")
    if ranks > 1 and device not in (None, "cpu"):
        raise UsageError("--ranks are processes of one CPU", fix="Use --gpus N for several GPUs.")
    return ("cuda" if gpus else "cpu" if ranks > 1 else device), max(gpus, ranks)


def lines(file: Path) -> tuple[str, ...]:
    """Return the lines of a file that are not empty."""
    try:
        return tuple(line.strip() for line in file.read_text().splitlines() if line.strip())
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}", file=file, fix="Give a file with a case id a line."
        ) from None
