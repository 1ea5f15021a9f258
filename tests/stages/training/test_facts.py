from autoseg.records.dataset import Case, Channel, Dataset, Fold
from autoseg.records.fingerprint import CaseFacts, Fingerprint
from autoseg.stages.training.facts import fold_facts
from tests.stages.training.records import LABELS

CASES = tuple(Case(id=id, group=id[0], images={}) for id in ("a1", "a2", "b1"))
DATASET = Dataset(
    name="toy",
    source="",
    layout="simple",
    channels=(Channel(name="mr", kind="mr"),),
    labels=LABELS,
    cases=CASES,
    folds=(Fold(name="0", training=("a1", "a2"), held_out=("b1",)),),
    grouping="",
)


def facts_of(id, voxels):
    return CaseFacts(id=id, shape=(2, 5, 10), spacing_mm=(1, 1, 1), crop_fraction=1, voxels=voxels)


FINGERPRINT = Fingerprint(
    dataset="toy",
    dataset_digest="",
    channels=DATASET.channels,
    labels=LABELS,
    groups=2,
    cases=(facts_of("a1", (10, 0)), facts_of("a2", (20, 4)), facts_of("b1", (100, 0))),
    intensities=(),
    structures=(),
)


def test_voxels_are_those_of_the_average_training_case():
    facts = fold_facts(DATASET, FINGERPRINT, ("a1", "a2"))
    assert facts.groups == {"a1": "a", "a2": "a"}
    assert facts.voxels == (83.0, 15.0, 2.0)


def test_without_a_measured_case_nothing_is_counted():
    for fingerprint in (None, FINGERPRINT.model_copy(update={"cases": ()})):
        facts = fold_facts(DATASET, fingerprint, ("a1",))
        assert (facts.groups, facts.voxels) == ({"a1": "a"}, ())
