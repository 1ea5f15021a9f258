import pytest

from autoseg.records.fingerprint import Fingerprint, StructureFacts
from autoseg.records.labels import Labels, Structure
from autoseg.stages.planning import make_plan
from autoseg.stages.planning.sides import mirror_axes, twins
from tests.stages.planning.examples import device, fingerprint, labels, linear_cost, preset

EYES = Labels(
    structures=(Structure(name="Eye_L", value=1, original=1), Structure(name="Eye_R", value=2, original=2)),
    mirror_pairs=((1, 2),),
)


def eyes(left: tuple[float, float, float] | None = (0.5, 0.3, 0.7), right=(0.5, 0.32, 0.28)) -> Fingerprint:
    """Two eyes at these places; x runs from right to left."""
    facts = [
        StructureFacts(
            name=name,
            annotated_cases=9,
            present_cases=9,
            volume_ml=(7, 8, 9),
            extent_mm=(24, 24, 24),
            centroid=centroid,
        )
        for name, centroid in (("Eye_L", left), ("Eye_R", right))
        if centroid is not None
    ]
    return fingerprint(of=EYES).model_copy(update={"structures": tuple(facts)})


def test_twins_are_confirmed_by_mirrored_centres():
    found = twins(eyes())
    assert found.confirmed == ((1, 2),)
    assert found.split_at == (0.49,)
    assert found.first_below == (False,), "the left eye lies at larger x"
    assert twins(eyes(right=(0.5, 0.3, 0.72))).unlike == ((1, 2),), "both on one side"
    assert twins(eyes(left=None)).unknown == ((1, 2),)


def test_twins_are_not_mirrored_into_one_another():
    found, sides = mirror_axes(eyes(), (0, 1, 2), dimensions=3)
    assert found.value == (0, 1)
    assert sides is None
    assert "Eye_L/Eye_R" in found.because
    assert "centres mirror one another" in found.because
    assert mirror_axes(eyes(), (2, 0, 1), dimensions=3)[0].value == (1, 2), "left-right is the first axis here"
    assert mirror_axes(eyes(), (2, 0, 1), dimensions=2)[0].value == (1, 2), "sagittal slices may flip"
    assert mirror_axes(eyes(), (0, 1, 2), dimensions=2)[0].value == (1,)
    assert mirror_axes(fingerprint(of=labels()), (0, 1, 2), dimensions=3)[0].value == (0, 1, 2)


@pytest.mark.parametrize("wanted", ["swap", "merge_split"])
def test_a_plan_says_what_a_flip_does_to_twins(wanted):
    plan = make_plan(eyes(), [preset(left_right=wanted)], device(), cost=linear_cost)
    full = plan.configuration("unet_3d")
    assert full.mirror_axes == (0, 1, 2)
    assert full.sides is not None
    assert (full.sides.handling, full.sides.axis, full.sides.pairs) == (wanted, 2, ((1, 2),))
    told = {item.what: item for item in plan.decisions}
    assert told["unet_3d.sides"].value == wanted
    assert f"left_right = {wanted}" in told["unet_3d.mirror_axes"].because


def test_what_cannot_be_done_falls_back_to_no_flip_and_says_why():
    one_side = eyes(right=(0.5, 0.3, 0.72))
    for wanted, why in (("swap", "do not mirror"), ("merge_split", "do not say on which side")):
        found, sides = mirror_axes(one_side, (0, 1, 2), dimensions=3, wanted=wanted)
        assert sides is None
        assert found.value == (0, 1)
        assert why in found.because
