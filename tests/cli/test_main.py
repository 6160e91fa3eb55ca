"""The command as a whole: what it loads, how it ends, and that no key shows."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest

from chutes_cli import main, parser
from chutes_local import LocalChutes

from .conftest import MODEL, NOWHERE, Run

HEAVY = ("openai", "rich", "httpx", "httpx2", "shtab", "authlib", "pydantic", "langchain_core", "llama_index", "numpy")


@pytest.mark.parametrize("words", [["--help"], ["models", "--help"], ["chat", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    """Neither an HTTP library nor a framework nor rich is imported to show a help page."""
    code = (
        "import sys\nfrom chutes_cli import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_no_command_shows_the_help(run: Run) -> None:
    """Without a command the help is shown on standard error and the status is 2."""
    ran = run()
    assert (ran.status, ran.out) == (2, "")
    assert "commands:" in ran.err


def test_the_version_is_the_distribution_s(run: Run) -> None:
    """--version names the program and its version."""
    name, version = run("--version").out.split()
    assert name == "chutes-connect"
    assert version[0].isdigit()


@pytest.mark.parametrize(
    "words",
    [
        ["nope"],
        ["models", "--nope"],
        ["models", "qwen", "three"],
        ["models", "--min-context", "big"],
        ["cost", "--in", "1"],
        ["completion", "powershell"],
    ],
)
def test_a_mistake_in_the_words_is_one_line_and_status_2(run: Run, words: list[str]) -> None:
    """A mistake is said in one line that names the help to read."""
    ran = run(*words)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert "--help" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chat"], "No model was named, and there is no default one: name one, set CHUTES_MODEL, or store one"),
        (["embed"], "the following arguments are required: MODEL"),
        (["chat", "--max-tokens", "abc"], "'abc' is not a number of tokens"),
        (["models", "--sort", "foo"], "invalid choice: 'foo'"),
        (["models", "--limit", "0"], "'0' must be a whole number above 0"),
        (["models", "--timeout", "soon"], "'soon' must be a number of seconds above 0"),
        (["models", "qwen", "three"], "unrecognized arguments: three"),
        (["nope"], "invalid choice: 'nope'"),
        (["models", "--offline", "--pick", "fast"], "'fast' is not a valid demand. Use tools"),
    ],
)
def test_with_json_a_mistake_in_the_words_is_json_too(run: Run, words: list[str], said: str) -> None:
    """Where --json is among the words, what is wrong with them is told as every other failure."""
    ran = run(*words, "--json")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert (ran.error["kind"], ran.error["exit"]) == ("usage", 2)
    assert said in ran.error["message"]
    assert "PROMPT" not in ran.error["message"]
    assert "TEXT" not in ran.error["message"]


def test_json_in_a_prompt_is_no_option(run: Run) -> None:
    """What stands behind -- is text: the failure is told in words."""
    assert run("chat", "--nope", "--", "--json").err.startswith("error: ")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["chat", MODEL, "--max-token", "5", "hi"], "--max-tokens"),
        (["chat", MODEL, "hi", "--max-token=5"], "--max-tokens"),
        (["chat", MODEL, "hi", "--temp", "0"], "--temperature"),
        (["models", "--ofline"], "--offline"),
    ],
)
def test_an_option_that_does_not_exist_is_answered_with_the_nearest(run: Run, words: list[str], option: str) -> None:
    """A mistyped option is followed by the one that was probably meant."""
    ran = run(*words)
    assert ran.status == 2
    assert f" Did you mean {option}? (see `chutes-connect {words[0]} --help`)" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["modles"], "there is no command 'modles'. Did you mean `chutes-connect models`?"),
        (["chta", MODEL, "hi"], "there is no command 'chta'. Did you mean `chutes-connect chat`?"),
        (["aliases", "lst"], "Did you mean list?"),
        (["models", "--sort", "pirce"], "Did you mean price?"),
    ],
)
def test_a_word_that_does_not_exist_is_answered_with_the_nearest(run: Run, words: list[str], said: str) -> None:
    """A mistyped command, or choice, is followed by the one that was probably meant."""
    ran = run(*words)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert said in ran.err


def test_an_option_that_resembles_none_is_answered_without_a_guess(run: Run) -> None:
    """Where nothing is near, nothing is proposed."""
    assert "Did you mean" not in run("models", "--xyzzy").err + run("--json").err


@pytest.mark.parametrize(
    "words",
    [
        ["chat", MODEL, "hi", "--api-key", "cpk_secret_1"],
        ["chat", MODEL, "hi", "--api-key=cpk_secret_1"],
        ["cost", "--api-key", "cpk_secret_1"],
        ["models", "--key", "cpk_secret_1"],
        ["cpk_secret_1"],
        ["models", "--max-price", "cpk_secret_1"],
    ],
)
def test_a_key_among_the_words_is_refused_and_not_shown(run: Run, words: list[str]) -> None:
    """A key on the command line is no way to give one, and is masked in what is said about it."""
    ran = run(*words)
    assert ran.status == 2
    assert "secret" not in ran.out + ran.err


def test_the_refusal_names_the_ways_to_give_a_key(run: Run) -> None:
    """--api-key says where a key shows on the command line, and three better ways."""
    said = run("chat", MODEL, "--api-key", "cpk_secret_1").err
    assert all(way in said for way in ("CHUTES_API_KEY", "chutes-connect login", "--api-key-stdin"))


def test_a_missing_key_is_status_3(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing is sent, and the ways to give one are named."""
    monkeypatch.delenv("CHUTES_API_KEY")
    ran = run("chat", MODEL, "hi")
    assert (ran.status, ran.out) == (3, "")
    assert "chutes-connect login" in ran.err


def test_the_key_can_come_from_standard_input(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """--api-key-stdin takes the first line as the key, and what follows is the prompt."""
    monkeypatch.delenv("CHUTES_API_KEY")
    ran = run("chat", MODEL, "--api-key-stdin", stdin=f"{service.api_key}\nthe rest")
    assert ran.status == 0
    assert "the rest" in ran.out
    assert service.api_key not in ran.out + ran.err
    assert run("chat", MODEL, "hi", "--api-key-stdin").status == 3


@pytest.mark.parametrize("key", ["cpk_a b", "cpk_€", "cpk_\x07"])
def test_a_key_from_standard_input_that_cannot_be_sent_is_refused(run: Run, key: str) -> None:
    """In one line that does not show it, as a key from elsewhere."""
    ran = run("chat", MODEL, "hi", "--api-key-stdin", "--base-url", f"{NOWHERE}/v1", stdin=f"{key}\n")
    assert (ran.status, ran.out) == (2, "")
    assert "characters that no key has" in ran.err
    assert key not in ran.err


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_a_stream_that_was_closed_does_no_harm(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts the command may close its streams: what would be written there is not, and nothing is read."""
    monkeypatch.setattr(sys, "stdin", StringIO())
    monkeypatch.setattr(sys, closed, None)
    assert main(["models", "--pick", "tools", "--offline"]) == 0
    with getattr(sys, closed):
        assert main(["login", "--api-key", "stdin"]) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", [["--version"], ["models", "--pick", "tools", "--offline"]])
def test_a_result_that_cannot_be_written_is_one_line_and_status_1(words: list[str]) -> None:
    """A full disk is said in a line, whatever was to be written."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "chutes_cli", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: No space left on device."
    assert "Traceback" not in done.stderr


def test_an_unreachable_service_is_one_line_and_status_4(run: Run) -> None:
    """A service that cannot be reached is said on standard error, without a traceback."""
    ran = run("models", "--base-url", f"{NOWHERE}/v1")
    assert (ran.status, ran.out) == (4, "")
    assert ran.err.startswith("error: no connection")
    assert ran.err.count("\n") == 1


def test_with_json_a_failure_is_json_on_standard_error(run: Run) -> None:
    """With --json the failure has a kind, a message and the status, and standard output stays empty."""
    ran = run("models", "--json", "--base-url", f"{NOWHERE}/v1")
    assert ran.out == ""
    assert (ran.error["kind"], ran.error["exit"]) == ("connect", 4)


def test_warnings_are_notes(run: Run, tmp_path: Path) -> None:
    """What the library warns of is one line of its own, and does not spoil the result."""
    cache = tmp_path / "cache" / "models.json"
    cache.parent.mkdir()
    cache.write_text("{broken")
    ran = run("models", "--offline", "--limit", "1")
    assert ran.status == 0
    assert ran.err.startswith("note: The cached catalogue")


def test_a_defect_is_a_line_and_a_traceback_on_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is said without a traceback, unless one is asked for; a key in it is masked."""

    def broken(*args: object, **kwargs: object) -> None:
        raise LookupError("cpk_secret_1")

    monkeypatch.setattr("chutes_cli.model_table.models_table", broken)
    ran = run("models", "--offline")
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert ran.err.startswith("error: LookupError: cpk_**** This is a bug in chutes-connect")
    with pytest.raises(LookupError):
        run("models", "--offline", env={"CHUTES_DEBUG": "1"})


def test_a_terminal_that_cannot_show_a_letter_shows_another() -> None:
    """An answer with letters that the terminal's encoding lacks is no failure."""
    words = [sys.executable, "-m", "chutes_cli", "models", "--pick", "größe", "--offline"]
    done = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False)
    assert done.returncode == 2
    assert b"gr??e" in done.stderr or b"gr\\xf6\\xdfe" in done.stderr


def test_ctrl_c_is_quiet_and_status_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command without a traceback."""

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("chutes_cli.model_table.models_table", interrupted)
    ran = run("models", "--offline")
    assert (ran.status, ran.err.strip()) == (130, "")


def test_a_reader_that_has_enough_is_no_failure_to_speak_of() -> None:
    """Piped into a program that stops reading, the command ends without a traceback."""
    reader = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)
    reader.wait()
    words = [sys.executable, "-m", "chutes_cli", "models", "--offline", "--json"]
    assert reader.stdin is not None
    done = subprocess.run(words, stdout=reader.stdin, stderr=subprocess.PIPE, text=True, check=False)
    with suppress(BrokenPipeError):
        reader.stdin.close()
    assert (done.returncode, done.stderr) == (1, "")


def test_every_command_has_a_summary_and_a_usage() -> None:
    """The list of commands says of each what it does, and each page begins with its usage."""
    page = parser().format_help()
    for name in [
        "init",
        "doctor",
        "login",
        "models",
        "chat",
        "embed",
        "cost",
        "account",
        "aliases",
        "warmup",
        "record",
        "replay",
        "local",
        "migrate",
        "completion",
    ]:
        assert f"\n    {name} " in page


def test_main_takes_the_words_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Called without words, as the installed script does, it takes those of the process."""
    monkeypatch.setattr(sys, "argv", ["chutes-connect", "--version"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert capsys.readouterr().out.startswith("chutes-connect ")
