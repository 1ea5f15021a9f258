"""Where records lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.records.errors import DataError, UsageError
from autoseg.records.model import ModelId
from autoseg.storage import write_bytes
from autoseg.workspace import Workspace, plans_folder, workspace_root


class TestLocate:
    def test_a_name_lies_below_the_root(self, tmp_path: Path) -> None:
        work = Workspace.locate("Knot", tmp_path)
        assert (work.folder, work.name) == (tmp_path / "Knot", "Knot")

    def test_a_path_is_taken_as_it_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert Workspace.locate("./x/Knot/", "/elsewhere").folder == tmp_path / "x" / "Knot"

    @pytest.mark.parametrize("name", ["", " ", ".hidden", "a b", "a..b", "-d", "x" * 101, "ü", "a\nb", "a\0b"])
    def test_unsafe_names(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(DataError, match="is not a safe name"):
            Workspace.locate(name, tmp_path)

    def test_the_root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("AUTOSEG_ROOT", raising=False)
        assert workspace_root() == tmp_path / "autoseg_data"
        monkeypatch.setenv("AUTOSEG_ROOT", str(tmp_path / "env"))
        assert workspace_root() == tmp_path / "env"
        assert workspace_root(tmp_path / "said") == tmp_path / "said"

    @pytest.mark.parametrize("variant", ["../evil", "a/b"])
    def test_a_model_stays_in_its_folder(self, tmp_path: Path, variant: str) -> None:
        model = ModelId(dataset="D", plan="default", configuration="c", variant=variant, fold="0")
        with pytest.raises(DataError, match="is not a safe name"):
            Workspace(tmp_path).model(model)

    def test_models_are_found_again(self, tmp_path: Path) -> None:
        work = Workspace(tmp_path / "D")
        wanted = tuple(
            ModelId(dataset="D", plan="default", configuration="c_3d", variant=variant, seed=seed, fold=fold)
            for variant, seed, fold in (("base", 0, "0"), ("base", 0, "all"), ("my_s1", 12, "3"))
        )
        for model in wanted:
            write_bytes(work.model(model) / "model.json", b"{}")
        (work.model(wanted[0]).parent / "stale_0123_fold_0").mkdir()
        (work.model(wanted[0]).parent / "stale_0123_fold_0" / "model.json").write_text("{}")
        assert work.trained() == wanted
        assert work.trained("other") == ()


def test_a_plan_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "plans" / "first").mkdir(parents=True)
    (tmp_path / "plans" / "first" / "plan.json").write_text("{}")
    with pytest.raises(UsageError, match=r"There are: first\."):
        Workspace(tmp_path).plan("second")


def test_the_presets_are_found_in_a_checkout() -> None:
    assert (plans_folder() / "presets" / "unet.toml").is_file()
