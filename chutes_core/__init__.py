"""Python client for Chutes that returns complete, checked answers or clear errors.

>>> from chutes_core import ChutesClient
>>> client = ChutesClient("cpk_0123")  # or CHUTES_API_KEY in the environment
>>> client.catalog.get("Qwen/Qwen3-32B-TEE").supports("tools")
True

Call it with ``client.chat([{"role": "user", "content": "Hello"}], model="Qwen/Qwen3-32B-TEE").content``.

Everything is loaded on first use: importing the package imports no HTTP library and no SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chutes_core.lazy import lazily as _lazily

if TYPE_CHECKING:
    from chutes_core.attempt import Attempt, Attempts
    from chutes_core.auth import Credential
    from chutes_core.calls.chute import ChuteReply
    from chutes_core.calls.embeddings import Embeddings
    from chutes_core.calls.flows import WarmUpStatus
    from chutes_core.catalog.catalog import Catalog
    from chutes_core.catalog.model_info import ModelInfo, Traits
    from chutes_core.catalog.names import ModelRef
    from chutes_core.client import AsyncChutesClient, AsyncStream, ChutesClient, Stream
    from chutes_core.e2ee.settings import E2EE
    from chutes_core.errors import (
        AccountLimitError,
        APIError,
        AttestationError,
        AuthenticationError,
        BudgetExceededError,
        CapacityError,
        ChutesError,
        ChutesWarning,
        ColdModelError,
        ConfigurationError,
        ConnectionFailedError,
        ContextLengthError,
        EmptyReplyError,
        IncompleteAnswerError,
        InvalidRequestError,
        Kind,
        LengthLimitError,
        MalformedReplyError,
        MissingKeyError,
        ModelNotFoundError,
        PaymentRequiredError,
        PermissionDeniedError,
        RateLimitError,
        RefusalError,
        RequestRefusedError,
        Retry,
        Scope,
        StreamFailedError,
        StreamInterruptedError,
        StreamRestartedError,
        ThinkingLimitError,
        TimeLimitError,
        UnavailableError,
        UnknownModelError,
    )
    from chutes_core.fallback.client import AsyncFallbackClient, FallbackClient
    from chutes_core.fallback.policy import FallbackPolicy
    from chutes_core.fallback.relay import Restart
    from chutes_core.fallback.stream import AsyncFallbackStream, FallbackReply, FallbackStream
    from chutes_core.fallback.trace import FallbackError
    from chutes_core.openai_sdk.door import async_openai_client, openai_client
    from chutes_core.request.chat import ChatParams
    from chutes_core.request.image_policy import ImagePolicy
    from chutes_core.response import Choice, Delta, Reply, ReplyMeta, ToolCall, ToolCallDelta, TraceEvent
    from chutes_core.secrets.secret import Secret
    from chutes_core.settings import Settings, TimeLimits
    from chutes_core.spending.budget import Budget
    from chutes_core.usage import Ledger, Totals, Usage, cost

    __version__: str

_HOMES = {
    "auth": ["Credential"],
    "spending.budget": ["Budget"],
    "catalog.catalog": ["Catalog"],
    "catalog.names": ["ModelRef"],
    "client": ["AsyncChutesClient", "AsyncStream", "ChutesClient", "Stream"],
    "e2ee": ["E2EE"],
    "calls.chute": ["ChuteReply"],
    "calls.embeddings": ["Embeddings"],
    "calls.flows": ["WarmUpStatus"],
    "errors": [
        "APIError",
        "AccountLimitError",
        "AttestationError",
        "AuthenticationError",
        "BudgetExceededError",
        "CapacityError",
        "ChutesError",
        "ChutesWarning",
        "ColdModelError",
        "ConfigurationError",
        "ConnectionFailedError",
        "ContextLengthError",
        "EmptyReplyError",
        "IncompleteAnswerError",
        "InvalidRequestError",
        "Kind",
        "LengthLimitError",
        "MalformedReplyError",
        "MissingKeyError",
        "ModelNotFoundError",
        "PaymentRequiredError",
        "PermissionDeniedError",
        "RateLimitError",
        "RefusalError",
        "RequestRefusedError",
        "Retry",
        "Scope",
        "StreamFailedError",
        "StreamInterruptedError",
        "StreamRestartedError",
        "ThinkingLimitError",
        "TimeLimitError",
        "UnavailableError",
        "UnknownModelError",
    ],
    "fallback.client": ["AsyncFallbackClient", "FallbackClient"],
    "fallback.policy": ["FallbackPolicy"],
    "fallback.relay": ["Restart"],
    "fallback.stream": ["AsyncFallbackStream", "FallbackReply", "FallbackStream"],
    "attempt": ["Attempt", "Attempts"],
    "fallback.trace": ["FallbackError"],
    "request.image_policy": ["ImagePolicy"],
    "catalog.model_info": ["ModelInfo", "Traits"],
    "openai_sdk.door": ["async_openai_client", "openai_client"],
    "request.chat": ["ChatParams"],
    "secrets.secret": ["Secret"],
    "response": ["Choice", "Delta", "Reply", "ReplyMeta", "ToolCall", "ToolCallDelta", "TraceEvent"],
    "settings": ["Settings", "TimeLimits"],
    "usage": ["Ledger", "Totals", "Usage", "cost"],
}

__all__ = [
    "E2EE",
    "APIError",
    "AccountLimitError",
    "AsyncChutesClient",
    "AsyncFallbackClient",
    "AsyncFallbackStream",
    "AsyncStream",
    "Attempt",
    "Attempts",
    "AttestationError",
    "AuthenticationError",
    "Budget",
    "BudgetExceededError",
    "CapacityError",
    "Catalog",
    "ChatParams",
    "Choice",
    "ChuteReply",
    "ChutesClient",
    "ChutesError",
    "ChutesWarning",
    "ColdModelError",
    "ConfigurationError",
    "ConnectionFailedError",
    "ContextLengthError",
    "Credential",
    "Delta",
    "Embeddings",
    "EmptyReplyError",
    "FallbackClient",
    "FallbackError",
    "FallbackPolicy",
    "FallbackReply",
    "FallbackStream",
    "ImagePolicy",
    "IncompleteAnswerError",
    "InvalidRequestError",
    "Kind",
    "Ledger",
    "LengthLimitError",
    "MalformedReplyError",
    "MissingKeyError",
    "ModelInfo",
    "ModelNotFoundError",
    "ModelRef",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "RefusalError",
    "Reply",
    "ReplyMeta",
    "RequestRefusedError",
    "Restart",
    "Retry",
    "Scope",
    "Secret",
    "Settings",
    "Stream",
    "StreamFailedError",
    "StreamInterruptedError",
    "StreamRestartedError",
    "ThinkingLimitError",
    "TimeLimitError",
    "TimeLimits",
    "ToolCall",
    "ToolCallDelta",
    "Totals",
    "TraceEvent",
    "Traits",
    "UnavailableError",
    "UnknownModelError",
    "Usage",
    "WarmUpStatus",
    "__version__",
    "async_openai_client",
    "cost",
    "openai_client",
]


__getattr__, __dir__ = _lazily(__name__, {name: module for module, names in _HOMES.items() for name in names})
