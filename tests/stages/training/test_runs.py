import pytest

from autoseg.records.errors import UsageError
from autoseg.records.requests import TrainRequest
from autoseg.stages.training import runs
from tests.stages.training.records import MODEL, make_plan
from tests.stages.training.test_facts import DATASET


@pytest.mark.parametrize("settings", [{"learning_rate": "0.1"}, {"epochs": "3", "learning_rate": "0.1"}])
def test_changes_of_the_recipe_need_a_name(settings):
    with pytest.raises(UsageError, match=r"needs a name.*Add --variant NAME"):
        runs.models(DATASET, make_plan(), TrainRequest(configurations=("tiny",), settings=settings))


def test_more_epochs_need_no_name_where_a_finished_run_is_extended():
    request = TrainRequest(configurations=("tiny",), settings={"epochs": "3"})
    (model,) = runs.models(DATASET, make_plan(), request)
    runs.check_variant(model, request, trained=True)
    with pytest.raises(UsageError, match="it extends a run that has ended"):
        runs.check_variant(model, request, trained=False)
    named = MODEL.model_copy(update={"variant": "long"})
    runs.check_variant(named, request, trained=False)
