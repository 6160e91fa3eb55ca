"""Run the notebooks in docs/notebooks/ in a kernel of their own, and keep what they show in them.

python tools/notebooks.py            run them, and rewrite what they show
python tools/notebooks.py --check    run them; fail where one fails, or shows something else than it says

Figures, such as times, differ from run to run and are not compared. The kernel has no key, and a folder of its own that
is thrown away.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "notebooks"
KEPT = ("text/html", "text/plain")  # of what a cell shows, the first that is there
FIGURE = re.compile(r"(?<=chutes-)[0-9a-f]{8}|\d[\d.,]*(?: ?(?:ms|s|min)\b)?")
Notebook = Mapping[str, object]


def cells(notebook: Notebook) -> list[dict[str, object]]:
    """Return the cells of a notebook."""
    found = notebook["cells"]
    assert isinstance(found, list)
    return found


def source(cell: Mapping[str, object]) -> str:
    """Return the text of a cell, which is a text or its lines.

    >>> source({"source": ["a", "b"]})
    'ab'
    """
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)  # type: ignore[arg-type]


def shown(cell: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    r"""Yield what a cell shows: the type of each, and its text.

    >>> both = {"text/plain": "<T>", "text/html": ["<table>", "</table>"]}
    >>> out = [{"output_type": "stream", "text": ["a\n"]}, {"output_type": "execute_result", "data": both}]
    >>> list(shown({"cell_type": "code", "outputs": out}))
    [('text/plain', 'a\n'), ('text/html', '<table></table>')]
    """
    outputs = cell.get("outputs", [])
    assert isinstance(outputs, list)
    for output in outputs:
        data = output.get("data") or {"text/plain": output.get("text", "")}
        kind = next(kind for kind in KEPT if kind in data)
        yield kind, data[kind] if isinstance(data[kind], str) else "".join(data[kind])


def without_figures(notebook: Notebook) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what is compared of a notebook: the text of each cell, and what it shows without its figures.

    >>> cell = {"source": "tell(1)", "outputs": [{"text": "chutes-9f01c2aa: 12 ms, 3.5 s"}]}
    >>> without_figures({"cells": [cell]})
    [('tell(1)', [('text/plain', 'chutes-0: 0, 0')])]
    """
    return [(source(cell), [(kind, FIGURE.sub("0", text)) for kind, text in shown(cell)]) for cell in cells(notebook)]


def kept(notebook: Notebook) -> dict[str, object]:
    """Return a notebook that was run as it is kept: one output for each thing shown, and no word of when or where."""
    made = []
    for cell in cells(notebook):
        one: dict[str, object] = {"cell_type": cell["cell_type"], "id": cell["id"], "metadata": {}}
        if cell["cell_type"] == "code":
            data = [{kind: text.splitlines(keepends=True)} for kind, text in shown(cell)]
            one["execution_count"] = None
            one["outputs"] = [{"data": each, "metadata": {}, "output_type": "display_data"} for each in data]
        made.append({**one, "source": source(cell).splitlines(keepends=True)})
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return {"cells": made, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def written(notebook: Notebook) -> str:
    """Return the file of a notebook."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def alone(folder: str) -> None:
    """Leave this process, and the kernels that it starts, no key, setting or home but an empty folder."""
    for name in [name for name in os.environ if name.startswith("CHUTES_")]:
        del os.environ[name]
    homes = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")
    os.environ.update(dict.fromkeys(homes, folder))


def run(notebook: Notebook, folder: str) -> dict[str, object]:
    """Return a notebook after a run in a new kernel."""
    import nbformat
    from nbclient import NotebookClient

    ran = nbformat.reads(json.dumps(notebook), as_version=4)
    # Its ports are this machine's, and what is sent is signed.
    quiet = ["--log-level=ERROR"]
    NotebookClient(ran, timeout=600, extra_arguments=quiet, resources={"metadata": {"path": folder}}).execute()
    return kept(ran)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where one shows something else")
    check, problems = parser.parse_args().check, []
    files = sorted(FOLDER.glob("*.ipynb"))
    with tempfile.TemporaryDirectory() as folder:
        alone(folder)
        for file in files:
            old = json.loads(file.read_text("utf-8"))
            new = run(old, folder)
            if not check:
                file.write_text(written(new), "utf-8")
            elif without_figures(new) != without_figures(old):
                problems.append(f"{file.name} shows something else than it says: run python tools/notebooks.py")
    print("\n".join(problems) or f"notebooks: {len(files)}, each shows what a run of today does")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
