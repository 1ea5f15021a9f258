import pytest

from autoseg.records.configuration import Configuration
from autoseg.records.fingerprint import Fingerprint, PieceFacts
from autoseg.records.preset import PlanningPreset, Recipe
from autoseg.stages.planning import make_plan
from autoseg.stages.planning.frame import survey
from autoseg.stages.planning.regions import wanted, windows
from tests.stages.planning.examples import device, fingerprint, labels, linear_cost, preset

METASTASES = PieceFacts(per_case=(1, 4, 20), volume_ml=(0.01, 0.2, 4.0), longest_mm=(3, 8, 22), image_fraction=0.0006)
NAME = "unet_3d_regions"


def heads(pieces: PieceFacts | None = METASTASES, patients: int = 40, **more) -> Fingerprint:
    found = fingerprint(patients, (150, 180, 160), (1, 1, 1), of=labels(1))
    return found.model_copy(update={"pieces": pieces} | more)


def plan(of: Fingerprint, minutes=None, **planning):
    return make_plan(of, [preset(**planning)], device(flops_per_second=1e12), cost=linear_cost, minutes=minutes)


def said(of: Fingerprint, patch=128**3, **planning):
    chosen = PlanningPreset(**planning)
    return wanted(survey(of, chosen), chosen, lambda: patch)


def test_small_sparse_lesions_get_a_second_stage():
    made = plan(heads())
    second = made.configuration(NAME)
    assert second.regions.configuration == "unet_3d" == second.first_stage
    assert second.regions.sensitivity == 0.98
    assert second.regions.margin_mm == 11
    assert second.regions.threshold is None
    assert made.lineup[-1].configuration == NAME
    assert second.data_key == made.configuration("unet_3d").data_key
    because = {item.what: item.because for item in made.decisions}
    assert because[NAME].startswith("the typical case holds 4 pieces of 8 mm, together 0.06 % of the image: a second")
    assert "95 % of the pieces are below 22 mm" in because[f"{NAME}.patch_shape"]


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (heads(None), "no small, sparse pieces"),
        (heads(METASTASES.model_copy(update={"per_case": (1, 1.5, 9)})), "too few"),
        (heads(METASTASES.model_copy(update={"image_fraction": 0.008})), "limit 0.5%"),
        (heads(groups=9), "9 patients are too few"),
        (heads(METASTASES.model_copy(update={"longest_mm": (9, 30, 60)})), "of the patch"),
    ],
)
def test_other_data_do_not(of, why):
    found = said(of)
    assert not found.value
    assert why in found.because


def test_where_nothing_speaks_for_it_the_plan_keeps_its_bytes():
    made = plan(heads(None))
    assert "3d_regions" not in made.to_json()
    assert "region_sensitivity" not in preset().to_json()
    assert "lesion_fraction" not in made.to_json()
    assert plan(heads()).configuration("unet_3d").digest() == made.configuration("unet_3d").digest()


def test_a_fingerprint_without_pieces_keeps_its_digest():
    assert "pieces" not in heads(None).to_json()
    assert Fingerprint.parse(heads().to_json(), file="f") == heads()


def test_by_hand_it_is_planned_for_anything():
    made = plan(heads(None), regions=True, region_shape=(30, 40, 40))
    assert made.configuration(NAME).patch_shape == (32, 40, 40)
    decision = next(item for item in made.decisions if item.what == NAME)
    assert (decision.value, decision.because) == ("planned", "set by hand")


def test_by_hand_it_is_left_out():
    assert NAME not in [item.name for item in plan(heads(), regions=False).configurations]


def test_a_short_budget_has_no_time_for_two_trainings():
    names = [entry.configuration for entry in plan(heads(), minutes=60).lineup]
    assert NAME not in names
    assert NAME in [entry.configuration for entry in plan(heads(), minutes=60, regions=True).lineup]


def test_pictures_have_none():
    flat = fingerprint(40, (1, 300, 300), (1, 1, 1), of=labels(1)).model_copy(update={"pieces": METASTASES})
    made = plan(flat)
    assert [item.name for item in made.configurations] == ["unet_2d"]


def test_a_window_is_twice_a_lesion_and_no_larger_than_the_image():
    chosen = PlanningPreset()
    found = windows(survey(heads(METASTASES.model_copy(update={"longest_mm": (3, 8, 40)})), chosen), chosen)
    assert found.shape.value == (80, 80, 80)
    small = fingerprint(40, (20, 180, 160), (5, 1, 1), of=labels(1)).model_copy(update={"pieces": METASTASES})
    assert windows(survey(small, chosen), chosen).shape.value == (10, 48, 48)


def test_a_configuration_that_was_trained_is_known_again():
    second: Configuration = plan(heads()).configuration(NAME)
    regions = second.regions.model_copy(update={"threshold": 0.2, "proposals_digest": "d"})
    trained = second.model_copy(update={"regions": regions})
    assert trained.digest() != second.digest()
    assert trained.as_planned.digest() == second.digest()


def test_new_keys_leave_old_recipes_as_they_were():
    assert "jitter_fraction" not in Recipe().to_json()
    assert "jitter_fraction" in Recipe(jitter_fraction=0.1).to_json()
