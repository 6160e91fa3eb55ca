"""A model that the service does not find: what the catalogue knows of it is said, and nothing else changes."""

from __future__ import annotations

import pytest

from chutes_core import AsyncChutesClient, ChutesClient
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.errors import APIError, Kind, ModelNotFoundError
from chutes_core.failures.hints import Wanted, with_hint
from chutes_core.failures.reading import error_from_response, failure
from chutes_core.openai_sdk.door import openai_client
from chutes_local import LocalChutes
from chutes_local.pytest_plugin import chutes_faults, chutes_local

__all__ = ["chutes_faults", "chutes_local"]

CHAT, EMBEDDER = "Qwen/Qwen3-32B-TEE", "Qwen/Qwen3-Embedding-8B-TEE"
CATALOG = Catalog.bundled()
OTHERS = Catalog(
    (ModelInfo(id="acme/paint", kind="image"), ModelInfo(id="acme/odd", kind="other"), ModelInfo(id="acme/talk")),
    "live", 0.0, "2026-08-22",
)  # fmt: skip


def refused(model: str, said: str = "model not found: {}") -> APIError:
    content = f'{{"detail": "{said.format(model)}"}}'.encode()
    return error_from_response(404, content, {"x-request-id": "r1", "retry-after": "3"}, model=model)


@pytest.mark.parametrize(
    ("model", "said", "wanted", "message"),
    [
        (
            EMBEDDER, "model not found: {}", "chat",
            f"{EMBEDDER}: this is an embedding model (404: model not found: {EMBEDDER}). For embeddings use embed(), "
            "ChutesEmbeddings (LangChain), ChutesEmbedding (LlamaIndex) or `chutes-connect embed`; for chat choose a "
            f"chat model such as {CHAT}.",
        ),
        (
            CHAT, "No matching cord found!", "embedding",
            f"{CHAT}: this is a chat model (404: No matching cord found!). Embeddings need an embedding model such as "
            f"{EMBEDDER}.",
        ),
    ],
)  # fmt: skip
def test_a_model_of_another_kind_is_named_as_one(model: str, said: str, wanted: Wanted, message: str) -> None:
    """The message says what it is and what would do; the failure is the same in all else."""
    error = refused(model, said)
    hinted = with_hint(error, CATALOG, wanted)
    assert str(hinted) == message
    assert type(hinted) is type(error) is ModelNotFoundError
    assert {**vars(hinted)} == {**vars(error)}


@pytest.mark.parametrize(
    ("model", "wanted", "part"),
    [
        (
            "acme/paint",
            "chat",
            "this is an image model (404: model not found: acme/paint). For chat choose a",
        ),
        ("acme/odd", "chat", "this is not a chat model (404"),
        ("acme/odd", "embedding", "this is not an embedding model (404"),
        ("acme/talk", "embedding", "Embeddings need an embedding model."),
    ],
)
def test_other_kinds_and_a_catalogue_without_an_example(model: str, wanted: Wanted, part: str) -> None:
    """The examples are the catalogue's; where it has none, none is given."""
    assert part in str(with_hint(refused(model), OTHERS, wanted))


@pytest.mark.parametrize(
    ("asked", "wanted", "meant"),
    [
        ("Qwen/Qwen9", "chat", CHAT),
        ("Qwen/Qwen3-32", "chat", CHAT),
        ("Qwen/Qwen3-Embed", "embedding", EMBEDDER),
        ("Qwen/Qwen3-Embed", "chat", CHAT),
        ("qwen3-embedding", None, EMBEDDER),
    ],
)
def test_a_name_that_nothing_has_is_answered_with_the_nearest(asked: str, wanted: Wanted | None, meant: str) -> None:
    """It is one of the kind that the call needs, and stands behind everything else."""
    error = refused(asked)
    assert str(with_hint(error, CATALOG, wanted)) == f"{error} Did you mean {meant}?"


@pytest.mark.parametrize(
    "error",
    [
        refused(CHAT),
        refused("zzz"),
        refused("Qwen/Qwen9", "Not Found"),
        failure(Kind.MODEL_NOT_FOUND, "model not found"),
        failure(Kind.COLD, model=EMBEDDER, status_code=404),
        failure(Kind.CAPACITY, model=EMBEDDER, status_code=429),
    ],
)
def test_all_other_failures_stay_as_they_are(error: APIError) -> None:
    """A model that is there and of the right kind, a name that resembles none, another failure: nothing to add."""
    assert with_hint(error, CATALOG, "chat") is error


def test_no_key_comes_back_with_the_hint() -> None:
    """What the service quotes of a key is masked, as in the failure itself."""
    hinted = with_hint(refused(EMBEDDER, "model not found: {} for cpk_secret.1"), CATALOG, "chat")
    assert "secret" not in f"{hinted} {hinted.body}"


def test_the_blocking_client_gives_the_hint(chutes_local: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one piece, as a stream, as vectors, and on waking a model."""
    for name, value in chutes_local.env.items():
        monkeypatch.setenv(name, value)
    hello = [{"role": "user", "content": "Hello"}]
    with ChutesClient() as client:
        with pytest.raises(ModelNotFoundError, match="this is an embedding model"):
            client.chat(hello, model=EMBEDDER)
        with pytest.raises(ModelNotFoundError, match="this is an embedding model"):
            list(client.stream(hello, model=EMBEDDER))
        with pytest.raises(ModelNotFoundError, match="this is a chat model"):
            client.embed(["Hello"], model=CHAT)
        with pytest.raises(ModelNotFoundError, match=rf"Did you mean {CHAT}\?$"):
            list(client.warm_up("Qwen/Qwen9"))


async def test_the_async_client_gives_the_hint(chutes_local: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise."""
    for name, value in chutes_local.env.items():
        monkeypatch.setenv(name, value)
    async with AsyncChutesClient() as client:
        with pytest.raises(ModelNotFoundError, match="this is an embedding model"):
            await client.chat([{"role": "user", "content": "Hello"}], model=EMBEDDER)
        with pytest.raises(ModelNotFoundError, match="this is a chat model"):
            await client.embed(["Hello"], model=CHAT)


def test_the_openai_client_gives_the_hint(chutes_local: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock SDK shows it as its own NotFoundError."""
    import openai

    for name, value in chutes_local.env.items():
        monkeypatch.setenv(name, value)
    with openai_client() as client:
        with pytest.raises(openai.NotFoundError, match="this is an embedding model"):
            client.chat.completions.create(model=EMBEDDER, messages=[{"role": "user", "content": "Hello"}])
        with pytest.raises(openai.NotFoundError, match="this is a chat model"):
            client.embeddings.create(model=CHAT, input="Hello")
