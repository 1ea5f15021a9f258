import pytest


@pytest.fixture(autouse=True, scope="session")
def _short_measuring():
    """A run's pace needs a second to be known well; tests do not need to know it well."""
    patch = pytest.MonkeyPatch()
    patch.setattr("autoseg.stages.training.resolve.PACE_SECONDS", 0.05)
    yield
    patch.undo()
