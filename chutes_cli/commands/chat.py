"""``chutes-connect chat``: ask a model, once or in a conversation."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop, described, exit_of
from chutes_cli.out import Out
from chutes_core.default_model import default_models
from chutes_core.errors import ModelNotFoundError

if TYPE_CHECKING:
    from chutes_cli.options import Commands, Parser
    from chutes_cli.talk import Talk

__all__ = ["add", "addressed"]


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.options import add_service_options, command

    parser = command(
        commands,
        "chat",
        "ask a model, once or in a conversation",
        usage="[MODEL] [PROMPT…] [OPTIONS]",
        run=_run,
        rest="words",
        examples=[
            "chat 'Why is the sky blue?'      (the default model: `models set`)",
            "chat -c 'And at night?'",
            "chat Qwen/Qwen3-32B-TEE 'Why is the sky blue?'",
            "chat Qwen/Qwen3-32B-TEE 'Sum this up:' < report.txt",
            "chat zai-org/GLM-5.2-TEE --fallback deepseek-ai/DeepSeek-V3.2-TEE,Qwen/Qwen3-32B-TEE 'Hello'",
            "chat Qwen/Qwen3-32B-TEE      (a conversation; type /help)",
        ],
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="MODEL PROMPT…",
        default=(),
        help="a model, an alias, or a list of models: A,B; and the prompt, to which piped input is appended. A first "
        "word with a space in it is the prompt for the default model",
    )
    parser.add_argument("-m", "--model", metavar="MODEL", help="the model; all words are the prompt then")
    parser.add_argument(
        "-c",
        "--continue",
        dest="continued",
        action="store_true",
        help="go on with the last conversation; all words are the prompt then",
    )
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="FILE",
        help="an image: file or URL; may be repeated",
    )
    parser.add_argument("--fallback", metavar="A,B", help="models to ask, in this order, if it fails")
    parser.add_argument(
        "--no-history", action="store_true", help="remember neither lines nor conversation, as with CHUTES_HISTORY=off"
    )
    _add_parameters(parser)
    shown = parser.add_argument_group("output")
    shown.add_argument("--show-reasoning", action="store_true", help="on stderr, even when output is not a terminal")
    shown.add_argument("--hide-reasoning", action="store_true", help="not even on a terminal")
    shown.add_argument("-q", "--quiet", action="store_true", help="only the answer, without the line below it")
    add_service_options(parser)


def _add_parameters(parser: Parser) -> None:
    from chutes_cli.numbers import tokens
    from chutes_cli.prompts import THINKING, param

    group = parser.add_argument_group("parameters (only those given are sent)")
    group.add_argument("--max-tokens", type=tokens, metavar="N", help="length of the answer, including reasoning")
    group.add_argument("--temperature", type=float, metavar="T", help="randomness; 0 is the least")
    group.add_argument("--top-p", type=float, metavar="P", help="nucleus sampling: the share of likeliest tokens")
    group.add_argument("--seed", type=int, metavar="N", help="for the same answer again, where supported")
    group.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; may be repeated")
    group.add_argument("--reasoning", choices=THINKING, help="think before answering: on, off, or how much")
    group.add_argument(
        "--param", action="append", default=[], type=param, metavar="NAME=VALUE", help="any other, such as top_k=40"
    )


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_cli.memory import Conversation, Memory
    from chutes_cli.options import names, stdin_key
    from chutes_cli.prompts import image_url, joined
    from chutes_cli.talk import Talk, talk

    stdin_key(options)  # the first line, before the rest is the prompt
    memory = Memory.of(options)
    model, words = addressed(options.words, options.model, continued=options.continued)
    before = memory.last() if options.continued else Conversation([])
    models = [model] if model is not None else before.models or default_models()
    others = names(options.fallback) if options.fallback is not None else models[1:]
    state = Talk(models[0], options.system or before.system, [image_url(each) for each in options.image], before.turns)
    if not words and out.interactive and not out.as_json:
        return talk(state, others, memory, options, out)
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    prompt = joined(words, piped)
    if not prompt:
        hint = f"{models[0]!r} is taken for the model. " if options.words and not words else ""
        raise Stop(f"There is no prompt: {hint}give one, pipe one in, or run this in a terminal.", Exit.USAGE)
    try:
        _ask(state, prompt, [models[0], *others], options, out)
    except ModelNotFoundError as error:
        if options.model is not None or out.as_json or not (hint := _hint(model, before.models)):
            raise
        raise Stop(f"{described(error)} {hint}", exit_of(error)) from None
    if options.continued or (out.is_terminal("out") and not out.as_json):  # a script's are its own
        memory.save(Conversation([models[0], *others], state.system, state.turns))
    return Exit.OK


def _hint(model: str | None, continued: Sequence[str]) -> str:
    """Say of a model that is not there where its name comes from, if that may be a mistake."""
    if model is not None:
        return "" if "/" in model else f"If {model!r} is the question, name a model with --model."
    from chutes_cli.defaults import source
    from chutes_core.default_model import find

    found = None if continued else find()
    return "" if found is None else f"It is the default model, {source(found)}."


def addressed(words: Sequence[str], model: str | None, *, continued: bool) -> tuple[str | None, list[str]]:
    """Tell the model among the words from the prompt; None if there is none.

    >>> addressed(["acme/one", "Why?"], None, continued=False), addressed(["Why is it?"], None, continued=False)
    (('acme/one', ['Why?']), (None, ['Why is it?']))
    """
    if model is not None or continued or not words or _is_text(words[0]):
        return model, list(words)
    return words[0], list(words[1:])


def _is_text(word: str) -> bool:
    """Whether a word cannot be a model: it has a space that follows no comma, or ends as a sentence does."""
    return not word.strip() or len(re.sub(r",\s+", ",", word.strip()).split()) > 1 or word.endswith(("?", "!", "."))


def _ask(state: Talk, prompt: str, models: Sequence[str], options: argparse.Namespace, out: Out) -> None:
    from chutes_cli.asking import Question
    from chutes_cli.options import client
    from chutes_cli.prompts import params
    from chutes_cli.screen import show, teller
    from chutes_cli.waiting import RETRIES, TellingClock
    from chutes_core.calls.clock import SystemClock

    retries = RETRIES if len(models) == 1 else 0
    with client(options, max_retries=retries, clock=TellingClock(options, out), listed=True) as service:
        messages = state.asked(prompt)
        asked = Question(
            service,
            models,
            messages,
            params(options),
            clock=SystemClock(),
            deadline=options.timeout,
            whole=out.as_json or not out.is_terminal("out"),
            on_failure=teller(out),
        )
        state.answered(messages, show(asked, options, out).reply.content)
