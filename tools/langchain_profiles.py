"""Write the profiles of the catalogue's chat models in the format of LangChain's packages, to be offered to them.

python tools/langchain_profiles.py            rewrite docs/upstream/langchain/_profiles.py
python tools/langchain_profiles.py --check    fail where it says something else than the catalogue that ships
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chutes_core.catalog.catalog import Catalog  # noqa: E402
from langchain_chutes._convert.profile import model_profile  # noqa: E402

TARGET = ROOT / "docs" / "upstream" / "langchain" / "_profiles.py"
HEAD = '''"""Model profiles of Chutes, from the list of models that the service publishes.

Written by tools/langchain_profiles.py of chutes-connect.
"""

from typing import Any

_PROFILES: dict[str, dict[str, Any]] = '''


def written() -> str:
    """Return the file."""
    models = sorted((info for info in Catalog.bundled() if info.kind == "chat"), key=lambda info: info.id)
    found = {info.id: model_profile([info]) for info in models}
    rows = [f"    {json.dumps(name)}: {{\n{_fields(profile)}    }},\n" for name, profile in found.items() if profile]
    return f"{HEAD}{{\n{''.join(rows)}}}\n"


def _fields(profile: Mapping[str, object]) -> str:
    told = ((name, json.dumps(value) if isinstance(value, str) else repr(value)) for name, value in profile.items())
    return "".join(f'        "{name}": {value},\n' for name, value in told)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the file is not of today")
    check, new = parser.parse_args().check, written()
    if check and (not TARGET.exists() or TARGET.read_text("utf-8") != new):
        print(f"{TARGET.name} is not of the catalogue that ships: run python tools/langchain_profiles.py")
        return 1
    if not check:
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_text(new, "utf-8")
    print(f"{TARGET.name}: {new.count('max_input_tokens')} profiles, as the catalogue has them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
