"""Where the weights that a run starts from come from, and what of them it takes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from autoseg.networks import nnunet_weights, transfer, weights
from autoseg.records.configuration import Configuration
from autoseg.records.errors import UsageError, UserError
from autoseg.records.labels import Labels
from autoseg.records.model import ModelId, Pretrained, RunRecord, TrainedModel
from autoseg.storage import read_record, sha256_of

log = logging.getLogger(__name__)

FOREIGN = (".pth", ".pt")


@dataclass(frozen=True)
class Given:
    """Weights to start from, in memory.

    Attributes:
        file: Where they lie.
        sha256: Of the file.
        tensors: Name -> tensor, as our networks name them, or as nnU-Net does where `foreign`.
        names: What they were trained to segment, in the order of the outputs; None where nobody knows.
        foreign: Whether the file is a checkpoint of nnU-Net v2.
    """

    file: Path
    sha256: str
    tensors: dict[str, Tensor]
    names: tuple[str, ...] | None
    foreign: bool = False


def find(text: str, folder: Path, model: ModelId) -> Path:
    """Return the file that `--pretrained` means: `.safetensors`, or a checkpoint of nnU-Net v2 (`.pth`).

    Args:
        text: A file, the folder of a model, the folder above its folds (then the same fold is taken), or the latter
            two as they are named below the data set's `models` folder, or with the data set's name before.
        folder: The data set's workspace.
        model: That is going to be trained.

    Raises:
        UsageError: There is no such file or model, or it was trained on what this model holds out.
    """
    parts = text.split("/")
    elsewhere = folder.parent.joinpath(parts[0], "models", *parts[1:])
    for place in (Path(text).expanduser(), folder / "models" / text, elsewhere):
        if place.is_file():
            return place.resolve()
        for inside in (place, place / f"fold_{model.fold}"):
            if (inside / "model.safetensors").is_file():
                return _unspoilt(inside.resolve(), model) / "model.safetensors"
    raise UsageError(
        f"--pretrained {text}: there is no such file and no trained model of this name",
        fix="Give a .safetensors file, a checkpoint_final.pth of nnU-Net v2, a model's folder, or its name as "
        "`autoseg compare` shows it.",
        code="no_pretrained",
    )


def load(file: Path) -> Given:
    """Return the weights of a file, with the labels where the records of its run lie beside it.

    Raises:
        DataError: The file is missing, damaged or not finite.
    """
    if file.suffix in FOREIGN:
        content = nnunet_weights.read(file)
        return Given(
            file, sha256_of(file), content["network_weights"], nnunet_weights.label_names(content), foreign=True
        )
    tensors, _ = weights.load(file)
    beside = file.parent / "run.json"
    labels = read_record(beside, RunRecord).labels if file.name == "model.safetensors" and beside.exists() else None
    return Given(file, sha256_of(file), tensors, None if labels is None else _names(labels))


def again(record: Pretrained) -> Given:
    """Return the weights that a run began with.

    Raises:
        UserError: They are not there any more, or others.
    """
    given = load(Path(record.file))
    if given.sha256 != record.sha256:
        raise UserError(
            "these are not the weights that the run was started from",
            file=given.file,
            fix="Restore them, or remove the run's folder to start it anew.",
            code="run_mismatch",
        )
    return given


def put(given: Given, network: nn.Module, configuration: Configuration, labels: Labels) -> Pretrained:
    """Load what fits into the network, and return what the run's record says of it.

    Heads are taken over where the same names stand in the same order; of a bare file nobody knows what they mean.
    """
    architecture, tensors = configuration.architecture, given.tensors
    if given.foreign:
        tensors = nnunet_weights.rename(tensors, architecture, file=given.file)
    same = given.names is not None and given.names == _names(labels)
    found = transfer.load_what_fits(network, tensors, architecture, keep_heads=same, file=given.file)
    return Pretrained(
        file=str(given.file),
        sha256=given.sha256,
        loaded=len(found.loaded),
        adapted=found.adapted,
        new=found.new,
        unused=found.unused,
        grown=found.grown,
        line=found.line(),
    )


def groups(
    network: nn.Module, configuration: Configuration, pretrained: Pretrained | None, *, device: str
) -> list[dict[str, object]]:
    """Return the optimiser's groups: `scale` of the rate by the layer's place, and whether it starts `loaded`."""
    recipe = configuration.recipe
    trained = [(name, item) for name, item in network.named_parameters() if item.requires_grad]
    if recipe.layer_decay == 1 and (pretrained is None or recipe.freeze_fraction == 0):
        return [{"params": [item for _, item in trained], "scale": 1.0, "loaded": False}]
    ranks = dict.fromkeys((name for name, _ in trained), 1.0)
    if recipe.layer_decay != 1:
        shape = configuration.patch_shape[3 - configuration.dimensions :]
        image = torch.zeros(2, configuration.architecture.input_channels, *shape, device=device)
        ranks = transfer.layer_ranks(network, image)
    fresh = set(pretrained.new) if pretrained is not None else {name for name, _ in trained}
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, item in trained:
        scale = recipe.layer_decay ** (1 - ranks[name])
        members.setdefault((scale, name not in fresh), []).append(item)
    return [{"params": items, "scale": scale, "loaded": loaded} for (scale, loaded), items in members.items()]


def _unspoilt(folder: Path, model: ModelId) -> Path:
    """Refuse a model that has learnt the cases on which this one is going to be scored."""
    other = read_record(folder / "model.json", TrainedModel, missing="Give a trained model.").model
    if other.dataset == model.dataset and other.fold != model.fold and model.fold != "all":
        raise UsageError(
            f"--pretrained: fold {other.fold} of {other.dataset} was trained on cases that fold {model.fold} holds out",
            file=folder,
            fix="Give the folder above the folds; each fold then starts from its own.",
            code="pretrained_on_held_out",
        )
    return folder


def _names(labels: Labels) -> tuple[str, ...]:
    return tuple(name for name, _ in labels.targets)
