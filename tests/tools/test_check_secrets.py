"""What the scan refuses, and what it lets pass. The keys here are put together so that no file holds one."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from check_secrets import findings, scan

HEX = "0123456789abcdef" * 2
REALISTIC = [
    "cpk_" + f"{HEX}.{HEX}." + "aZ19" * 8,
    "cak_" + "x8Jq20LmPz71RtYw",
    "crt_" + "x8Jq20LmPz71RtYw",
    "csc_" + "x8Jq20LmPz71RtYw",
    "sk-" + "proj-x8Jq20LmPz71RtYw",
]


@pytest.mark.parametrize("key", REALISTIC)
@pytest.mark.parametrize("line", ["{}", 'api_key="{}"', "Authorization: Bearer {}", "?key={}&x=1"])
def test_realistic_key_is_found(key: str, line: str) -> None:
    """A key is found wherever it stands in a line, and the report does not repeat it."""
    ((number, nature),) = findings("first line\n" + line.format(key))
    assert number == 2
    assert nature.startswith("what looks like a key")
    assert key not in nature


@pytest.mark.parametrize(
    "text",
    [
        "cpk_" + f"{'0' * 32}.{'1' * 32}.{'a' * 32}",
        "cpk_" + "fake_1234567890abcdef",
        "cpk_… is masked",
        "cpk_<32 hex>.<32 hex>.<32>",
        "csc_" + "client_secret_of_the_application",
    ],
)
def test_what_is_plainly_no_key_passes(text: str) -> None:
    """Repeated characters, a word that says so, a placeholder and an identifier are no keys."""
    assert list(findings(text)) == []


@pytest.mark.parametrize(
    ("text", "nature"),
    [
        ("open('/" + "root/project/x.py')", "a path of one machine"),
        ("cd /" + "home/alice/src", "a path of one machine"),
        ("pip install --" + "index-url http://host/simple x", "the address of a package index"),
        ("https://files.python" + "hosted.org/x.whl", "the address of a package index"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "a private key"),
    ],
)
def test_machine_paths_and_index_addresses_are_found(text: str, nature: str) -> None:
    """A path of somebody's machine and the address of a package index are refused."""
    assert list(findings(text)) == [(1, nature)]


@pytest.mark.parametrize("text", ["GET /v1/models", "docs/work/in-progress.md", "https://example.com/home/page"])
def test_ordinary_paths_pass(text: str) -> None:
    """Paths of the API, of the repository and of web pages are nobody's machine."""
    assert list(findings(text)) == []


def test_archives_are_opened(tmp_path: Path) -> None:
    """A key inside a wheel or an sdist is found and located."""
    member = tmp_path / "module.py"
    member.write_text(f"KEY = '{REALISTIC[0]}'\n")
    wheel, sdist = tmp_path / "x-1.whl", tmp_path / "x-1.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(member, "x/module.py")
    with tarfile.open(sdist, "w:gz") as tar:
        tar.add(member, "x-1/module.py")
    found = scan([wheel, sdist])
    assert [line.rsplit(":", 1)[0] for line in found] == [
        "x-1.whl!x/module.py:1",
        "x-1.tar.gz!x-1/module.py:1",
    ]
