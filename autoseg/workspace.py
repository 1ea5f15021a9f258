"""Where every record lies: data set name -> path.

The tree below the workspace's root (`--root`, else `$AUTOSEG_ROOT`, else `./autoseg_data`)::

    calibration.json                            Calibration of the device at hand (`autoseg calibrate`)
    .dry_runs/*.jsonl                           dry runs of networks, a line each; may be removed at any time
    <dataset>/
      dataset.json                              Dataset: what was imported, folds, corrections
      splits_final.json                         the folds in nnU-Net's form, for others
      check.json                                CheckReport: every problem found
      fingerprint.json                          Fingerprint
      registrations/<digest>.json               Motion: how a channel was registered; `scans/`: of new scans
      registrations/bias_fields/<digest>.npy    what N4 found: logarithm of the field on a coarse grid
      plans/<plan>/plan.json                    Plan; forecast.json beside it: expected times, no part of its digest
      preprocessed/<data key>/<case>.json       CaseMarker: the case is complete; digest of its inputs, passage
      preprocessed/<data key>/<case>.image.b2nd     float32 (C, Z, Y, X)
      preprocessed/<data key>/<case>.labels.b2nd    inside values (Z, Y, X)
      preprocessed/<data key>/<case>.positions.npz  voxel indices per value
      models/<plan>/<configuration>/<variant>_s<seed>/fold_<k>/
        lock                                    who trains here: host, process, since when
        run.json                                RunRecord: resolved before the first step
        checkpoint.{a,b}.safetensors            the last two checkpoints (weights, averages, optimiser state)
        history.jsonl  history.csv  curves.png  tensorboard/  a line an epoch
        model.safetensors  model.json           TrainedModel: present only when the run has ended
        proposals.json                          ProposalChoice, of a second stage on regions
        held_out/<case>.b2nd  <case>.json       probabilities on the network's grid, and the way home
        evaluation.json  scores.csv             Evaluation of the held-out cases
      models/<plan>/<configuration>/<variant>_s<seed>/proposals/<case>.npz  of a first stage, at several thresholds
      ensemble/<plan>/choice.json               EnsembleChoice
      ensemble/<plan>/evaluation.json scores.csv    Evaluation of the choice, pooled out of fold
      ensemble/<plan>/predictions/<case>.nii.gz the choice's out-of-fold label maps
      report/<plan>/report.html                 opens anywhere, offline
      report/<plan>/cases/<case>.html           one held-out case in full
      report/<plan>/explained/<case>/<model>_<method>/  what a model looks at: explained.html, *.png, *.nii.gz
      explore/exploration.json                  Exploration: every training case that could be read
      explore/explore.html                      the data alone
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from autoseg.records.choice import EnsembleChoice
from autoseg.records.dataset import Dataset, check_name
from autoseg.records.errors import ResourceError, UsageError
from autoseg.records.evaluation import Evaluation
from autoseg.records.fingerprint import Fingerprint
from autoseg.records.forecast import Forecast
from autoseg.records.model import ModelId
from autoseg.records.plan import Plan
from autoseg.records.record import Record
from autoseg.storage import read_record

R = TypeVar("R", bound=Record)


class Workspace:
    """The paths of one data set's records, and how they are read and written."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def locate(cls, dataset: str, root: str | os.PathLike[str] | None = None) -> Workspace:
        """Return the workspace of `dataset`, a name below the root or a path to its folder.

        Raises:
            DataError: The name is not safe.
        """
        looks_like_path = os.sep in dataset or dataset in {".", ".."}
        if looks_like_path:
            return cls(Path(dataset).expanduser().resolve())
        return cls(workspace_root(root) / check_name(dataset, what="data set name"))

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.folder.name

    @property
    def dataset_file(self) -> Path:
        """Where the Dataset lies."""
        return self.folder / "dataset.json"

    @property
    def splits_file(self) -> Path:
        """Where the folds lie in nnU-Net's form."""
        return self.folder / "splits_final.json"

    @property
    def fingerprint_file(self) -> Path:
        """Where the Fingerprint lies."""
        return self.folder / "fingerprint.json"

    @property
    def check_file(self) -> Path:
        """Where the report of the last check lies."""
        return self.folder / "check.json"

    @property
    def registrations(self) -> Path:
        """The folder of what corrections searched for: registrations, and bias fields in a folder below."""
        return self.folder / "registrations"

    def plan_file(self, plan: str) -> Path:
        """Where a Plan lies."""
        return self.folder / "plans" / check_name(plan, what="plan name") / "plan.json"

    def forecast_file(self, plan: str) -> Path:
        """Where the Forecast of a plan lies: beside it."""
        return self.plan_file(plan).with_name("forecast.json")

    @property
    def calibration_file(self) -> Path:
        """Where the Calibration lies that all data sets of the workspace's root share."""
        return self.folder.parent / "calibration.json"

    @property
    def dry_runs(self) -> Path:
        """The folder of the dry runs that all data sets of the workspace's root share."""
        return self.folder.parent / ".dry_runs"

    def preprocessed(self, data_key: str) -> Path:
        """The folder of the cases that were preprocessed in one way."""
        return self.folder / "preprocessed" / data_key

    def model(self, model: ModelId) -> Path:
        """The folder of one training run."""
        candidate = check_name(f"{model.variant}_s{model.seed}", what="variant")
        return self.folder / "models" / model.plan / model.configuration / candidate / f"fold_{model.fold}"

    def ensemble(self, plan: str) -> Path:
        """The folder of a plan's ensemble."""
        return self.folder / "ensemble" / plan

    def report_file(self, plan: str) -> Path:
        """Where a plan's report lies."""
        return self.folder / "report" / plan / "report.html"

    def case_report_file(self, plan: str, case: str) -> Path:
        """Where the page about one case lies."""
        return self.report_file(plan).parent / "cases" / f"{check_name(case, what='case id')}.html"

    def explained(self, plan: str, case: str) -> Path:
        """The folder of what models look at in one case, a folder each."""
        return self.report_file(plan).parent / "explained" / check_name(case, what="case id")

    @property
    def exploration_file(self) -> Path:
        """Where the Exploration lies."""
        return self.folder / "explore" / "exploration.json"

    @property
    def explore_file(self) -> Path:
        """Where the page about the data alone lies."""
        return self.folder / "explore" / "explore.html"

    def dataset(self) -> Dataset:
        """Return the imported data set.

        Raises:
            UsageError: Nothing was imported under this name; the message lists what there is.
        """
        if not self.dataset_file.exists():
            there = sorted(p.parent.name for p in self.folder.parent.glob("*/dataset.json"))
            raise UsageError(
                f"no data set {self.name!r} in {self.folder.parent}",
                fix=(f"There are: {', '.join(there)}. " if there else "")
                + f"Import one with `autoseg import FOLDER --as {self.name}`.",
                code="no_dataset",
            )
        return read_record(self.dataset_file, Dataset)

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint.

        Raises:
            UsageError: It was not measured yet.
        """
        return self._read(self.fingerprint_file, Fingerprint, missing="Run `autoseg plan_and_preprocess` first.")

    def plan(self, name: str = "default") -> Plan:
        """Return a plan by name.

        Raises:
            UsageError: It does not exist; the message lists those that do.
        """
        there = sorted(p.parent.name for p in (self.folder / "plans").glob("*/plan.json"))
        fix = f"There are: {', '.join(there)}." if there else f"Run `autoseg plan_and_preprocess -d {self.name}`."
        return self._read(self.plan_file(name), Plan, missing=fix)

    def forecast(self, name: str = "default") -> Forecast:
        """Return how long a plan takes.

        Raises:
            UsageError: It was not written yet.
        """
        fix = f"Run `autoseg plan_and_preprocess -d {self.name}` again."
        return self._read(self.forecast_file(name), Forecast, missing=fix)

    def choice(self, plan: str = "default") -> EnsembleChoice:
        """Return the ensemble that was chosen for a plan.

        Raises:
            UsageError: None was chosen yet.
        """
        fix = f"Run `autoseg ensemble -d {self.name}` first."
        return self._read(self.ensemble(plan) / "choice.json", EnsembleChoice, missing=fix)

    def evaluation(self, model: ModelId) -> Evaluation:
        """Return the scores of one model on its held-out cases.

        Raises:
            UsageError: It has none yet.
        """
        return read_record(self.model(model) / "evaluation.json", Evaluation, missing="Train the model first.")

    def _read(self, path: Path, kind: type[R], *, missing: str) -> R:
        if not self.folder.exists():
            self.dataset()  # where nothing was imported, that is what has to be said
        return read_record(path, kind, missing=missing)

    def trained(self, plan: str | None = None) -> tuple[ModelId, ...]:
        """Return every model whose training has ended, in the order of their names."""
        found = []
        for marker in sorted((self.folder / "models").glob("*/*/*/fold_*/model.json")):
            fold, candidate, configuration, plan_name = (p.name for p in list(marker.parents)[:4])
            variant, _, seed = candidate.rpartition("_s")
            if plan in (None, plan_name):
                found.append(
                    ModelId(
                        dataset=self.name,
                        plan=plan_name,
                        configuration=configuration,
                        variant=variant,
                        seed=int(seed),
                        fold=fold.removeprefix("fold_"),
                    )
                )
        return tuple(found)


def workspace_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that holds all data sets: `root`, else `$AUTOSEG_ROOT`, else `./autoseg_data`."""
    return Path(root or os.environ.get("AUTOSEG_ROOT") or "autoseg_data").expanduser().resolve()


def plans_folder() -> Path:
    """Return the folder of presets and reference plans: inside an installed package, beside it in a checkout.

    Raises:
        ResourceError: It is in neither place: the installation is damaged.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "plans", package.parent / "plans"):
        if (folder / "presets").is_dir():
            return folder
    raise ResourceError(
        "the presets are missing from the installation", file=package / "plans", fix="Reinstall autoseg."
    )
