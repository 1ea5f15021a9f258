import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from autoseg.stages.evaluating import compare, smallest_difference
from tests.stages.evaluating.test_statistics import evaluation


def test_the_smallest_difference_by_hand():
    gains = np.array([0.01, 0.03, 0.02, 0.04, 0.05])
    # s = 0.015811, n = 5; Student's t of 4 degrees of freedom: 2.7764 at 0.975, 0.9410 at 0.80.
    assert smallest_difference(gains) == pytest.approx((2.7764 + 0.9410) * 0.0158114 / math.sqrt(5), rel=1e-4)
    assert smallest_difference(gains + 7) == pytest.approx(smallest_difference(gains))
    assert math.isnan(smallest_difference(gains[:4]))
    assert smallest_difference(np.full(6, 0.1)) == pytest.approx(0)


def test_such_a_difference_is_seen_four_times_in_five():
    rng = np.random.default_rng(0)
    spread, count = 0.05, 30
    typical = rng.normal(0, spread, (2000, count))
    visible = np.mean([smallest_difference(row) for row in typical[:200]])
    seen = (ttest_1samp(typical + visible, 0, axis=1).pvalue < 0.05).mean()
    assert seen == pytest.approx(0.80, abs=0.03)


def test_scans_of_one_patient_are_one_witness():
    before = np.full(16, 0.5)
    gains = np.repeat(np.linspace(0.01, 0.08, 8), 2)
    groups = {f"case_{i:02}": f"p{i // 2}" for i in range(16)}
    (alone,) = compare(evaluation(*before), evaluation(*(before + gains)))
    (row,) = compare(evaluation(*before), evaluation(*(before + gains)), groups)
    assert (row.cases, row.patients) == (16, 8)
    assert row.p_value == pytest.approx(2 / 2**8)
    assert row.corrected_p_value == row.p_value
    assert row.mean_gain == pytest.approx(0.045)
    assert row.low < row.mean_gain < row.high
    assert row.smallest_difference > alone.smallest_difference
