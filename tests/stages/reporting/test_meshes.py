"""Surfaces lie where the voxels are, and a real browser draws them without an error."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from autoseg.records.geometry import Grid
from autoseg.records.labels import Labels, Structure
from autoseg.records.volumes import LabelMap
from autoseg.stages.reporting import meshes, templates
from tests.stages.reporting.test_failures import CHROMIUM

GRID = Grid(shape=(40, 60, 60), spacing_mm=(2.0, 1.0, 1.0))


def ball() -> np.ndarray:
    z, y, x = np.indices(GRID.shape)
    return (2.0 * (z - 20)) ** 2 + (y - 30) ** 2 + (x - 25) ** 2 < 20**2


def test_a_ball_keeps_its_place_and_radius_in_mm() -> None:
    mesh = meshes.surface(ball(), GRID.spacing_mm)
    assert mesh is not None
    points, triangles = mesh
    assert 100 < len(triangles) <= meshes.MOST_TRIANGLES
    radii = np.linalg.norm(points - [25.5, 30.5, 41.0], axis=1)
    assert abs(radii.mean() - 20) < 1
    assert meshes.surface(np.zeros(GRID.shape, bool), GRID.spacing_mm) is None


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_view_draws_the_structure(tmp_path: Path) -> None:
    name = "</script>core"
    labels = Labels(structures=(Structure(name=name, value=1, original=1),))
    both = LabelMap(ball().astype(np.uint8), GRID)
    scene = meshes.scene(both, both, labels)
    assert scene is not None
    view = templates.environment().get_template("viewer.html.j2").render(scenes=[{"title": "worst", **scene}])
    count = (
        "const g = document.querySelector('canvas').getContext('webgl'), w = g.drawingBufferWidth,"
        "h = g.drawingBufferHeight, seen = new Uint8Array(4 * w * h); g.readPixels(0, 0, w, h, g.RGBA,"
        "g.UNSIGNED_BYTE, seen); let n = 0, low = h, high = 0;"
        "for (let i = 0; i < seen.length; i += 4) if (seen[i] < 200) { n++;"
        "const row = Math.floor(i / 4 / w); low = Math.min(low, row); high = Math.max(high, row); }"
        "document.title = n + ' pixels on ' + Math.round(100 * (high - low) / h) + ' % of the height';"
    )
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8>{view}<script>{count}</script>")
    flags = ("--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
    command = [str(CHROMIUM), *flags, "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"]
    end = subprocess.run([*command, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=60)
    title = re.search(r"<title>(\d+) pixels on (\d+) % of the height</title>", end.stdout)
    assert title is not None, end.stderr
    assert int(title[1]) > 1000
    # However much air is around it: the camera begins so near that the ball fills nine tenths of the height.
    assert 80 <= int(title[2]) <= 95
    assert "Uncaught" not in end.stderr
