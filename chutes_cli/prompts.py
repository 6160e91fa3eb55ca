"""What is asked, from the words of a command: texts, pictures, parameters."""

from __future__ import annotations

import argparse
import base64
import json
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path

from chutes_cli.exits import Exit, Stop

__all__ = ["Json", "image_url", "joined", "param", "question", "system", "thinking"]

Json = dict[str, object]
_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
THINKING = ("on", "off", *_EFFORTS)


def joined(words: Sequence[str], piped: str) -> str:
    r"""Put a prompt together out of the words of the command and what was piped in.

    >>> joined(["Sum", "this", "up:"], "A long text.")
    'Sum this up:\n\nA long text.'
    """
    return "\n\n".join(filter(None, (" ".join(words).strip(), piped.strip())))


def system(text: str | None) -> list[Json]:
    """Make the system message, if there is to be one."""
    return [{"role": "system", "content": text}] if text else []


def question(text: str, images: Sequence[str] = ()) -> Json:
    """Make the message of a question, with pictures if there are any.

    >>> question("What is this?", ["https://example.org/a.png"])["content"][1]
    {'type': 'image_url', 'image_url': {'url': 'https://example.org/a.png'}}
    """
    if not images:
        return {"role": "user", "content": text}
    pictures = [{"type": "image_url", "image_url": {"url": image_url(each)}} for each in images]
    return {"role": "user", "content": [{"type": "text", "text": text}, *pictures]}


def image_url(source: str) -> str:
    """Give an address as it is, and a file as a data URI."""
    if source.startswith(("https://", "http://", "data:")):
        return source
    kind = mimetypes.guess_type(source)[0] or ""
    if not kind.startswith("image/"):
        raise Stop(f"{source} does not look like an image: use a .png, .jpg, .webp or .gif file.", Exit.USAGE)
    return f"data:{kind};base64,{base64.b64encode(Path(source).read_bytes()).decode()}"


def param(text: str) -> tuple[str, object]:
    """Read ``NAME=VALUE``; a value that is JSON is read as such.

    >>> param("top_k=40"), param("user=anna")
    (('top_k', 40), ('user', 'anna'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=VALUE, such as top_k=40")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


def thinking(word: str | None) -> bool | str | None:
    """Read the switch for thinking: on, off or an effort.

    >>> thinking("on"), thinking("low"), thinking(None)
    (True, 'low', None)
    """
    return {"on": True, "off": False}.get(word or "", word)


def params(options: argparse.Namespace) -> Mapping[str, object]:
    """Collect the parameters that were given."""
    told = {
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
        "stop": options.stop or None,
        "reasoning": thinking(options.reasoning),
        **dict(options.param),
    }
    return {name: value for name, value in told.items() if value is not None}
