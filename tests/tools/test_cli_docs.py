"""The page of the command line: what counts as a difference, and that blocks are really run."""

from __future__ import annotations

import cli_docs
import pytest

PAGE = """\
# A page

<!-- cli: models --offline -->

```console
$ chutes-connect models --offline
all 12 ms
```

<!-- cli fault=*=cold keep: chat acme/one -->

```console
old
```

```console
$ not announced
```

<!-- exit statuses -->

| old |
"""


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("first token 12 ms, all 0.31 s", "first token 1.20 s, all 2 min 3 s"),
        ("http://127.0.0.1:4711/v1", "http://127.0.0.1:80/v1"),
        ("local --env --port 4711", "local --env --port 80"),
        ('{"seconds": 0.25}', '{"seconds": 12}'),
        ("ok   versions    Python 3.11\n     rich 15\nok   account", "ok   versions    Python 3.13\nok   account"),
        ("one line that is\n   broken", "one line that\n  is broken"),
        ("reset at 2026-08-22T00:00:00+00:00", "reset at 2026-11-22T10:30:00Z"),
    ],
)
def test_what_may_differ_between_page_and_run(before: str, now: str) -> None:
    """Times, ports, versions, moments and line breaks are no difference."""
    assert cli_docs.steady(before) == cli_docs.steady(now)


@pytest.mark.parametrize(
    ("before", "now"), [("$0.25", "$0.26"), ("10 of 11 models", "11 of 11 models"), ("ok   key", "warn key")]
)
def test_what_must_not_differ(before: str, now: str) -> None:
    """Everything else is."""
    assert cli_docs.steady(before) != cli_docs.steady(now)


def test_blocks_are_run_in_order_and_rewritten_where_they_differ() -> None:
    """A block that differs in a time alone stays as it is; what is not announced is left alone."""
    ran: list[tuple[str, str]] = []

    def run(options: str, words: str) -> str:
        ran.append((options.strip(), words))
        return f"$ chutes-connect {words}\nall 99 ms\n"

    page = cli_docs.renewed(PAGE, run)
    assert ran == [("", "models --offline"), ("fault=*=cold keep", "chat acme/one")]
    assert "all 12 ms" in page
    assert "$ chutes-connect chat acme/one\nall 99 ms\n```" in page
    assert "$ not announced" in page
    assert "| 130 | Ctrl-C |" in page
    assert "| old |" not in page


def test_a_transcript_is_what_a_terminal_shows() -> None:
    """Both streams, the status where it is not 0, and what was piped in."""
    with cli_docs.stage() as server:
        failed = cli_docs.transcript("fault=*=bad_request", "chat Qwen/Qwen3-32B-TEE Hello", server)
        piped = cli_docs.transcript("stdin='a text'", "chat Qwen/Qwen3-32B-TEE -q", server)
        shell = cli_docs.transcript("", "local --env --port PORT", server)
    assert failed.startswith("$ chutes-connect chat Qwen/Qwen3-32B-TEE Hello\nerror: Qwen/Qwen3-32B-TEE: ")
    assert failed.endswith("\n$ echo $?\n2\n")
    assert piped.splitlines()[0] == "$ echo 'a text' | chutes-connect chat Qwen/Qwen3-32B-TEE -q"
    assert piped.splitlines()[1].endswith("You said: a text")
    port = server.url.rpartition(":")[2]
    assert shell.splitlines()[0] == f"$ chutes-connect local --env --port {port}"
    assert f"export CHUTES_BASE_URL=http://127.0.0.1:{port}/v1" in shell.splitlines()
