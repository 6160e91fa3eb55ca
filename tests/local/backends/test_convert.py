"""Safetensors in, GGUF out: names, numbers, vocabulary, and refusals."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

gguf = pytest.importorskip("gguf")
np = pytest.importorskip("numpy")

from chutes_local.backends.convert import (  # noqa: E402 (after the libraries that may be missing)
    ConversionError,
    gguf_tokens,
    minilm_wheel_to_gguf,
    read_safetensors,
)

CONFIG = {
    "model_type": "bert",
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "\u2028", "\x85"]
NAMES = {
    "embeddings.word_embeddings.weight": ("token_embd.weight", (9, 32)),
    "embeddings.position_embeddings.weight": ("position_embd.weight", (16, 32)),
    "embeddings.token_type_embeddings.weight": ("token_types.weight", (2, 32)),
    "embeddings.LayerNorm.bias": ("token_embd_norm.bias", (32,)),
    "encoder.layer.0.attention.self.query.weight": ("blk.0.attn_q.weight", (32, 32)),
    "encoder.layer.0.attention.output.dense.weight": ("blk.0.attn_output.weight", (32, 32)),
    "encoder.layer.0.output.LayerNorm.weight": ("blk.0.layer_output_norm.weight", (32,)),
    "encoder.layer.0.intermediate.dense.weight": ("blk.0.ffn_up.weight", (64, 32)),
    "encoder.layer.0.output.dense.weight": ("blk.0.ffn_down.weight", (32, 64)),
}


def safetensors(tensors: dict[str, object]) -> bytes:
    """Write the format by hand."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, array in tensors.items():
        data = array.tobytes()  # type: ignore[attr-defined]
        kind = {"float32": "F32", "float16": "F16", "int64": "I64"}[str(array.dtype)]  # type: ignore[attr-defined]
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}  # type: ignore[attr-defined]
        body += data
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + body


@pytest.fixture
def tensors() -> dict[str, object]:
    """A BERT small enough to look at."""
    random = np.random.default_rng(0)
    made = {name: random.normal(size=shape).astype(np.float32) for name, (_, shape) in NAMES.items()}
    made["embeddings.position_ids"] = np.arange(16)[None]
    made["pooler.dense.weight"] = np.zeros((32, 32), np.float32)
    return made


def wheel(path: Path, tensors: dict[str, object], **config: object) -> Path:
    """Put a model into a wheel."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/config.json", json.dumps({**CONFIG, **config}))
        archive.writestr("m/vocab.txt", "".join(f"{token}\n" for token in VOCABULARY))
        archive.writestr("m/model.safetensors", safetensors(tensors))
    return path


def test_every_weight_keeps_its_value(tmp_path: Path, tensors: dict[str, object]) -> None:
    """Matrices come back within q8_0's error, all else to the bit, and the pooler is left out."""
    target = tmp_path / "model.gguf"
    minilm_wheel_to_gguf(wheel(tmp_path / "m.whl", tensors), "m", target)
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}
    assert set(found) == {name for name, _ in NAMES.values()}
    for source, (name, shape) in NAMES.items():
        exact = len(shape) == 1 or name.startswith(("position_embd", "token_types"))
        assert found[name].tensor_type.name == ("F32" if exact else "Q8_0")
        values = gguf.quants.dequantize(found[name].data, found[name].tensor_type).reshape(shape)
        assert np.allclose(values, tensors[source], atol=0 if exact else 0.02)


def test_the_file_says_what_llama_cpp_asks(tmp_path: Path, tensors: dict[str, object]) -> None:
    """Dimensions, pooling, special tokens and the vocabulary, odd line separators included."""
    target = tmp_path / "model.gguf"
    minilm_wheel_to_gguf(wheel(tmp_path / "m.whl", tensors), "m", target)
    fields = gguf.GGUFReader(target).fields
    expected = {
        "general.architecture": "bert",
        "bert.block_count": 1,
        "bert.context_length": 16,
        "bert.embedding_length": 32,
        "bert.pooling_type": 1,
        "bert.attention.causal": False,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.tokens": gguf_tokens(VOCABULARY),
        "tokenizer.ggml.token_type": [3, 3, 3, 3, 3, 1, 1, 1, 1],
    }
    assert {key: fields[key].contents() for key in expected} == expected


def test_half_precision_is_read(tensors: dict[str, object]) -> None:
    """F16 becomes F32, whole numbers are left out."""
    made = {"w": np.array([[0.5, -2.0]], np.float16), "ids": np.arange(3)}
    assert {name: value.tolist() for name, value in read_safetensors(safetensors(made)).items()} == {"w": [[0.5, -2.0]]}


@pytest.mark.parametrize("data", [b"", b"\x10", (1 << 40).to_bytes(8, "little") + b"{}"])
def test_a_cut_file_is_refused(data: bytes) -> None:
    """A header that is not all there is no model."""
    with pytest.raises(ConversionError):
        read_safetensors(data)


def test_a_tensor_that_is_cut_is_refused(tensors: dict[str, object]) -> None:
    """Nor is one whose last numbers are missing."""
    with pytest.raises(ConversionError, match="truncated"):
        read_safetensors(safetensors({"w": np.ones(4, np.float32)})[:-4])


@pytest.mark.parametrize(
    ("config", "message"),
    [({"model_type": "gpt2"}, "gpt2"), ({"hidden_size": None}, "hidden_size")],
)
def test_another_kind_of_model_is_refused(
    tmp_path: Path, tensors: dict[str, object], config: dict[str, object], message: str
) -> None:
    """What the converter does not know it does not touch, and no target appears."""
    target = tmp_path / "model.gguf"
    with pytest.raises(ConversionError, match=message):
        minilm_wheel_to_gguf(wheel(tmp_path / "m.whl", tensors, **config), "m", target)
    assert not target.exists()


def test_an_unknown_tensor_is_refused(tmp_path: Path, tensors: dict[str, object]) -> None:
    """A weight without a place would silently change the answers."""
    tensors["encoder.extra.weight"] = np.zeros(4, np.float32)
    with pytest.raises(ConversionError, match=r"encoder\.extra"):
        minilm_wheel_to_gguf(wheel(tmp_path / "m.whl", tensors), "m", tmp_path / "model.gguf")


def test_a_wheel_without_the_model_is_refused(tmp_path: Path) -> None:
    """The missing file is named."""
    with zipfile.ZipFile(tmp_path / "m.whl", "w") as archive:
        archive.writestr("other.txt", "")
    with pytest.raises(ConversionError, match=r"config\.json"):
        minilm_wheel_to_gguf(tmp_path / "m.whl", "m", tmp_path / "model.gguf")
