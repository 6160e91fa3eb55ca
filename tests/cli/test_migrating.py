"""A program is rewritten in its own text, and what cannot be decided is said."""

from __future__ import annotations

import ast
from textwrap import dedent

import pytest

from chutes_cli.migrating import migrated
from chutes_core.peers import FIELDS, PEERS

QWEN = "Qwen/Qwen3-32B-TEE"


def text_of(source: str) -> str:
    return migrated(dedent(source)).text


def notes_of(source: str) -> list[tuple[int, str]]:
    return [(note.line, note.text) for note in migrated(dedent(source)).notes]


def test_comments_and_layout_stay() -> None:
    """Only what means something else changes, also behind letters of several bytes."""
    assert text_of(
        f"""\
        # Größe
        from langchain_openai import ChatOpenAI  # ours


        def make(name: str = "é") -> ChatOpenAI:
            return ChatOpenAI(  # é
                model_name="{QWEN}", base_url='https://llm.chutes.ai/v1',
                stream_usage=True,   # gone
                request_timeout=60,
                temperature = 0.5
            )
        """
    ) == dedent(
        f"""\
        # Größe
        from langchain_chutes import ChatChutes  # ours


        def make(name: str = "é") -> ChatChutes:
            return ChatChutes(  # é
                model="{QWEN}",
                # gone
                timeout=60,
                temperature = 0.5
            )
        """
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "from langchain_openai import ChatOpenAI as LLM\nLLM(n=1)",
            "from langchain_chutes import ChatChutes as LLM\nLLM(n=1)",
        ),
        (
            "if x:\n    from langchain_openai import A, ChatOpenAI\n",
            "if x:\n    from langchain_chutes import ChatChutes\n    from langchain_openai import A\n",
        ),
        (
            "x = 1; from langchain_openai import ChatOpenAI, A",
            "x = 1; from langchain_chutes import ChatChutes; from langchain_openai import A",
        ),
        (
            "from langchain_openai import (\n    ChatOpenAI,  # it\n)\n",
            "from langchain_chutes import (\n    ChatChutes,  # it\n)\n",
        ),
        (
            "import langchain_openai as lo\nlo.ChatOpenAI(max_completion_tokens=3)\n",
            "import langchain_chutes\nimport langchain_openai as lo\nlangchain_chutes.ChatChutes(max_tokens=3)\n",
        ),
        (
            f"from llama_index.llms.litellm import LiteLLM\nLiteLLM('chutes/{QWEN}')\n",
            f"from llama_index_chutes import Chutes\nChutes(model='{QWEN}')\n",
        ),
        (
            "from llama_index.llms.openai_like.base import OpenAILike\nOpenAILike(n=1, is_chat_model=True)\r\n",
            "from llama_index_chutes import Chutes\nChutes(n=1)\r\n",
        ),
        ("print('ChatOpenAI')\n", "print('ChatOpenAI')\n"),
        ("from .langchain_openai import ChatOpenAI\n", "from .langchain_openai import ChatOpenAI\n"),
    ],
    ids=["alias", "others", "one-line", "parentheses", "module", "prefix", "last", "none", "relative"],
)  # fmt: skip
def test_forms(before: str, after: str) -> None:
    """Of imports, names and calls."""
    assert migrated(before).text == after
    assert migrated(after).text == after


@pytest.mark.parametrize(
    ("call", "line", "words"),
    [
        ("ChatOpenAI(model='gpt-4o')", 2, "'gpt-4o' is no model that is known here"),
        ("ChatOpenAI(\n  organization='me')", 3, "ChatChutes has no 'organization'. A key belongs to one account"),
        ("ChatOpenAI(stream_usage=False)", 2, "ChatChutes has no 'stream_usage'. Every stream ends"),
        ("ChatOpenAI(**settings)", 2, "What is in **settings is not known here."),
        ("ChatOpenAI(base_url=URL)", 2, "The address is kept. For Chutes' own leave base_url out."),
        ("ChatOpenAI(api_key=os.environ['OPENAI_API_KEY'])", 2, "It has to be a key of Chutes"),
        ("ChatOpenAI(timeout=1, request_timeout=2)", 2, "'request_timeout' and 'timeout' are the same here: keep one."),
        ("partial(ChatOpenAI, n=1)", 2, "ChatOpenAI is handed on: what it is called with is not looked at."),
        ("model.invoke('x', functions=f)", 2, "A call has no 'functions'"),
    ],
)
def test_what_is_left(call: str, line: int, words: str) -> None:
    """It is left as it is, and said with its line."""
    (note,) = notes_of(f"from langchain_openai import ChatOpenAI\n{call}\n")
    assert note[0] == line
    assert note[1].startswith(words)


def test_stars_and_embeddings() -> None:
    """Imports that are not rewritten."""
    assert [
        line for line, _ in notes_of("from langchain_openai import *\nfrom langchain_openai import OpenAIEmbeddings\n")
    ] == [1, 2]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: f"{peer.face}-{peer.name}")
def test_every_argument_of_the_table(peer: object) -> None:
    """What comes out is Python, has every argument under its name here, and a note for each that is refused."""
    table = FIELDS[peer.face]  # type: ignore[attr-defined]
    for name, word in table.items():
        found = migrated(f"from {peer.module} import {peer.name}\nx = {peer.name}(n=1, {name}=value, seed=2)\n")  # type: ignore[attr-defined]
        call = ast.parse(found.text).body[1].value  # type: ignore[attr-defined]
        assert [each.arg for each in call.keywords] == ["n", word.to or name, "seed"]
        assert any(word.say in note.text for note in found.notes) or word.to
