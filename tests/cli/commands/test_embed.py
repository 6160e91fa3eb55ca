"""``chutes-connect embed``: where texts come from, and where vectors go."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy
import pytest

from chutes_cli.npy import npy
from chutes_local import LocalChutes
from tests.cli.conftest import EMBEDDER, MODEL, Run


def test_a_pipe_gets_json_lines(run: Run, service: LocalChutes) -> None:
    """Each vector is a line with its text and its place."""
    ran = run("embed", EMBEDDER, "a text", "another", "--dimensions", "32")
    rows = [json.loads(line) for line in ran.lines]
    assert [(row["index"], row["text"], len(row["embedding"])) for row in rows] == [
        (0, "a text", 32),
        (1, "another", 32),
    ]
    assert ran.err == f"{EMBEDDER} · 2 texts · 32 dimensions · 3 tokens · price unknown\n"


def test_a_person_gets_the_beginning_of_each_vector(run: Run, service: LocalChutes) -> None:
    """On a terminal four numbers stand for all of them, with three digits that count however small they are."""
    words = ("embed", EMBEDDER, "a text")
    ran = run(*words, terminal=True, env={"NO_COLOR": "1"})
    (vector,) = [json.loads(line)["embedding"] for line in run(*words).lines]
    beginning = ", ".join(f"{number:.3g}" for number in vector[:4])
    assert ran.lines == [f"[{beginning}, … 384 numbers]  a text"]


def test_texts_come_from_words_files_and_standard_input(run: Run, service: LocalChutes, tmp_path: Path) -> None:
    """- stands for the lines of standard input, and so does no text at all; empty lines are none."""
    file = tmp_path / "lines.txt"
    file.write_text("x\n\ny\n")

    def texts(*words: str, stdin: str = "") -> list[str]:
        return [json.loads(line)["text"] for line in run("embed", EMBEDDER, *words, stdin=stdin).lines]

    assert texts("a", "-", "b", stdin="p\nq\n") == ["a", "p", "q", "b"]
    assert texts(stdin="p\n\nq\n") == ["p", "q"]
    assert texts("a", "--file", str(file)) == ["a", "x", "y"]
    assert run("embed", EMBEDDER).status == 2


def test_output_as_npy_and_as_json_lines(run: Run, service: LocalChutes, tmp_path: Path) -> None:
    """A file holds the vectors that a pipe would get; standard output stays empty."""
    matrix, lines = tmp_path / "v.npy", tmp_path / "v.jsonl"
    assert run("embed", EMBEDDER, "a text", "hello there", "-o", str(matrix)).out == ""
    run("embed", EMBEDDER, "a text", "hello there", "--output", str(lines))
    rows = [json.loads(line)["embedding"] for line in lines.read_text().splitlines()]
    assert numpy.allclose(numpy.load(matrix), rows)
    assert numpy.load(matrix).shape == (2, 384)


def test_a_file_in_another_encoding_is_said_to_be_one(run: Run, service: LocalChutes, tmp_path: Path) -> None:
    """A file that is not UTF-8 is a failure of its own, not a defect."""
    file = tmp_path / "latin.txt"
    file.write_bytes("größe".encode("latin-1"))
    ran = run("embed", EMBEDDER, "--file", str(file))
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("error: The input is not UTF-8")


@pytest.mark.parametrize("output", ["v.txt", "nowhere/v.npy"])
def test_an_output_that_cannot_be_is_refused_before_anything_is_sent(
    run: Run, service: LocalChutes, tmp_path: Path, output: str
) -> None:
    """A wrong file is a mistake, and costs nothing."""
    assert run("embed", EMBEDDER, "a", "-o", str(tmp_path / output)).status == 2
    assert not service.journal.entries


def test_json_is_one_object(run: Run, service: LocalChutes, tmp_path: Path) -> None:
    """--json has the vectors, or says which file has them."""
    found = run("embed", EMBEDDER, "a text", "--json", "--dimensions", "32").json
    assert (found["model"], found["dimensions"], found["texts"], found["cost"]) == (EMBEDDER, 32, 1, None)
    assert found["usage"]["prompt_tokens"] == 2
    assert len(found["embeddings"][0]["embedding"]) == 32
    kept = run("embed", EMBEDDER, "a text", "--json", "-o", str(tmp_path / "v.npy")).json
    assert "embeddings" not in kept
    assert kept["output"] == str(tmp_path / "v.npy")


def test_queries_get_the_model_s_instruction(run: Run, service: LocalChutes) -> None:
    """--query puts the instruction first; a model without one is a mistake."""
    run("embed", EMBEDDER, "--query", "when?")
    (entry,) = service.journal.wait(1)
    (sent,) = entry.body["input"]
    assert sent.startswith("Instruct: ")
    assert sent.endswith("\nQuery: when?")
    assert run("embed", MODEL, "--query", "when?").status == 2


def test_many_texts_go_in_batches(run: Run, service: LocalChutes) -> None:
    """Batches keep the order of the texts."""
    ran = run("embed", EMBEDDER, "--batch-size", "2", "--concurrency", "2", stdin="\n".join("abcde"))
    assert [json.loads(line)["text"] for line in ran.lines] == list("abcde")
    assert len(service.journal.wait(3)) == 3


def test_a_bar_shows_on_a_terminal_only(run: Run, service: LocalChutes) -> None:
    """Progress is for a person, and only where there is something to wait for."""
    many = ("embed", EMBEDDER, "a", "b", "c", "--batch-size", "1")
    assert "3/3" in run(*many, terminal=True).err
    assert "3/3" not in run(*many).err
    assert "1/1" not in run("embed", EMBEDDER, "a", terminal=True).err


def test_a_chat_model_has_no_embeddings(run: Run, service: LocalChutes) -> None:
    """The service's refusal has its own status, and says which model would do."""
    ran = run("embed", MODEL, "a")
    assert ran.status == 8
    assert ran.err.startswith(f"error: {MODEL}: this is a chat model (404: ")
    assert ran.err.endswith(f"Embeddings need an embedding model such as {EMBEDDER}.\n")


@pytest.mark.parametrize("size", range(1, 130))
def test_npy_is_read_by_numpy_whatever_its_size(size: int) -> None:
    """The header is aligned as the format asks, for every width."""
    data = npy([[0.5] * size, [0.25] * size])
    found = numpy.load(io.BytesIO(data))
    assert found.shape == (2, size)
    assert found.dtype == numpy.float32
    assert (len(data) - 8 * size) % 64 == 0
    assert found[1][size - 1] == 0.25
