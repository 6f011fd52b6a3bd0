"""Clients that others built on the stock one: LangChain and LiteLLM. They are in the extra ``clients``."""

import asyncio
import importlib.util
from typing import Any

import pytest

from astrai.config import SamplingParams
from astrai.inference.engine import GenerationRequest, InferenceEngine
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer

pytestmark = pytest.mark.nightly
QUESTION = "Tell me of the fox."
HINT = "is not installed: pip install 'astrai[clients]'"
# NOTE: as a client would be given it: what these libraries warn of on their own account is not ours to mend.
quiet = pytest.mark.filterwarnings("ignore")


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} {HINT}")


@pytest.fixture(scope="module")
def told(model: Transformer, tokenizer: Tokenizer) -> str:
    """What the engine alone answers."""
    with InferenceEngine(model, tokenizer, num_slots=1) as engine:
        messages = [{"role": "user", "content": QUESTION}]
        request = GenerationRequest(messages=messages, sampling=SamplingParams(max_tokens=20))
        return engine.generate_with_request(request).text


@pytest.fixture
def chat(shared_url: str) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="tiny", base_url=f"{shared_url}/v1", api_key="none", temperature=0, max_tokens=20)  # type: ignore[call-arg,arg-type]


@quiet
@needs("langchain_openai")
def test_langchain_invokes(chat: Any, told: str) -> None:
    answer = chat.invoke(QUESTION)
    assert answer.content == told
    assert answer.response_metadata["finish_reason"] == "length"
    assert answer.usage_metadata["output_tokens"] == 20


@quiet
@needs("langchain_openai")
def test_langchain_streams(chat: Any, told: str) -> None:
    chunks = list(chat.stream(QUESTION))
    assert "".join(chunk.content for chunk in chunks) == told
    assert len(chunks) > 3


@quiet
@needs("langchain_openai")
def test_langchain_streams_many_asynchronously(chat: Any, told: str) -> None:
    async def stream() -> str:
        return "".join([chunk.content async for chunk in chat.astream(QUESTION)])

    async def stream_all() -> list[str]:
        return await asyncio.gather(*(stream() for _ in range(12)))

    assert asyncio.run(stream_all()) == [told] * 12


@quiet
@needs("langchain_openai")
def test_langchain_is_told_what_is_wrong(chat: Any) -> None:
    import openai

    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        chat.invoke("The fox ran. " * 500)


@pytest.fixture
def litellm_arguments(shared_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or it asks the network for prices when imported
    messages = [{"role": "user", "content": QUESTION}]
    return dict(
        model="openai/tiny",
        api_base=f"{shared_url}/v1",
        api_key="none",
        messages=messages,
        max_tokens=20,
        temperature=0,
    )


@quiet
@needs("litellm")
def test_litellm_completes(litellm_arguments: dict[str, Any], told: str) -> None:
    import litellm

    answer = litellm.completion(**litellm_arguments)
    assert answer.choices[0].message.content == told
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 20


@quiet
@needs("litellm")
def test_litellm_streams(litellm_arguments: dict[str, Any], told: str) -> None:
    import litellm

    chunks = list(litellm.completion(**litellm_arguments, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == told
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"


@quiet
@needs("litellm")
def test_litellm_streams_asynchronously(litellm_arguments: dict[str, Any], told: str) -> None:
    import litellm

    async def stream() -> str:
        chunks = await litellm.acompletion(**litellm_arguments, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    assert asyncio.run(stream()) == told


@quiet
@needs("litellm")
def test_litellm_is_told_what_is_wrong(litellm_arguments: dict[str, Any]) -> None:
    import litellm

    with pytest.raises(litellm.exceptions.ContextWindowExceededError):
        litellm.completion(**litellm_arguments | {"messages": [{"role": "user", "content": "The fox ran. " * 500}]})
