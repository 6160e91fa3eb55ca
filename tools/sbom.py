"""Write what is inside: a CycloneDX list of the distribution and of all that its extra `all` brings, as it was tested.

python tools/sbom.py ENVIRONMENT FILE

ENVIRONMENT has the project with its extra `all` and no developers' tools (`make sbom` makes it). What stands in it
beside that, the installer and the backend that built it, is left out: nobody who installs a wheel gets it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def made(python: Path) -> dict[str, Any]:
    """Return the list of everything in an environment, the same to the byte each time."""
    options = ("--pyproject", ROOT / "pyproject.toml", "--mc-type", "library", "--output-reproducible")
    command = (sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "environment", *options, "--of", "JSON", python)
    bom: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return bom


def pruned(bom: dict[str, Any]) -> dict[str, Any]:
    """Return the list with what the distribution leads to, by way of however many others, and nothing else.

    >>> rows = [{"ref": "x", "dependsOn": ["a"]}, {"ref": "a", "dependsOn": ["b"]}, {"ref": "b"}, {"ref": "pip"}]
    >>> parts = [{"bom-ref": ref} for ref in ("a", "b", "pip")]
    >>> pruned({"metadata": {"component": {"bom-ref": "x"}}, "components": parts, "dependencies": rows})["components"]
    [{'bom-ref': 'a'}, {'bom-ref': 'b'}]
    """
    leads = {row["ref"]: row.get("dependsOn", []) for row in bom["dependencies"]}
    found, left = set[str](), [bom["metadata"]["component"]["bom-ref"]]
    while left:
        ref = left.pop()
        if ref not in found:
            found.add(ref)
            left += leads.get(ref, [])
    if len(found) == 1:
        raise SystemExit("sbom: the environment has nothing that the project depends on")
    return {
        **bom,
        "components": [each for each in bom["components"] if each["bom-ref"] in found],
        "dependencies": [row for row in bom["dependencies"] if row["ref"] in found],
    }


def main(arguments: Sequence[str]) -> int:
    environment, file = map(Path, arguments)
    bom = pruned(made(environment / "bin/python"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n")
    print(f"sbom: {len(bom['components'])} distributions behind {bom['metadata']['component']['name']}, in {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
