"""The pages that are ready for the frameworks' sites: every block runs, and the features are those of the classes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("langchain", reason="no langchain: the extra `dev` brings it")

from langchain_core.language_models import BaseChatModel

from chutes_core import Catalog
from chutes_local import serve
from langchain_chutes import ChatChutes, ChutesEmbeddings
from tests.docs.test_snippets import Snippet, snippets_in

ROOT = Path(__file__).resolve().parents[2]
UPSTREAM = ROOT / "docs" / "upstream"
PAGES = sorted(str(page.relative_to(UPSTREAM)) for page in UPSTREAM.glob("*/*.md*"))
HEADINGS = {
    "langchain/chat.mdx": ["Overview", "Setup", "Instantiation", "Invocation", "API reference"],
    "langchain/embeddings.mdx": [
        "Overview", "Setup", "Instantiation", "Indexing and retrieval", "Direct usage", "API reference",
    ],
    "llamahub/embeddings.md": ["Installation", "Usage"],
    "llamahub/llms.md": ["Installation", "Basic Usage", "Streaming", "Function Calling"],
}  # fmt: skip


def text(page: str) -> str:
    return (UPSTREAM / page).read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_top_to_bottom(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who runs one block after the other, as in a notebook, gets answers."""
    blocks = [each.code for each in snippets_in(text(page), page) if "LANGSMITH" not in each.code]
    for alias in ROOT.glob("packaging/llama-index-*"):
        monkeypatch.syspath_prepend(alias)
    monkeypatch.chdir(tmp_path)
    with serve(backend="echo") as chutes:
        for name, value in chutes.env.items():
            monkeypatch.setenv(name, value)
        Snippet(page, "\n".join(blocks), runs=True).execute()
        assert len(chutes.journal.wait(3)) >= 3


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_the_parts_of_its_template(page: str) -> None:
    """The headings that the template asks for are there, in its order."""
    found = re.findall(r"^## (.+)$", text(page), re.MULTILINE)
    assert [heading for heading in found if heading in HEADINGS[page]] == HEADINGS[page]


def test_the_features_are_those_of_the_class() -> None:
    """A feature is ticked if a model of the catalogue has it and the class gives it."""
    catalog = Catalog.bundled()
    profiles = [
        ChatChutes(model=each.id, api_key="cpk_fake", catalog=catalog).profile or {} for each in catalog.select()
    ]

    def some(feature: str) -> bool:
        return any(profile.get(feature) for profile in profiles)

    features = {
        "Tool calling": some("tool_calling"),
        "Structured output": some("structured_output"),
        "Image input": some("image_inputs"),
        "Audio input": some("audio_inputs"),
        "Video input": some("video_inputs"),
        "Token-level streaming": ChatChutes._stream is not BaseChatModel._stream,
        "Native async": ChatChutes._astream is not BaseChatModel._astream,
    }
    titles, _, marks = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.search(r"### Model features\n\n(.*\n.*\n.*)\n", text("langchain/chat.mdx"))[1].splitlines()
    )
    said = dict(zip((re.sub(r"\[(.*)\]\(.*\)", r"\1", title) for title in titles), marks, strict=True))
    assert {title: said[title] for title in features} == {
        title: "✅" if has else "❌" for title, has in features.items()
    }


def test_the_default_model_is_that_of_the_class() -> None:
    """The embeddings' page names the model that is asked if none is named."""
    model = ChutesEmbeddings(api_key="cpk_fake").model
    assert all(f"`{model}`" in text(page) or f'"{model}"' in text(page) for page in PAGES if "embeddings" in page)
