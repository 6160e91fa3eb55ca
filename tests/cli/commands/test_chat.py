"""``chutes-connect chat``: what is shown of an answer, where, and how a failure ends it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from chutes_local import LocalChutes
from chutes_local.world.journal import Entry
from tests.cli.conftest import EMBEDDER, MODEL, NOWHERE, OTHER, SAID, Run, Stream

THIRD = "zai-org/GLM-5.2-TEE"
PICTURE = b"\x89PNG\r\n\x1a\n and what else makes a picture"


def asked(service: LocalChutes, calls: int, lists: int = 1) -> list[Entry]:
    """The calls that arrived, beside the gateway's list of models, which each run asks for its prices."""
    return [entry for entry in service.journal.wait(calls + lists) if entry.method == "POST"]


def test_the_answer_alone_goes_to_standard_output(run: Run, service: LocalChutes) -> None:
    """A pipe gets the answer and nothing else; what it took is one line on standard error."""
    ran = run("chat", MODEL, "Hello")
    assert (ran.status, ran.out) == (0, f"{SAID}Hello\n")
    who, used, cost, times, quota = ran.err.strip().split(" · ")
    assert (who, used, cost, quota) == (
        MODEL,
        "1 in + 11 out tokens",
        "$0.00000468",
        "included: request 1 of 5,000 today",
    )
    assert times.startswith("first token ")


def test_the_prompt_is_the_words_and_what_is_piped_in(run: Run, service: LocalChutes) -> None:
    """Words and standard input become one prompt; words may stand on both sides of options."""
    assert run("chat", MODEL, "Sum", "up:", stdin="a text\n").out == f"{SAID}Sum up:\n\na text\n"
    assert run("chat", MODEL, stdin="a text").out == f"{SAID}a text\n"
    assert run("chat", MODEL, "one", "-q", "two", "--seed", "7", "three").out == f"{SAID}one two three\n"


def test_nothing_to_ask_is_a_mistake(run: Run, service: LocalChutes) -> None:
    """An empty prompt is refused before anything is sent."""
    ran = run("chat", MODEL)
    assert ran.status == 2
    assert "There is no prompt" in ran.err
    assert not service.journal.entries


def test_quiet_is_the_answer_alone(run: Run, service: LocalChutes) -> None:
    """-q leaves out the line below the answer."""
    assert run("chat", MODEL, "Hello", "-q").err == ""


def test_json_is_the_whole_answer(run: Run, service: LocalChutes) -> None:
    """--json has text, reasoning, tokens, cost and times in one object."""
    found = run("chat", MODEL, "Hello", "--json", "--reasoning", "on").json
    assert found["content"] == f"{SAID}Hello"
    assert "rehearsal" in found["reasoning"]
    assert found["usage"]["prompt_tokens"] == 1
    assert found["cost"] == pytest.approx((1 * 0.104 + found["usage"]["completion_tokens"] * 0.416) / 1e6)
    assert found["ttft"] <= found["seconds"]
    assert (found["model"], found["finish_reason"], found["attempts"]) == (MODEL, "stop", [])


def test_parameters_are_sent_when_they_are_given(run: Run, service: LocalChutes) -> None:
    """What is not given is not sent, and what is given is sent as it is."""
    run("chat", MODEL, "Hello")
    run(
        *(
            "chat",
            MODEL,
            "Hello",
            "--system",
            "Be brief.",
            "--max-tokens",
            "1k",
            "--temperature",
            "0",
            "--top-p",
            "0.5",
        ),
        *("--seed", "7", "--stop", "END", "--reasoning", "off", "--param", "top_k=40"),
    )
    plain, full = (entry.body for entry in asked(service, 2, lists=2))
    assert set(plain) == {"model", "messages", "stream", "stream_options"}
    assert full["messages"][0] == {"role": "system", "content": "Be brief."}
    told = {name: full[name] for name in ("max_tokens", "temperature", "top_p", "seed", "stop", "top_k")}
    assert told == {"max_tokens": 1000, "temperature": 0.0, "top_p": 0.5, "seed": 7, "stop": ["END"], "top_k": 40}
    assert full["chat_template_kwargs"]["enable_thinking"] is False


def test_a_parameter_that_does_not_exist_is_a_mistake(run: Run, service: LocalChutes) -> None:
    """A name that nobody knows is refused with the nearest one."""
    ran = run("chat", MODEL, "Hello", "--param", "temprature=1")
    assert ran.status == 2
    assert "'temperature'" in ran.err
    assert run("chat", MODEL, "Hello", "--param", "top_k").status == 2


def test_pictures_travel_with_the_question(run: Run, service: LocalChutes, tmp_path: Path) -> None:
    """A file becomes a data URI; what is no picture by its name is refused."""
    picture = tmp_path / "a.png"
    picture.write_bytes(PICTURE)
    assert run("chat", OTHER, "What is this?", "--image", str(picture)).status == 0
    (entry,) = asked(service, 1)
    part = entry.body["messages"][0]["content"][1]
    assert part["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert run("chat", OTHER, "What?", "--image", "notes.txt").status == 2
    missing = run("chat", OTHER, "What?", "--image", str(tmp_path / "none.png"))
    assert (missing.status, missing.err) == (1, f"error: {tmp_path / 'none.png'}: No such file or directory.\n")


def test_reasoning_is_shown_to_a_person_and_kept_out_of_the_answer(run: Run, service: LocalChutes) -> None:
    """On a terminal reasoning is dimmed on standard error; a pipe gets none unless it asks."""
    words = ("chat", MODEL, "Hello", "--reasoning", "on")
    seen = run(*words, terminal=True)
    assert seen.out == f"{SAID}Hello\n"
    assert seen.err.startswith("\x1b[2mthinking: \x1b[0m\x1b[2mThis is a rehearsal")
    assert "thinking" not in run(*words, "--hide-reasoning", terminal=True).err
    assert "thinking" not in run(*words).err
    asked = run(*words, "--show-reasoning")
    assert asked.out == f"{SAID}Hello\n"
    assert asked.err.startswith("thinking: This is a rehearsal of reasoning")


def test_no_color_is_respected(run: Run, service: LocalChutes) -> None:
    """With NO_COLOR a terminal gets plain text."""
    ran = run("chat", MODEL, "Hello", "--reasoning", "on", terminal=True, env={"NO_COLOR": "1"})
    assert "\x1b" not in ran.out + ran.err


def test_without_rich_a_terminal_gets_plain_text(
    run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra brings colours, not content."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    ran = run("chat", MODEL, "Hello", terminal=True)
    assert "\x1b" not in ran.out + ran.err
    assert ran.out == f"{SAID}Hello\n"


def test_a_cut_answer_says_so(run: Run, service: LocalChutes) -> None:
    """An answer that ends at its limit is whole as asked for, and said to be cut."""
    ran = run("chat", MODEL, "Hello", "--max-tokens", "3")
    assert ran.status == 0
    assert "note: The answer was cut off" in ran.err


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("capacity", 5, "let another model take over with --fallback"),
        ("cold", 5, f"`chutes-connect warmup {MODEL}`"),
        ("quota", 6, "Add balance"),
        ("auth", 3, "Check the key"),
        ("bad_request", 2, "Change the request"),
        ("not_found", 8, "`chutes-connect models`"),
        ("reset(after=2)", 7, "not a whole answer"),
        ("no_finish(after=2)", 7, "before the model had finished"),
    ],
)
def test_each_failure_has_a_status_and_a_remedy(
    run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch, fault: str, status: int, said: str
) -> None:
    """A failure is one line that says what to do in the command's own words, and a status by its sort."""
    monkeypatch.setattr("chutes_core.calls.clock.SystemClock.sleep", lambda self, seconds: None)
    service.faults.parse(f"{MODEL}={fault}")
    ran = run("chat", MODEL, "Hello there")
    assert ran.status == status
    assert said in ran.err
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1


def test_a_busy_model_is_asked_again_and_a_person_is_told(
    run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal each wait is a note of its own; a pipe, --quiet and --json wait in silence."""
    monkeypatch.setattr("chutes_core.calls.clock.SystemClock.sleep", lambda self, seconds: None)

    def told(*words: str, terminal: bool = True) -> list[str]:
        service.reset()
        service.faults.parse(f"{MODEL}=capacity x2")
        ran = run("chat", MODEL, "Hello", *words, terminal=terminal, env={"NO_COLOR": "1"})
        assert ran.status == 0
        return re.findall(r"note: (no answer yet, trying again in .*)", ran.err)

    first, second = told()
    assert re.fullmatch(r"no answer yet, trying again in [0-9.]+ s \(1 of 2\)", first)
    assert second.endswith(" s (2 of 2)")
    assert told("--quiet") == told("--json") == told(terminal=False) == []


def test_each_question_of_a_conversation_counts_its_own_tries(
    typed: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one question had to wait for is not counted with the next."""
    monkeypatch.setattr("chutes_core.calls.clock.SystemClock.sleep", lambda self, seconds: None)
    service.faults.parse(f"{MODEL}=capacity > ok > capacity > ok")
    ran = typed("Hello", "Again")
    assert ran.err.count(" s (1 of 2)") == 2


def test_an_embedding_model_does_not_chat(run: Run, service: LocalChutes) -> None:
    """A model of another kind is named as one, with the command that it is for."""
    ran = run("chat", EMBEDDER, "Hello")
    assert ran.status == 8
    assert ran.err.startswith(f"error: {EMBEDDER}: this is an embedding model (404: ")
    assert "For embeddings use `chutes-connect embed`; for chat choose a chat model such as " in ran.err


@pytest.mark.parametrize("name", ["Qwen/Qwen9", "Qwen/Qwen3-32"])
def test_a_name_that_nothing_has_is_answered_with_the_nearest(run: Run, service: LocalChutes, name: str) -> None:
    """A mistaken name that the service does not know is followed by the one that was probably meant."""
    ran = run("chat", name, "Hello")
    assert ran.status == 8
    assert ran.err.endswith(f" Did you mean {MODEL}?\n")


def test_trouble_with_the_account_has_its_own_status(
    run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A used-up quota says when it resets; a key that is not known is status 3."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_poor")
    assert "The quota resets at 20" in run("chat", MODEL, "hi").err
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_bad")
    assert run("chat", MODEL, "hi").status == 3


def test_json_failures_keep_the_part_that_arrived(run: Run, service: LocalChutes) -> None:
    """What arrived before an answer broke is in the report, and nothing of it in the result."""
    service.faults.parse(f"{MODEL}=no_finish(after=2)")
    ran = run("chat", MODEL, "Hello", "--json")
    assert (ran.status, ran.out) == (7, "")
    assert (ran.error["kind"], ran.error["partial"], ran.error["model"]) == ("truncated", "This is", MODEL)


def test_the_next_model_takes_over(run: Run, service: LocalChutes) -> None:
    """With --fallback a busy model gives way, and the note says so before the answer."""
    service.faults.parse(f"{MODEL}=capacity")
    ran = run("chat", MODEL, "Hello", "--fallback", f"{OTHER},{THIRD}")
    assert (ran.status, ran.out) == (0, f"{SAID}Hello\n")
    assert ran.err.startswith(f"note: {MODEL}: capacity 429 after ")
    assert f"\n{OTHER} · " in ran.err


def test_a_pipe_never_sees_half_an_answer_of_a_fallback(run: Run, service: LocalChutes) -> None:
    """Into a pipe a fallback gives one whole answer, also when the first broke in the middle."""
    service.faults.parse(f"{MODEL}=reset(after=2)")
    assert run("chat", MODEL, "Hello", "--fallback", OTHER).out == f"{SAID}Hello\n"
    found = run("chat", MODEL, "Hello", "--fallback", OTHER, "--json").json
    assert found["content"] == f"{SAID}Hello"
    assert [(each["model"], each["outcome"], each["kind"]) for each in found["attempts"]] == [
        (MODEL, "failed", "reset"),
        (OTHER, "answered", None),
    ]


def test_a_person_is_told_that_what_was_shown_is_void(run: Run, service: LocalChutes) -> None:
    """On a terminal a broken answer stays visible, followed by the reason and the new beginning."""
    service.faults.parse(f"{MODEL}=reset(after=2)")
    words = ("chat", MODEL, "Hello", "--fallback", OTHER, "-q")
    ran = run(*words, terminal=True, together=True, env={"NO_COLOR": "1"})
    assert ran.status == 0
    broken, reason, void, answer = ran.lines
    assert (broken, answer) == ("This is", f"{SAID}Hello")
    assert reason.startswith(f"note: {MODEL}: reset after ")
    assert void == f"note: Ignore the answer above: it broke off, and {OTHER} starts over."


def test_when_all_fail_the_last_decides(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fallback without an answer is one line with every attempt, and the status of the last."""
    monkeypatch.setattr("chutes_core.calls.clock.SystemClock.sleep", lambda self, seconds: None)
    service.faults.parse("*=disabled")
    ran = run("chat", MODEL, "Hello", "--fallback", OTHER)
    assert ran.status == 5
    error = ran.err.splitlines()[-1]
    assert error.startswith("error: No model gave a whole answer (2 attempts).")
    assert "sub-exception" not in error


def test_a_fallback_that_is_busy_throughout_sums_up_its_rounds(
    run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that failed alike in every round is named once, and the remedy is one for a fallback."""
    monkeypatch.setattr("chutes_core.calls.clock.SystemClock.sleep", lambda self, seconds: None)
    service.faults.parse("*=capacity")
    error = run("chat", MODEL, "Hello", "--fallback", OTHER).err.splitlines()[-1]
    assert error.count(MODEL) == error.count(OTHER) == 1
    assert f"{MODEL}: capacity 429 (6 times); {OTHER}: capacity 429 (6 times). " in error
    assert error.endswith("Every member is busy: wait or add a model of another family.")


def test_an_unreachable_gateway_names_the_model(
    run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection is status 4."""
    monkeypatch.setattr("chutes_core.calls.clock.SystemClock.sleep", lambda self, seconds: None)
    assert run("chat", MODEL, "hi", "--base-url", f"{NOWHERE}/v1").status == 4


class Keyboard(Stream):
    """A terminal at which somebody types lines, and then Ctrl-D."""

    def __init__(self, *lines: str) -> None:
        super().__init__(terminal=True)
        self.lines = list(lines)

    def answer(self, prompt: str = "") -> str:
        if not self.lines:
            raise EOFError
        line = self.lines.pop(0)
        if line == "^C":
            raise KeyboardInterrupt
        return line


@pytest.fixture
def typed(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Hold a conversation: ``typed("Hello", "/exit")``."""

    def talking(*lines: str, words: tuple[str, ...] = ()) -> object:
        monkeypatch.setattr("builtins.input", Keyboard(*lines).answer)
        return run("chat", MODEL, *words, terminal=True, env={"NO_COLOR": "1"})

    return talking  # type: ignore[return-value]


def test_a_conversation_remembers(typed: Run, service: LocalChutes) -> None:
    """Each question goes with those before it, until Ctrl-D; the sum of it all comes last."""
    ran = typed("Hello", "And \\", "you?", words=("--system", "Be brief."))
    assert ran.status == 0
    assert f"{SAID}And \nyou?" in ran.out
    _, second = asked(service, 2)
    assert [message["role"] for message in second.body["messages"]] == ["system", "user", "assistant", "user"]
    assert ran.err.splitlines()[-1].startswith("2 calls, $0.0000")


def test_a_conversation_obeys_commands(typed: Run, service: LocalChutes) -> None:
    """Model, system message and memory change in the middle; /exit ends."""
    ran = typed("Hello", "", "/new", f"/model {OTHER}", "/system Be kind.", "Again", "/nope", "/help", "/exit", "never")
    first, second = asked(service, 2)
    assert [first.body["model"], second.body["model"]] == [MODEL, OTHER]
    assert [message["content"] for message in second.body["messages"]] == ["Be kind.", "Again"]
    assert "Unknown command /nope" in ran.err
    assert "/model NAME" in ran.err
    assert len(service.journal.entries) == 3


def test_a_picture_goes_with_the_next_question_alone(typed: Run, service: LocalChutes, tmp_path: Path) -> None:
    """/image holds for one question; a file that is not there, or no picture, is said at once and never sent."""
    picture = tmp_path / "a.png"
    picture.write_bytes(PICTURE)
    typed(f"/model {OTHER}", f"/image {picture}", "What is this?", "And now?")
    first, second = asked(service, 2)
    assert [part["type"] for part in first.body["messages"][0]["content"]] == ["text", "image_url"]
    assert second.body["messages"][-1]["content"] == "And now?"
    service.reset()
    (tmp_path / "a.txt").write_text("no picture")
    ran = typed("/image none.png", f"/image {tmp_path / 'a.txt'}", "What?", "/quit")
    assert "none.png: No such file or directory." in ran.err
    assert "a.txt does not look like an image" in ran.err
    assert asked(service, 1)[0].body["messages"][-1]["content"] == "What?"


def test_a_picture_that_is_none_is_said_before_the_conversation(typed: Run) -> None:
    """With --image, as at /image."""
    ran = typed("Hello", words=("--image", "none.png"))
    assert (ran.status, ran.out) == (1, "")
    assert "none.png: No such file or directory." in ran.err


def test_a_conversation_without_a_word_costs_nothing(typed: Run) -> None:
    """Who leaves at once is not shown a sum."""
    ran = typed()
    assert (ran.status, "call" in ran.err) == (0, False)


def test_a_failure_does_not_end_a_conversation(typed: Run, service: LocalChutes) -> None:
    """A question that fails is said, forgotten, and the next one goes on."""
    service.faults.parse(f"{MODEL}=bad_request x1")
    ran = typed("Hello", "Again")
    assert "error: " in ran.err
    assert ran.out.strip().endswith(f"{SAID}Again")
    assert len(asked(service, 2)[1].body["messages"]) == 1


def test_a_model_that_is_not_there_can_be_changed(typed: Run, service: LocalChutes) -> None:
    """The way to another one is said, and is open."""
    ran = typed("/model hello", "Hello", f"/model {MODEL}", "Hello")
    assert "List the current models with `chutes-connect models`. /model NAME asks another one.\n" in ran.err
    assert ran.out.strip().endswith(f"{SAID}Hello")


def test_ctrl_c_at_the_prompt_ends_a_conversation(typed: Run) -> None:
    """Ctrl-C twice where nothing is asked ends it with status 130, and the sum; once, it says so."""
    ran = typed("Hello", "^C", "Again", "^C", "^C", "never")
    assert ran.status == 130
    assert ran.out.count("Ctrl-C once more, or Ctrl-D, quits.") == 2
    assert ran.err.splitlines()[-1].startswith("2 calls, $0.0000")


def test_ctrl_c_in_an_answer_stops_the_answer_alone(
    typed: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle stops the answer, which is not remembered, and asks for the next line."""
    from chutes_cli.screen import Screen

    take, pressed = Screen.take, []

    def interrupted(self: Screen, part: object) -> None:
        take(self, part)  # type: ignore[arg-type]
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt

    monkeypatch.setattr(Screen, "take", interrupted)
    ran = typed("Hello", "Again")
    assert ran.status == 0
    assert "stopped" in ran.err
    assert len(asked(service, 2)[1].body["messages"]) == 1


def test_a_question_in_the_place_of_a_model_is_for_the_default_one(run: Run, service: LocalChutes) -> None:
    """A word with a space in it, or with the end of a sentence, is a question, with or without a file behind it."""
    env = {"CHUTES_MODEL": f"{MODEL},{OTHER}"}
    assert run("chat", "Why is the sky blue?", env=env).out == f"{SAID}Why is the sky blue?\n"
    assert run("chat", "Sum this up:", "now", stdin="a text", env=env).out == f"{SAID}Sum this up: now\n\na text\n"
    assert run("chat", "Why?", env=env).out == f"{SAID}Why?\n"
    assert run("chat", stdin="a text", env=env).out == f"{SAID}a text\n"
    assert {entry.body["model"] for entry in asked(service, 4, lists=4)} == {MODEL}


def test_a_model_is_named_in_two_ways(run: Run, service: LocalChutes) -> None:
    """As the first word, also with spaces behind its commas, or by --model, where all words are the question."""
    for words in ((f"{MODEL}, {OTHER}", "Hi"), ("-m", MODEL, "Hi"), ("Hi", "--model", MODEL)):
        assert run("chat", *words).out == f"{SAID}Hi\n"
    routed, *named = (entry.body["model"] for entry in asked(service, 3, lists=3))
    assert (routed, named) == (f"{MODEL},{OTHER}", [MODEL, MODEL])


def test_the_default_has_fallbacks(run: Run, service: LocalChutes) -> None:
    """The next of the list takes over, unless --fallback names others."""
    env = {"CHUTES_MODEL": f"{MODEL},{OTHER}"}
    service.faults.parse(f"{MODEL}=capacity")
    assert f"\n{OTHER} · " in run("chat", "Why is it?", env=env).err
    assert f"\n{THIRD} · " in run("chat", "Why is it?", "--fallback", THIRD, env=env).err


def test_without_a_model_the_ways_to_name_one_are_said(run: Run, service: LocalChutes) -> None:
    """Nothing is sent."""
    ran = run("chat", "Why is the sky blue?")
    assert (ran.status, ran.out) == (2, "")
    assert "name one, set CHUTES_MODEL, or store one with `chutes-connect models set MODEL`" in ran.err
    assert not service.journal.entries


def test_a_default_model_that_is_not_there(run: Run, service: LocalChutes) -> None:
    """Where its name comes from is said, since nobody named it now."""
    ran = run("chat", "Why is it?", env={"CHUTES_MODEL": "acme/gone"})
    assert ran.status == 8
    assert ran.err.endswith(" It is the default model, from CHUTES_MODEL.\n")
    assert "default model" not in run("chat", "-m", "acme/gone", "Why?", env={"CHUTES_MODEL": MODEL}).err


def test_a_question_of_one_word_is_taken_for_a_model_and_the_way_out_is_said(run: Run, service: LocalChutes) -> None:
    """The status is that of a model that does not exist."""
    ran = run("chat", "Hello")
    assert (ran.status, "There is no prompt: 'Hello' is taken for the model." in ran.err) == (2, True)
    ran = run("chat", "Hello", stdin="a text")
    assert ran.status == 8
    assert ran.err.endswith(" If 'Hello' is the question, name a model with --model.\n")


def test_a_question_on_a_terminal_can_be_gone_on_with(run: Run, service: LocalChutes, tmp_path: Path) -> None:
    """A pipe leaves nothing behind, except where it goes on; --no-history leaves the last one as it was."""
    run("chat", MODEL, "one")
    assert (run("chat", "-c", "two").status, (tmp_path / "state").exists()) == (1, False)
    run("chat", MODEL, "one", terminal=True)
    run("chat", MODEL, "other", "--no-history", terminal=True)
    assert run("chat", "-c", "two").out == f"{SAID}two\n"
    run("chat", "-c", "three", "--model", OTHER)
    last = asked(service, 5, lists=5)[-1].body
    assert (last["model"], [each["content"] for each in last["messages"][::2]]) == (OTHER, ["one", "two", "three"])


def test_a_conversation_is_written_down(typed: Run, service: LocalChutes, tmp_path: Path) -> None:
    """As Markdown, or JSON by its name; a file that is there stays."""
    page, data = tmp_path / "talk.md", tmp_path / "talk.json"
    page.write_text("mine")
    ran = typed(
        f"/save {page}", "Hello", f"/save {page}", f"/save {data}", "/save", f"/save {tmp_path}/none/x", "/saev x",
        "/save ~nobody-of-this-name/x", "/save a\x00b", "Again",
    )  # fmt: skip
    assert f"{SAID}Again" in ran.out
    assert page.read_text() == "mine"
    assert '"content": "Hello"' in data.read_text()
    for said in ("nothing to save", "exists already", f"Saved in {data}.", "/save FILE", "No such file", "mean /save?"):
        assert said in ran.err
