"""Chutes as a chat model of LangChain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field, model_validator

from chutes_core.errors import ConfigurationError, RequestRefusedError
from chutes_core.usage import cost
from langchain_chutes._messages import request_messages
from langchain_chutes._profile import default_method, echoes_reasoning, model_infos, model_profile
from langchain_chutes._replies import PROVIDER, ChunkMaker, chat_result
from langchain_chutes._settings import ChutesSettings, translated_errors
from langchain_chutes._structured import check_method, json_parser, response_format, tools_parser
from langchain_chutes._tokens import estimate_message_tokens, estimate_tokens
from langchain_chutes._tools import tool_choice_param, tool_params

if TYPE_CHECKING:
    from chutes_core.images import ImagePolicy
    from chutes_core.request import Effort
    from chutes_core.response import Reply

__all__ = ["ChatChutes"]

# The arguments that are parameters of a request, under the service's own names for them.
_PARAMETERS = (
    "temperature", "max_tokens", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "stop", "seed", "n", "logit_bias", "logprobs", "top_logprobs", "user", "reasoning",
    "reasoning_effort", "extra_body",
)  # fmt: skip
