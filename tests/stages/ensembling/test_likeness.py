from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoseg.images import files
from autoseg.images.traits import traits
from autoseg.records.likeness import Likeness, Unlikeness
from autoseg.records.volumes import Image
from autoseg.stages.ensembling.likeness import conformal_limit, fit_likeness, tail
from autoseg.stages.predicting.unlikeness import unlikeness


def drawn(seed: int, count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"noise": rng.normal(2, 0.5, 3), "spacing": np.zeros(3)} for _ in range(count)]


def fitted(count: int = 100) -> Likeness:
    found = fit_likeness([f"p{place // 2}" for place in range(count)], drawn(0, count))
    assert found is not None
    return found


def test_the_limit_leaves_one_in_twenty_or_the_one_beyond_all():
    assert conformal_limit(np.arange(1.0, 100)) == (95.0, 0.05)  # 99 scans: the 95th
    assert conformal_limit(np.arange(1.0, 10)) == (9.0, 0.1)


def test_a_tail_begins_at_nine_in_ten_and_its_farthest_stretches_nothing():
    apart = np.arange(1.0, 202)  # 1 to 201; the tail begins at 181
    assert tail(apart) == (181.0, pytest.approx(np.mean(np.arange(1, 20))))
    assert tail(np.append(apart[:-1], 1e6)) == tail(apart)
    assert tail(np.arange(21.0)) == (pytest.approx(20 * 11 / 21), pytest.approx(15 - 20 * 11 / 21)), "ten lie beyond"
    assert tail(np.zeros(30)) == (0.0, 0.2), "where all are the same"


@pytest.mark.slow
def test_one_in_twenty_scans_like_the_training_is_flagged():
    flagged = [unlikeness(fitted(), scan).flagged for scan in drawn(1, 1000)]
    assert np.mean(flagged) == pytest.approx(0.05, abs=0.035)


def test_the_aspect_that_lies_out_is_named_and_one_that_is_always_the_same_is_kept():
    like = drawn(0, 1)[0]
    assert not unlikeness(fitted(), like).flagged
    assert unlikeness(fitted(), like | {"spacing": np.full(3, 0.01)}).unlikeness < 2, "a hundredth is no difference"
    odd = unlikeness(fitted(), like | {"spacing": np.array([0, 0, np.log(1.5)])})
    assert odd.flagged
    assert [item.name for item in odd.aspects] == ["spacing"]
    assert odd.line().startswith("unlike the training scans in spacing (")


def test_one_odd_scan_in_the_training_makes_no_other_usual():
    scans = drawn(0, 60)
    scans[7] = scans[7] | {"noise": np.full(3, 50.0)}
    found = fit_likeness([f"p{place}" for place in range(60)], scans)
    assert found is not None
    assert unlikeness(found, scans[0] | {"noise": np.full(3, 8.0)}).flagged


def test_two_aspects_together_are_odd_where_each_alone_is_not_yet():
    rng = np.random.default_rng(0)
    scans = [{"noise": rng.normal(size=1), "sharpness": rng.normal(size=1)} for _ in range(200)]
    found = fit_likeness([f"p{place}" for place in range(200)], scans)
    assert found is not None

    def at(share: float, *names: str) -> Unlikeness:
        """A scan of which these aspects lie at a share of the limit."""
        known = {aspect.name: aspect for aspect in found.aspects}
        far = {name: known[name].usual + share * found.limit * known[name].excess for name in names}
        middle = {name: np.array(aspect.centre) for name, aspect in known.items()}
        step = {name: far[name] * np.sqrt(1 / known[name].precision[0][0]) * known[name].scale[0] for name in far}
        return unlikeness(found, {name: value + step.get(name, 0.0) for name, value in middle.items()})

    alone, both = at(0.8, "noise"), at(0.8, "noise", "sharpness")
    assert alone.unlikeness == pytest.approx(0.8 * found.limit)
    assert not alone.flagged
    assert both.unlikeness == pytest.approx(1.2 * found.limit)
    assert both.flagged
    assert sorted(item.name for item in both.aspects) == ["noise", "sharpness"]


def test_what_was_not_measured_is_no_reason():
    like = drawn(0, 1)[0]
    assert not unlikeness(fitted(), like | {"noise": np.full(3, np.nan)}).flagged
    assert not unlikeness(fitted(), {}).flagged


def test_an_aspect_that_few_scans_have_is_left_out_and_few_scans_or_one_patient_tell_nothing():
    scans = drawn(0, 20)
    scans[0]["prediction"] = np.zeros(2)
    found = fit_likeness([f"p{place}" for place in range(20)], scans)
    assert found is not None
    assert [aspect.name for aspect in found.aspects] == ["noise", "spacing"]
    assert fit_likeness(["p"] * 20, drawn(0, 20)) is None
    assert fit_likeness([f"p{place}" for place in range(7)], drawn(0, 7)) is None
    assert fit_likeness([], []) is None


def test_it_comes_back_from_its_file():
    assert Likeness.parse(fitted().to_json(), file="") == fitted()


def _read(file: Path) -> Image:
    array, grid = files.read_volume(file)
    return Image(np.asarray(array, np.float32)[None], grid)


def _noisy(image: Image) -> Image:
    low, high = np.percentile(image.array, (1, 99))
    noise = np.random.default_rng(0).normal(0, 0.25 * (high - low), image.array.shape)
    return replace(image, array=(image.array + noise).astype(np.float32))


def _ghosted(image: Image) -> Image:
    spectrum = np.fft.fft(image.array, axis=2)
    spectrum[:, :, 4:-3:4] *= 0.5
    return replace(image, array=np.fft.ifft(spectrum, axis=2).real.astype(np.float32))


def _shaded(image: Image) -> Image:
    z, y, x = np.ogrid[tuple(slice(-1, 1, size * 1j) for size in image.grid.shape)]
    return replace(image, array=(image.array * np.exp(0.6 * y + 0.4 * x * z)).astype(np.float32))


def _flipped(image: Image) -> Image:
    return replace(image, array=np.ascontiguousarray(image.array[:, :, ::-1]))


def _misread(image: Image) -> Image:
    return replace(image, grid=image.grid.model_copy(update={"spacing_mm": (1.0, 1.5, 1.0)}))


@pytest.fixture(scope="module")
def heads(real_data: Path) -> tuple[Likeness, list[Image]]:
    """What 80 real scans look like, and 20 of other heads."""
    paths = sorted((real_data / "Task04_Hippocampus" / "imagesTr").glob("[!.]*.nii.gz"))[:100]
    images = [_read(path) for path in paths]
    head = [str((int(path.name[12:15]) + 1) // 2) for path in paths]
    known = [place for place in range(100) if head[place] not in head[80:]]
    found = fit_likeness([head[place] for place in known], [traits(images[place], ["mr"]) for place in known])
    assert found is not None
    return found, images[80:]


SPOILT = {
    "noise": (_noisy, {"noise", "sharpness"}),
    "ghosts": (_ghosted, {"ghosts"}),
    "shading": (_shaded, {"shading", "layout"}),
    "layout": (_flipped, {"layout", "shading"}),
    "spacing": (_misread, {"spacing"}),
}


@pytest.mark.parametrize("way", SPOILT)
def test_real_scans_that_were_spoilt_are_told_from_the_same_scans_as_they_were(way, heads) -> None:
    likeness, images = heads
    spoil, aspects = SPOILT[way]
    usual = np.array([unlikeness(likeness, traits(image, ["mr"])).unlikeness for image in images])
    found = [unlikeness(likeness, traits(spoil(image), ["mr"])) for image in images]
    odd = np.array([item.unlikeness for item in found])
    assert (odd[None] > usual[:, None]).mean() >= 0.9
    assert np.mean([bool(aspects & {item.name for item in item.aspects}) for item in found]) >= 0.7
    assert np.mean(usual > likeness.limit) <= 0.2
