"""The notebook for who comes from scikit-surprise runs, and shows what its text says."""

import ast
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests_root import ROOT

NOTEBOOK = ROOT / "docs" / "from-surprise.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each cell that ends in a value shows as text, by the id of the cell. A cell that fails is an error."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's kernel, whatever the user has installed
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(home / name.lower()))  # nor leave anything in the user's home
        shown = run(folder)
    assert list(folder.iterdir()) == []
    return shown


def run(folder: Path) -> dict[str, str]:
    notebook = read()
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()
    return {
        cell.id: output.data["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    }


def test_nothing_but_the_source_is_kept():
    notebook = read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert notebook.metadata.kernelspec.name == "python3"


def test_every_cell_of_code_follows_one_of_prose():
    kinds = [cell.cell_type for cell in read().cells]
    assert all(before == "markdown" for before, kind in pairwise(kinds) if kind == "code")


def test_ids_and_indices(results):
    rows, indices, ids = ast.literal_eval(results["encode"])
    assert rows > 6_000
    assert indices == [14, -1]
    assert ids == ["comedy-00", "thriller-39"]


def test_the_model_comes_near_the_noise(results):
    errors = ast.literal_eval(results["fit"])
    assert 0.5 < errors["rmse"] < 0.65
    assert errors["mae"] < errors["rmse"]


def test_models_that_know_taste_beat_the_baseline(results):
    rows = [line.strip("│ ").split("┆") for line in results["compare"].splitlines()]
    rmse = {row[0].strip(): float(row[1]) for row in rows if row[0].strip() in {"BaselineOnly", "SVD", "SVDpp"}}
    assert rmse["BaselineOnly"] > 1
    assert max(rmse["SVD"], rmse["SVDpp"]) < 0.65


def test_grid_search_lists_the_best_first(results):
    errors = [float(line.strip("│ ").split("┆")[2]) for line in results["grid"].splitlines() if "┆ 0." in line]
    assert len(errors) == 4
    assert errors == sorted(errors)


def test_a_comedy_fan_is_recommended_unseen_comedies(results):
    likes = ast.literal_eval(results["one"])
    assert likes["comedy-03"] > likes["thriller-03"] + 1
    shown = ast.literal_eval(results["recommend"])
    assert len(shown["recommended"]) == 5
    assert all(item.startswith("comedy") for item in shown["recommended"])
    assert shown["seen before"] == []


def test_a_loaded_model_predicts_the_same(results):
    assert results["save"] == "True"


def test_a_warm_start_is_ahead(results):
    errors = ast.literal_eval(results["warm"])
    assert errors["warm"] < errors["cold"] - 0.2


def test_a_newcomer_is_recommended_what_they_like(results):
    items = ast.literal_eval(results["fold"])
    assert len(items) == 5
    assert all(item.startswith("thriller") for item in items)
    assert not {"thriller-00", "thriller-01"} & set(items)
