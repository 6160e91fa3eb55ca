"""``chutes-connect chat``: ask a model, once or in a conversation."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop
from chutes_cli.out import Out

if TYPE_CHECKING:
    from chutes_cli.options import Commands, Parser

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.options import add_service_options, command

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
            "chat Qwen/Qwen3-32B-TEE      (a conversation; type /help)",
        ],
    )
    parser.add_argument("model", metavar="MODEL", help="a model, an alias, or a list of models: A,B")
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", default=(), help="the prompt; piped input is appended")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="FILE",
        help="an image: file or URL; may be repeated",
    )
    parser.add_argument("--fallback", metavar="A,B", help="models to ask, in this order, if it fails")
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
    from chutes_cli.asking import Question
    from chutes_cli.options import client, names, stdin_key
    from chutes_cli.prompts import joined, params, question, system
    from chutes_cli.screen import show, teller
    from chutes_cli.waiting import RETRIES, TellingClock
    from chutes_core.calls.clock import SystemClock

    stdin_key(options)  # the first line, before the rest is the prompt
    if not options.prompt and out.interactive and not out.as_json:
        from chutes_cli.talk import talk

        return talk(options, out)
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    prompt = joined(options.prompt, piped)
    if not prompt:
        raise Stop("There is no prompt: give one, pipe one in, or run this in a terminal.", Exit.USAGE)
    models = [options.model, *names(options.fallback or "")]
    retries = RETRIES if len(models) == 1 else 0
    with client(options, max_retries=retries, clock=TellingClock(options, out), prices=True) as service:
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
