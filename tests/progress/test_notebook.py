"""The display in a notebook that is executed from its first cell to its last."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

formats = cast("Any", nbformat)  # its types are partly unknown
EXAMPLE = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


@pytest.fixture(autouse=True)
def this_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel is this Python, whatever is installed, with folders of its own."""
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "this one", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE.parents[1]))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


def executed(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """The notebook with its outputs, once its kernel has run all of it."""
    resources = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=300, resources=resources).execute()


def widget(notebook: NotebookNode, output: NotebookNode) -> tuple[Any, str]:
    """The last state of an output's bar, and the text beside it."""
    states = notebook.metadata.widgets[STATE]["state"]

    def state(reference: str) -> Any:
        return states[reference.removeprefix("IPY_MODEL_")]["state"]

    box = state(output.data[VIEW]["model_id"])
    assert box["_model_name"] == "HBoxModel"
    bar, label = [state(child) for child in box["children"]]
    return bar, label["value"]


def cell(notebook: NotebookNode, id: str) -> Any:
    """The outputs of the cell of that id."""
    (found,) = [one for one in notebook.cells if one.id == id]
    return found.outputs


def test_the_example_shows_the_widget_and_the_table(tmp_path: Path) -> None:
    """In the kernel's own loop: the bar ends full, and the results are a table."""
    example = formats.read(EXAMPLE, as_version=4)
    assert all(not one.get("outputs") for one in example.cells)
    done = executed(example, tmp_path)

    (shown,) = cell(done, "evaluate")
    assert shown.output_type == "display_data"
    bar, text = widget(done, shown)
    assert bar["description"] == "evaluating"
    assert (bar["value"], bar["max"], bar["bar_style"]) == (20, 20, "success")
    assert text.startswith("20 of 20 items, ")
    assert shown.data["text/plain"] == f"evaluating  {text}"
    (table,) = cell(done, "records")
    assert "<table>" in table.data["text/html"]
    assert table.data["text/html"].count("Who wrote Faust?") == 10  # five inputs, five answers


OPEN = """
import asyncio, logging, sys
from contextlib import AsyncExitStack
from elluminate_async import AsyncClient, BatchOptions
from elluminate_async.server import LocalServer

opened = AsyncExitStack()
server = await opened.enter_async_context(LocalServer())
client = await opened.enter_async_context(
    AsyncClient(base_url=server.url, api_key=server.api_key)
)
asked = {"prompt": "Say {{word}}", "criteria": ["Is it short?"], "progress": True}

def words(count):
    return [{"word": str(number)} for number in range(count)]
"""
AT_ONCE = "_ = await asyncio.gather(*(client.evaluate(words(n), **asked) for n in (2, 3)))"
ENDLESS = """
async for _ in client.stream_evaluate((row for row in words(4)), **asked):
    pass
"""
FAILING = """
def fail(progress):
    raise ValueError("enough")

try:
    await client.evaluate(words(4), **asked, options=BatchOptions(on_progress=fail))
except ValueError as error:
    print(error)
"""
WITHOUT = """
sys.modules["ipywidgets"] = None
_ = await client.evaluate(words(3), **asked)
"""


def test_every_call_has_an_output_of_its_own(tmp_path: Path) -> None:
    """Of the cell that made it, in its last state, whatever ended it."""
    cells = {
        "open": OPEN,
        "at-once": AT_ONCE,
        "endless": ENDLESS,
        "failing": FAILING,
        "without": WITHOUT,
        "close": "await opened.aclose()",
    }
    code = [formats.v4.new_code_cell(code, id=id) for id, code in cells.items()]
    done = executed(formats.v4.new_notebook(cells=code), tmp_path)

    ends = [widget(done, output) for output in cell(done, "at-once")]
    assert [(bar["value"], bar["max"], text.split(",")[0]) for bar, text in ends] == [
        (2, 2, "2 of 2 items"),
        (3, 3, "3 of 3 items"),
    ]
    (endless,) = cell(done, "endless")
    bar, text = widget(done, endless)
    assert (bar["value"], bar["max"], text.split(",")[0]) == (4, 4, "4 items")
    failing, printed = cell(done, "failing")
    bar, text = widget(done, failing)
    assert (bar["bar_style"], bar["max"]) == ("danger", 4)
    assert "stopped after" in text
    assert printed.text == "enough\n"
    (without,) = cell(done, "without")
    assert [*without.data] == ["text/plain"]
    assert without.data["text/plain"].startswith("evaluating  3 of 3 items, ")
    assert cell(done, "open") == cell(done, "close") == []
