"""What the workflows may do: read as data, since nothing here runs them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[1] / ".github/workflows"
FILES = sorted(FOLDER.glob("*.y*ml"))
WORKFLOWS = {file.stem: yaml.safe_load(file.read_text()) for file in FILES}
PINNED = re.compile(r"[\w.-]+(?:/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# Beside reading the tree: whatever a job may do is here, with the job that may.
MAY = {
    ("release", "attest"): {"attestations": "write", "id-token": "write"},
    ("release", "publish"): {"id-token": "write"},
    ("release", "announce"): {"contents": "write"},
    ("security", "codeql"): {"contents": "read", "security-events": "write"},
}
# Begun by strangers, and run with the rights of the repository.
STRANGERS = {"pull_request_target", "workflow_run", "issue_comment", "issues", "discussion", "fork"}


def jobs() -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for workflow, told in WORKFLOWS.items():
        yield from (((workflow, name), job) for name, job in told["jobs"].items())


def steps(job: dict[str, Any], kind: str) -> list[Any]:
    return [step[kind] for step in job["steps"] if kind in step]


def test_there_are_workflows() -> None:
    """The checks, the release, and what looks for what is known to be bad."""
    assert set(WORKFLOWS) == {"ci", "release", "security"}
    used = {action.partition("@")[0] for _, job in jobs() for action in steps(job, "uses")}
    assert {"actions/dependency-review-action", "github/codeql-action/analyze", "actions/attest"} <= used


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_actions_are_pinned_to_a_commit(file: Path) -> None:
    """By its full hash, which nobody can move, with the version beside it for people."""
    used = [line.partition("uses:")[2].strip() for line in file.read_text().splitlines() if "uses:" in line]
    assert used
    assert [each for each in used if not PINNED.fullmatch(each)] == []


def test_an_action_has_one_version() -> None:
    """The same hash wherever it is used."""
    used = {action for _, job in jobs() for action in steps(job, "uses")}
    repositories = ["/".join(action.split("@")[0].split("/")[:2]) + action.partition("@")[2] for action in used]
    assert len(set(repositories)) == len({each[:-40] for each in repositories})


def test_jobs_have_the_permissions_that_they_need() -> None:
    """None by default; each job says what it needs, and only those that are listed here need more than to read."""
    assert [name for name, told in WORKFLOWS.items() if told["permissions"] != {}] == []
    assert {name: job["permissions"] for name, job in jobs() if job["permissions"] != {"contents": "read"}} == MAY


def test_no_workflow_has_a_password() -> None:
    """The index and the signer trust the workflow itself."""
    assert [file.name for file in FILES if re.search(r"secrets\.|password:|API_TOKEN", file.read_text())] == []


def test_no_command_is_made_of_text_from_outside() -> None:
    """Names of branches, titles and the like reach commands as variables, if at all; no rights go to a stranger's."""
    assert [name for name, job in jobs() for command in steps(job, "run") if "${{" in command] == []
    assert [name for name, told in WORKFLOWS.items() if STRANGERS.intersection(told[True])] == []  # which is `on`


def test_jobs_with_an_identity_run_nothing_of_the_tree() -> None:
    """What can sign or publish checks nothing out: it gets the files that a job without these rights has built."""
    able = {name: job for name, job in jobs() if "id-token" in job["permissions"]}
    assert set(able) == {("release", "attest"), ("release", "publish")}
    for job in able.values():
        assert not [action for action in steps(job, "uses") if action.startswith(("actions/checkout", "actions/setup"))]
        assert [command for command in steps(job, "run") if not re.fullmatch(r"rm( dist/[\w.]+)+", command)] == []


def test_a_checkout_leaves_no_credentials_behind() -> None:
    """The token of a job is not in the tree that its commands read."""
    made = [step for _, job in jobs() for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert made
    assert [step for step in made if step["with"]["persist-credentials"] is not False] == []


def test_every_job_ends() -> None:
    """None runs for the hours that the host would let it."""
    assert [name for name, job in jobs() if not 0 < job["timeout-minutes"] <= 60] == []


def test_every_version_of_python_that_is_promised_is_tried() -> None:
    """The classifiers and the matrix are the same."""
    promised = re.findall(r"Python :: (3\.\d+)\"", (FOLDER.parents[1] / "pyproject.toml").read_text())
    assert WORKFLOWS["ci"]["jobs"]["ci"]["strategy"]["matrix"]["python"] == promised
