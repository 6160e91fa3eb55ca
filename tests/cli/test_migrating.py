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
    ("before", "after"),
    [
        ("stream_usage=True, base_url=OWN", ""),
        ("n=1, stream_usage=True, base_url=OWN", "n=1"),
        ("n=1,\n  stream_usage=True,\n  base_url=OWN\n", "n=1\n"),
        ("\n  stream_usage=True\n", "\n"),
        ("n=1, stream_usage=True, \\\n  base_url=OWN, \\\n  seed=2", "n=1,   seed=2"),
        ("\n  n=1, # one\n  stream_usage=True, # two\n  seed=2", "\n  n=1, # one\n  # two\n  seed=2"),
        ("n=1\n  , stream_usage=True\n  , seed=2", "n=1\n  , seed=2"),
        ("base_url='http://llm.chutes.ai/v1'", "base_url='http://llm.chutes.ai/v1'"),
        ("base_url='https://llm.chutes.ai:8443/v1'", "base_url='https://llm.chutes.ai:8443/v1'"),
        ("base_url='https://llm.chutes.ai/other/v1'", "base_url='https://llm.chutes.ai/other/v1'"),
    ],
)  # fmt: skip
def test_what_is_gone(before: str, after: str) -> None:
    """Several arguments leave no trace, whatever stands between them; only the service's own address is one."""
    own = "'https://llm.chutes.ai/v1'"
    text = migrated(f"from langchain_openai import ChatOpenAI\nChatOpenAI({before.replace('OWN', own)})\n").text
    assert text == f"from langchain_chutes import ChatChutes\nChatChutes({after})\n"


@pytest.mark.parametrize(
    "rest",
    [
        "def f(ChatOpenAI=None):\n    return ChatOpenAI(organization='a')\n",
        "ChatOpenAI = None\n",
        "def f():\n    global ChatOpenAI\n",
        "class ChatOpenAI: ...\n",
        "def f(model: Literal['ChatOpenAI']): ...\n",
        "x = cast('ChatOpenAI | None', y)\n",
        "def f(model: 'Chat' 'OpenAI'): ...\n",
        "__all__ = ['ChatOpenAI']\n",
        "ChatChutes = 1\n",
        "def f():\n    ChatChutes = 1\n    return ChatOpenAI(model=MODEL)\n",
        "from elsewhere import ChatChutes\n",
        "x = [ChatOpenAI for ChatOpenAI in y]\n",
    ],
)
def test_a_name_that_stands_for_more_stays(rest: str) -> None:
    """Where the file, or who reads a text of it, has the old name or the new one for something else."""
    assert migrated(f"from langchain_openai import ChatOpenAI\n{rest}").text == (
        f"from langchain_chutes import ChatChutes as ChatOpenAI\n{rest}"
    )
    assert notes_of(f"from langchain_openai import ChatOpenAI\n{rest}") == []


def test_annotations_in_quotes() -> None:
    """They are types, as those without are."""
    assert text_of(
        """\
            if TYPE_CHECKING:
                from langchain_openai import ChatOpenAI
            def f(a: "ChatOpenAI | None", *b: 'list[ChatOpenAI, ChatOpenAI]') -> dict[str, "ChatOpenAI"]:
                c: Callable[["ChatOpenAI"], int] | "ChatOpenAI" = "ChatOpenAI is a class"
            """
    ) == dedent(
        """\
            if TYPE_CHECKING:
                from langchain_chutes import ChatChutes
            def f(a: "ChatChutes | None", *b: 'list[ChatChutes, ChatChutes]') -> dict[str, "ChatChutes"]:
                c: Callable[["ChatChutes"], int] | "ChatChutes" = "ChatOpenAI is a class"
            """
    )


def test_places_that_a_name_has() -> None:
    """Of an import in a class, which is an attribute; of branches; and of a function's own."""
    assert text_of(
        """\
            class Models:
                from langchain_openai import ChatOpenAI
            try:
                from langchain_litellm import ChatLiteLLM
            except ImportError:
                ChatLiteLLM = None
            def make():
                from llama_index.llms.litellm import LiteLLM
                return LiteLLM(model="x")
            def other(LiteLLM):
                return LiteLLM(model="openai/Qwen/Qwen3-32B-TEE")
            """
    ) == dedent(
        """\
            class Models:
                from langchain_chutes import ChatChutes as ChatOpenAI
            try:
                from langchain_chutes import ChatChutes as ChatLiteLLM
            except ImportError:
                ChatLiteLLM = None
            def make():
                from llama_index_chutes import Chutes as LiteLLM
                return LiteLLM(model="x")
            def other(LiteLLM):
                return LiteLLM(model="openai/Qwen/Qwen3-32B-TEE")
            """
    )


def test_imports() -> None:
    """Ours is imported once in a block, in each block of its own, with the file's ends of lines."""
    assert text_of(
        """\
            from llama_index.llms.openrouter import OpenRouter
            from llama_index.llms.litellm import LiteLLM
            import llama_index.llms.openai_like, langchain_openai as lo
            def f():
                import langchain_openai.chat_models as lo
                return lo.base.ChatOpenAI(model=m)
            llama_index.llms.openai_like.base.OpenAILike(model=m), lo.ChatOpenAI(model=m)
            """
    ) == dedent(
        """\
            from llama_index_chutes import Chutes
            import llama_index_chutes
            import langchain_chutes
            import llama_index.llms.openai_like, langchain_openai as lo
            def f():
                import langchain_chutes
                import langchain_openai.chat_models as lo
                return langchain_chutes.ChatChutes(model=m)
            llama_index_chutes.Chutes(model=m), langchain_chutes.ChatChutes(model=m)
            """
    )
    ends = migrated("from langchain_openai import A, ChatOpenAI\r\nx\r\n").text
    assert ends == "from langchain_chutes import ChatChutes\r\nfrom langchain_openai import A\r\nx\r\n"


def test_within_texts() -> None:
    """An f-string is code."""
    assert text_of(
        '''\
            from langchain_openai import ChatOpenAI
            x = ("é" f"é{ChatOpenAI(model_name='x/y')!r:>{len(ChatOpenAI.__name__)}}" f"""
            {ChatOpenAI(model_name='x/y', stream_usage=True)}{{ChatOpenAI}}""")
            '''
    ) == dedent(
        '''\
            from langchain_chutes import ChatChutes
            x = ("é" f"é{ChatChutes(model='x/y')!r:>{len(ChatChutes.__name__)}}" f"""
            {ChatChutes(model='x/y')}{{ChatOpenAI}}""")
            '''
    )


@pytest.mark.parametrize(
    "call", ["ChatOpenAI('a', 1)", "ChatOpenAI('a', model='b')", "ChatOpenAI(*a)", "ChatOpenAI(a for a in b)"]
)
def test_places_of_arguments(call: str) -> None:
    """The only one by its place is the model; more of them are said."""
    assert text_of(f"from langchain_openai import ChatOpenAI\n{call}\n").endswith(
        call.replace("OpenAI", "Chutes") + "\n"
    )
    assert {text.partition(":")[0] for _, text in notes_of(f"from langchain_openai import ChatOpenAI\n{call}\n")} >= {
        "ChatChutes takes its arguments by name"
    }
    assert text_of(f"from langchain_openai import ChatOpenAI\nChatOpenAI ( ('{QWEN}'))\n").endswith(
        f"ChatChutes ( model=('{QWEN}'))\n"
    )


@pytest.mark.parametrize(
    ("call", "line", "words"),
    [
        ("ChatOpenAI(model='gpt-4o')", 2, "'gpt-4o' is no model that is known here"),
        ("ChatOpenAI(temperature=0)", 2, "No model is named: the default one is asked"),
        ("ChatOpenAI(model=m,\n  organization='me')", 3, "ChatChutes has no 'organization'. A key belongs to one"),
        ("ChatOpenAI(model=m, stream_usage=False)", 2, "ChatChutes has no 'stream_usage'. Every stream ends"),
        ("ChatOpenAI(**settings)", 2, "What is in **settings is not known here."),
        ("ChatOpenAI(model=m, base_url=URL)", 2, "The address is kept. For Chutes' own leave base_url out."),
        ("ChatOpenAI(model=m, api_key=os.environ['OPENAI_API_KEY'])", 2, "It has to be a key of Chutes"),
        ("ChatOpenAI(model=m, timeout=1, request_timeout=2)", 2, "'request_timeout' and 'timeout' are the same here"),
        ("partial(ChatOpenAI, n=1)", 2, "ChatOpenAI is handed on: what it is called with is not looked at."),
        ("models = {'a': ChatOpenAI}", 2, "ChatOpenAI is handed on"),
        ("x = ChatOpenAI.model_construct(n=1)", 2, "ChatOpenAI is handed on"),
        ("class Mine(ChatOpenAI): ...", 2, "Mine is a subclass"),
        ("patch('app.ChatOpenAI')", 2, "The text 'app.ChatOpenAI' names ChatOpenAI, and is left as it is."),
        ("patch.object(app, 'ChatOpenAI')", 2, "The text 'ChatOpenAI' names ChatOpenAI, and is left as it is."),
        ("from .app import ChatOpenAI as C", 2, "If that file is changed too, ChatOpenAI may be called ChatChutes"),
        ("model.invoke('x', functions=f)", 2, "A call has no 'functions'"),
    ],
)
def test_what_is_left(call: str, line: int, words: str) -> None:
    """It is left as it is, and said with its line."""
    (note,) = notes_of(f"from langchain_openai import ChatOpenAI\n{call}\n")
    assert note[0] == line
    assert note[1].startswith(words)


@pytest.mark.parametrize(
    "call",
    [
        "init_chat_model('openai:x', base_url={})",
        "openai.OpenAI(api_key=key, base_url={})",
        "OpenAIEmbeddings(openai_api_base={})",
        "partial(make, api_base={})",
        "dict(base_url={})",
    ],
)
def test_what_else_is_led_to_chutes(call: str) -> None:
    """By the service's address, in a file with a class to change and in one without; not what is of ours."""
    line = call.format("'https://llm.chutes.ai/v1'") + "\n"
    told = "This is the service's address, of what is not rewritten: see docs/migrating.md."
    assert notes_of(line) == [(1, told)]
    assert notes_of(f"from langchain_openai import ChatOpenAI\n{line}") == [(2, told)]
    assert notes_of(call.format("'https://api.openai.com/v1'")) == []
    assert notes_of("ChatChutes(base_url='https://llm.chutes.ai/v1')") == []


def test_what_is_no_call_is_not_said() -> None:
    """Types, and questions about them."""
    assert (
        notes_of(
            """\
            from langchain_openai import ChatOpenAI
            def f(a: ChatOpenAI | None = None, *b: list[ChatOpenAI]) -> dict[str, ChatOpenAI]:
                c: ChatOpenAI = a
                return isinstance(a, (ChatOpenAI, int)), type(a) is ChatOpenAI, cast(ChatOpenAI, a), ChatOpenAI.__name__
            Model = ChatOpenAI | None
            def g(a):
                match a:
                    case ChatOpenAI(): return "a \\d"
            """
        )
        == []
    )


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
