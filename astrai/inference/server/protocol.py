"""The requests of OpenAI's API as pydantic models: which fields there are, and what each may hold.

Every field either works as documented or is refused by name; nothing is ignored. A ``null`` means that the field was
not given. The models know no HTTP, no engine and no tokenizer: ``jobs.py`` turns them into work.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from astrai.config import SamplingParams
from astrai.inference.server.errors import MAX_NAME, ApiError, invalid

MAX_STOPS = 4
MAX_STOP_CHARS = 512  # each token is compared with every beginning of every stop string
MAX_BIASES = 1024  # added to the logits one by one, for every token
SMALLEST_TOP_P = 1e-9  # keeps exactly the most likely token

# Values of fields that we do not have, with which OpenAI's own default is meant: clients send some of them.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "metadata": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (),
    "prediction": (),
    "prompt_cache_key": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "reasoning_effort": (),
    "safety_identifier": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": (),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": (),
    "web_search_options": (),
}
NEUTRAL_IN_MESSAGE: dict[str, tuple[Any, ...]] = {
    "annotations": ([],),  # what a client's own model of an earlier answer carries, sent back as it came
    "audio": (),
    "function_call": (),
    "name": (),
    "refusal": (),
    "tool_calls": ([],),
}


class Wire(BaseModel):
    """A JSON object of the protocol: types are not converted, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if not _is_neutral(cls.neutral, name, value)}


def _is_neutral(neutral: dict[str, tuple[Any, ...]], name: str, value: Any) -> bool:
    if name not in neutral:
        return False
    return value is None or any(type(value) is type(allowed) and value == allowed for allowed in neutral[name])


def _text_of(content: Any) -> Any:
    """A message's content as one string; text parts are joined without anything between them."""
    if not isinstance(content, list):
        return content
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            named = f"of type {kind[:MAX_NAME]!r}" if isinstance(kind, str) else "without a type"
            raise ValueError(f"part {index} is {named}: this server reads text parts only")
        if part.keys() != {"type", "text"} or not isinstance(part["text"], str):
            raise ValueError(f"part {index} must be {{'type': 'text', 'text': a string}} and nothing more")
        texts.append(part["text"])
    return "".join(texts)


def _list_of_stops(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def _list_of_prompts(prompt: Any) -> list[str | list[int]]:
    """The four forms of ``prompt`` as a list of texts and lists of token ids."""
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise ValueError("prompt must be a string, a list of strings, a list of token ids or a list of such lists")
    if all(type(entry) is int for entry in prompt):
        return [prompt]
    for index, entry in enumerate(prompt):
        is_ids = isinstance(entry, list) and all(type(token_id) is int for token_id in entry)
        if type(entry) is not type(prompt[0]) or not (isinstance(entry, str) or is_ids):
            raise ValueError(
                f"entry {index} is neither text nor token ids like the entries before it: prompt must be a string, "
                "a list of strings, a list of token ids or a list of such lists"
            )
    return prompt


_TEXT_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
    "additionalProperties": False,
}
_CONTENT = {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_PART}]}
_STOP_STRING = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_CHARS}
_STOP = {"anyOf": [_STOP_STRING, {"type": "array", "items": _STOP_STRING, "maxItems": MAX_STOPS}, {"type": "null"}]}
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_PROMPT = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        _IDS,
        {"type": "array", "items": _IDS, "minItems": 1},
    ]
}
Content = Annotated[str, BeforeValidator(_text_of), WithJsonSchema(_CONTENT)]
StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
Stop = Annotated[
    Annotated[list[StopString], Field(max_length=MAX_STOPS)] | None,
    BeforeValidator(_list_of_stops),
    WithJsonSchema(_STOP),
]
Prompts = Annotated[list[Any], BeforeValidator(_list_of_prompts), WithJsonSchema(_PROMPT)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Share = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenIdText = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})$")]


class Message(Wire):
    """One turn of a conversation. ``developer`` is another word for ``system``."""

    neutral = NEUTRAL_IN_MESSAGE
    role: Literal["system", "developer", "user", "assistant"]
    content: Content

    def for_template(self) -> dict[str, str]:
        """What the chat template reads."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


class StreamOptions(Wire):
    """``include_usage`` asks for one more chunk with the counts of tokens."""

    include_usage: bool | None = None


class ResponseFormat(Wire):
    """Only text: this server cannot hold a model to a grammar."""

    type: Literal["text"]


class GenerationBody(Wire):
    """What both endpoints take."""

    neutral = NEUTRAL
    model: Annotated[str, Field(min_length=1, max_length=256)]
    max_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: Count | None = None
    min_p: Share | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stop: Stop = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: (
        Annotated[
            dict[TokenIdText, Bias], Field(max_length=MAX_BIASES, json_schema_extra={"additionalProperties": False})
        ]
        | None
    ) = None
    user: Annotated[str, Field(max_length=512)] | None = None

    @model_validator(mode="after")
    def _options_belong_to_streams(self) -> GenerationBody:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream=true")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that counts tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """As the engine knows it, with OpenAI's defaults."""
        return SamplingParams(
            max_tokens=2**31 - 1 if max_tokens is None else max_tokens,  # the row ends before
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else max(self.top_p, SMALLEST_TOP_P),
            top_k=self.top_k or 0,
            min_p=self.min_p or 0.0,
            stop=tuple(self.stop or ()),
            seed=self.seed,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            logit_bias=tuple(sorted((int(key), bias) for key, bias in (self.logit_bias or {}).items())),
            logprobs=logprobs,
        )


class ChatBody(GenerationBody):
    """``POST /v1/chat/completions``. Without ``max_tokens`` an answer may fill the model's context."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _fields_fit_together(self) -> ChatBody:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs is only allowed with logprobs=true")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_tokens and max_completion_tokens mean the same: give one of them")
        return self

    def to_sampling(self) -> SamplingParams:
        """As the engine knows it."""
        given = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return self.sampling(given, (self.top_logprobs or 0) if self.logprobs else None)


class CompletionBody(GenerationBody):
    """``POST /v1/completions``. ``max_tokens`` is 16 unless given, as it is there."""

    prompt: Prompts
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def to_sampling(self) -> SamplingParams:
        """As the engine knows it."""
        return self.sampling(16 if self.max_tokens is None else self.max_tokens, self.logprobs)


Body = ChatBody | CompletionBody
AnyWire = TypeVar("AnyWire", bound=Wire)


def validate(kind: type[AnyWire], values: dict[str, Any]) -> AnyWire:
    """``values`` as a body of this kind.

    Raises:
        ApiError: (400) naming the first field that is wrong, unknown or missing.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _explain(kind, error) from None


def _explain(kind: type[Wire], error: ValidationError) -> ApiError:
    """The first mistake. What the client sent is not quoted."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    param = _name_of(first["loc"])
    if first["type"] == "extra_forbidden":
        return _unsupported(kind, param)
    if first["type"] == "missing":
        return invalid(param, f"{param} is missing: it is required", code="missing_required_parameter")
    if param.startswith("response_format"):
        return invalid(
            "response_format",
            "response_format: this server has no grammar to hold a model to json_object or json_schema; leave the "
            "field out or send {'type': 'text'}, ask for JSON in the prompt and check what comes",
            code="unsupported_parameter",
        )
    message = first["msg"].removeprefix("Value error, ")
    if not param:  # two fields that do not fit together: the message begins with the name of one
        return invalid(message.split()[0], message)
    return invalid(param, f"{param}: {message}", code="invalid_value")


def _unsupported(kind: type[Wire], param: str) -> ApiError:
    message = f"{param} is not supported here: leave it out"
    if param.isidentifier():  # a field of the request itself
        message += f". The fields are {', '.join(kind.model_fields)}"
    return invalid(param, message, code="unsupported_parameter")


def _name_of(loc: tuple[int | str, ...]) -> str:
    """Example: ("messages", 0, "content") is "messages[0].content"."""
    name = ""
    for part in loc:
        if isinstance(part, int):
            name += f"[{part}]"
        elif part != "[key]":  # how pydantic says that a key of a dictionary is meant
            name += f".{part[:MAX_NAME]}" if name else part[:MAX_NAME]
    return name
