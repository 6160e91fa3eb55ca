"""``POST /v1/embeddings``, on the embedding gateway and on the model's own host."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence

from starlette.responses import Response

from chutes_local.backends.backend import EMBEDDING_DIMENSIONS, BackendError
from chutes_local.faults.kinds import Fault
from chutes_local.gateway.chat import body_response, what_failed
from chutes_local.gateway.inference import Call
from chutes_local.gateway.request import read_shape
from chutes_local.gateway.send import attached
from chutes_local.wire import errors
from chutes_local.wire.encode import new_id
from chutes_local.wire.errors import Refused
from chutes_local.world.fleet import Chute

_REFUSALS = {
    "refuse_400": errors.engine_400("This model does not support matryoshka representation: no dimensions."),
    "refuse_422": errors.detail(422, [{"loc": ["body", "dimensions"], "msg": "not supported", "type": "value_error"}]),
    "refuse_500": errors.detail(500, errors.EXHAUSTED),
}


async def embed(call: Call, chute: Chute, fault: Fault | None) -> Response:
    """Embed the inputs of one request."""
    if not call.gateway and call.body.get("model") not in (None, chute.name):
        # The engine answers 404, which the service takes for a failing machine.
        raise Refused(errors.detail(500, errors.EXHAUSTED))
    texts = read_input(call.body.get("input"))
    size = _dimensions(call, chute)
    packed = call.body.get("encoding_format") or "float"
    if packed not in ("float", "base64"):
        raise Refused(errors.engine_400(f"encoding_format must be float or base64, not {packed!r}"))
    try:
        async with attached(call.request.receive):
            result = await call.world.backend.embed(texts)
    except BackendError as error:
        call.entry.note = str(error)
        raise Refused(errors.detail(500, what_failed(error))) from error
    call.bill(chute, result.prompt_tokens, 0)
    vectors = [shortened(vector, size) if size else vector for vector in result.vectors]
    rows = [
        {"index": index, "object": "embedding", "embedding": pack(vector) if packed == "base64" else vector}
        for index, vector in enumerate(vectors)
    ]
    tokens = result.prompt_tokens
    reply: dict[str, object] = {
        "id": f"embd-{new_id()}",
        "object": "list",
        "created": int(call.world.clock()),
        "model": chute.name,
        "data": rows,
        "usage": {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }
    return body_response(call, reply, fault)


def read_input(value: object) -> list[str]:
    """Read one text, several, or token ids; ids cannot be checked against the claimed model's vocabulary.

    >>> read_input([[1, 2], [3]])
    ['1 2', '3']
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise Refused(errors.engine_400("input must be a text, a list of texts, or token ids, and not empty"))
    if all(isinstance(item, int) for item in value):
        return [" ".join(map(str, value))]
    if not all(isinstance(item, str | list) for item in value):
        raise Refused(errors.engine_400("input must be texts alone, or token ids alone"))
    return [item if isinstance(item, str) else " ".join(map(str, item)) for item in value]


def shortened(vector: Sequence[float], size: int) -> list[float]:
    """Keep the first ``size`` numbers, normalized to length one.

    >>> shortened([3.0, 4.0, 5.0], 2)
    [0.6, 0.8]
    """
    head = vector[:size]
    length = math.sqrt(sum(number * number for number in head)) or 1.0
    return [number / length for number in head]


def pack(vector: Sequence[float]) -> str:
    """Encode a vector as base64 of little-endian 32-bit floats.

    >>> pack([1.0])
    'AACAPw=='
    """
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _dimensions(call: Call, chute: Chute) -> int:
    wanted = call.body.get("dimensions")
    if wanted is None:
        return 0
    policy = read_shape(chute, call.headers).dimensions
    if policy != "honour":
        raise Refused(_REFUSALS[policy])
    if not isinstance(wanted, int) or not 1 <= wanted <= EMBEDDING_DIMENSIONS:
        raise Refused(errors.engine_400(f"dimensions must be between 1 and {EMBEDDING_DIMENSIONS}, got {wanted!r}"))
    return wanted
