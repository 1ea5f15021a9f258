"""What is said of memory before a scan is what the process holds at its worst moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import child

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np, torch
from autoseg.compute.allocator import keep_freed_memory
from autoseg.compute.workers import resident_bytes
from autoseg.networks import catalog
from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels, Structure
from autoseg.records.volumes import Image
from autoseg.stages import predicting
from autoseg.stages.predicting.costs import expected_cost
from tests.networks.architectures import small
from tests.stages.training.records import make_configuration

features, classes, patch, memory_gb, doubt = json.loads(sys.argv[1])
keep_freed_memory()
torch.set_num_threads(1)
architecture = small("unet", features=features, output_channels=classes)
changes = {"architecture": architecture, "patch_shape": (patch, patch, patch), "spacing_mm": (1.5, 1.5, 1.5)}
configuration = make_configuration().model_copy(update=changes)
network = catalog.build(architecture).eval()
with torch.inference_mode():
    network(torch.zeros(1, 1, 16, 16, 16))
member = predicting.Member("p/tiny/base_s0", ("0",), configuration, (network,), 1.0, "")
labels = Labels(structures=tuple(Structure(name=str(v), value=v, original=v) for v in range(1, classes)))
grid = Grid(shape=(130, 220, 220), spacing_mm=(1.0, 0.8, 0.8))
options = predicting.Options(mirror=False, step_fraction=1.0, memory_gb=memory_gb)
cost = expected_cost(grid, [member], options, doubt=doubt, steady=doubt)
before = resident_bytes()
noise = np.random.default_rng(0).standard_normal((1, *grid.shape), dtype=np.float32)
more = {"temperature": 1.0, "steady": True} if doubt else {}
predicting.predict_scan(Image(noise, grid), [member], case="a", labels=labels, options=options, **more)
# Not `ru_maxrss`, which begins with what the process had that this one was started from.
status = Path("/proc/self/status").read_text()
peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
print(json.dumps([before + cost.memory_bytes, peak, cost.tiles]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what a process holds")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "asked", "tiled"),
    [
        ("features are added up", [8, 60, 64, 4.0, False], False),
        ("logits are", [16, 8, 64, 4.0, False], False),
        ("in tiles", [16, 8, 64, 0.08, False], True),
        ("all logits, for the doubt", [8, 20, 64, 4.0, True], False),
    ],
)
def test_the_estimate_is_what_a_process_holds(what: str, asked: list[float], tiled: bool) -> None:
    done = child(PROGRAM, json.dumps(asked))
    said, held, tiles = json.loads(done.out or done.err)
    assert (tiles > 1) == tiled
    assert said == pytest.approx(held, rel=0.15), what
