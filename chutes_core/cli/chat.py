"""``chutes-connect chat``: ask a model, once or in a conversation."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from chutes_core.cli.exits import Exit, Stop
from chutes_core.cli.out import Channel, Out
from chutes_core.cli.table import Cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from chutes_core.cli.answers import Answered, Restart
    from chutes_core.cli.asking import Question
    from chutes_core.cli.options import Commands, Parser
    from chutes_core.fallback import Attempt
    from chutes_core.response import Delta

__all__ = ["Screen", "add", "show", "teller"]


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_core.cli.options import add_service_options, command

    parser = command(
        commands,
        "chat",
        "ask a model, once or in a conversation",
        usage="MODEL [PROMPT…] [OPTIONS]",
        run=_run,
        rest="prompt",
        examples=[
            "chat Qwen/Qwen3-32B-TEE 'Why is the sky blue?'",
            "chat Qwen/Qwen3-32B-TEE 'Sum this up:' < report.txt",
            "chat zai-org/GLM-5.2-TEE --fallback deepseek-ai/DeepSeek-V3.2-TEE,Qwen/Qwen3-32B-TEE 'Hello'",
            "chat Qwen/Qwen3-32B-TEE      (a conversation; /help says more)",
        ],
    )
    parser.add_argument("model", metavar="MODEL", help="a model, an alias, or a list for the gateway")
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="what to ask; what is piped in comes behind it")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="FILE",
        help="a picture: file or address; may be repeated",
    )
    parser.add_argument("--fallback", metavar="A,B", help="models that take over, in this order, when one fails")
    _add_parameters(parser)
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--show-reasoning", action="store_true", help="on standard error, also where nobody is looking")
    shown.add_argument("--hide-reasoning", action="store_true", help="not even on a terminal")
    shown.add_argument("-q", "--quiet", action="store_true", help="the answer alone, without the line below it")
    add_service_options(parser)


def _add_parameters(parser: Parser) -> None:
    from chutes_core.cli.numbers import tokens
    from chutes_core.cli.prompts import THINKING, param

    group = parser.add_argument_group("the model (what is not given is not sent)")
    group.add_argument("--max-tokens", type=tokens, metavar="N", help="of the answer, reasoning included")
    group.add_argument("--temperature", type=float, metavar="T", help="0 is the least random")
    group.add_argument("--top-p", type=float, metavar="P", help="of the likeliest words, so much of the whole")
    group.add_argument("--seed", type=int, metavar="N", help="for the same answer again, as far as a model can")
    group.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; may be repeated")
    group.add_argument("--reasoning", choices=THINKING, help="think before answering, or not")
    group.add_argument(
        "--param", action="append", default=[], type=param, metavar="NAME=VALUE", help="any other, such as top_k=40"
    )


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_core.cli.asking import Question
    from chutes_core.cli.options import client, names, stdin_key
    from chutes_core.cli.prompts import joined, params, question, system
    from chutes_core.clock import SystemClock

    stdin_key(options)  # the first line, before the rest is the prompt
    if not options.prompt and out.interactive and not out.as_json:
        from chutes_core.cli.talk import talk

        return talk(options, out)
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    prompt = joined(options.prompt, piped)
    if not prompt:
        raise Stop("There is nothing to ask: give a prompt, pipe one in, or sit at a terminal.", Exit.USAGE)
    models = [options.model, *names(options.fallback or "")]
    with client(options, max_retries=2 if len(models) == 1 else 0) as service:
        asked = Question(
            service,
            models,
            [*system(options.system), question(prompt, options.image)],
            params(options),
            clock=SystemClock(),
            deadline=options.timeout,
            whole=out.as_json or not out.is_terminal("out"),
            on_failure=teller(out),
        )
        show(asked, options, out)
    return Exit.OK


def teller(out: Out) -> Callable[[Attempt], None]:
    """Say which model failed, before the next is asked."""

    def tell(attempt: Attempt) -> None:
        out.note(Cell("note: ", "yellow"), str(attempt))

    return tell


def show(question: Question, options: argparse.Namespace, out: Out) -> Answered:
    """Write an answer as it comes, and what it took."""
    from chutes_core.cli.answers import answer_json, summed_up

    screen = Screen(out, reasoning=_shows_reasoning(options, out))
    try:
        with closing(iter(question)) as parts:
            for part in parts:
                if not out.as_json:
                    screen.take(part)
    finally:
        screen.end()
    answer = question.answered
    if out.as_json:
        out.data(answer_json(answer))
        return answer
    if answer.reply.finish_reason == "length":
        out.note(Cell("note: ", "yellow"), "The answer is cut: --max-tokens, or the model's own limit, is reached.")
    if not options.quiet:
        out.facts(summed_up(answer))
    return answer


def _shows_reasoning(options: argparse.Namespace, out: Out) -> bool:
    return bool(options.show_reasoning) or (out.is_terminal("err") and not options.hide_reasoning)


class Screen:
    """Writes the parts of an answer: the answer to standard output, its reasoning, dimmed, to standard error."""

    def __init__(self, out: Out, *, reasoning: bool) -> None:
        self._out = out
        self._reasoning = reasoning
        self._channel: Channel | None = None

    def take(self, part: Delta | Restart) -> None:
        """Write a part."""
        from chutes_core.cli.answers import Restart

        if isinstance(part, Restart):
            self.end()
            told = f"What stands above is void: the answer broke off, and {part.model} begins again."
            self._out.note(Cell("note: ", "yellow"), told)
            return
        if part.reasoning and self._reasoning:
            self._write("err", part.reasoning, "dim")
        if part.content:
            self._write("out", part.content)

    def end(self) -> None:
        """The answer is over, or broken off: what comes next begins on a line of its own."""
        self._out.end_line()
        self._channel = None

    def _write(self, channel: Channel, text: str, style: str = "") -> None:
        if channel != self._channel:
            text = text.lstrip()
            if not text:
                return  # engines put empty lines between reasoning and answer
            self.end()
            self._channel = channel
            if channel == "err":
                self._out.piece("thinking: ", style, channel=channel)
        self._out.piece(text, style, channel=channel)
