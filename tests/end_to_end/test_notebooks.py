"""The notebooks run from a run folder to their figures, and are committed without outputs. Oracle: the functions they call."""

from pathlib import Path

import pytest

from aif_dcpc.configuration import load_config
from aif_dcpc.image_runs.run import continue_image_run, create_image_run
from aif_dcpc.schema import train_config

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
NOTEBOOKS = Path(__file__).resolve().parents[2] / "experiments" / "notebooks"
SMALL = (
    "experiment=digits",
    "epochs=1",
    "log_every=2",
    "images.options.sizes=[3,6]",
    "images.validation_sweeps=8",
    "images.validation_images=10",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("notebook") / "run"
    folder = create_image_run(train_config(load_config("train", *SMALL, f"run_dir={place}")))
    return str(continue_image_run(folder, folder.config()).folder)


def executed(name, parameters):
    """The notebook after a run with other parameters, which stand in the cell of that tag."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    nbclient.NotebookClient(notebook, timeout=250, kernel_name="python3").execute()
    return [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]


def test_every_figure_of_a_run_folder_is_drawn(run):
    outputs = executed("figures.ipynb", {"run": run, "data_dir": None, "sweeps": 3})
    drawn = [
        output
        for output in outputs
        if output.output_type == "execute_result" and "image/png" in output.data
    ]
    assert len(drawn) == 7
    assert any("z2" in output.get("text", "") for output in outputs)  # the table of sites


def test_a_row_of_a_table_is_printed(run):
    asked = ["seeds=2", "held_out=5", "sweeps=2", "annealed_images=0", "samples=0"]
    outputs = executed("table.ipynb", {"runs": [run], "asked": asked})
    text = "".join(output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "reconstruction_bce" in text and "(sd " in text


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and all(not cell.outputs and cell.execution_count is None for cell in cells)
    lines = [line for cell in cells for line in cell.source.splitlines()]
    # no logic of their own
    assert not [line for line in lines if line.startswith(("def ", "class ", "for ", "if "))]
