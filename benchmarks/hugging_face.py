"""Two rivals with the same weights: Hugging Face's ``generate`` on padded batches, and its continuous batching."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import torch
import transformers
from transformers import ContinuousBatchingConfig, GenerationConfig, LlamaForCausalLM

from astrai.inference.engine import GenerationRequest
from astrai.model import checkpoint
from astrai.model.transformer import Transformer
from benchmarks.measure import Seconds, timed

PAGE_SIZE = 32  # of the paged cache, in tokens

Tokens = tuple[int, ...]


def llama(model: Transformer) -> LlamaForCausalLM:
    """The same weights, by way of a checkpoint in the Hugging Face layout."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(model, folder, layout="hf")
        return LlamaForCausalLM.from_pretrained(folder, dtype=next(model.parameters()).dtype).to(model.device).eval()


def generate(model: LlamaForCausalLM, requests: Sequence[GenerationRequest], batch_size: int) -> list[Tokens]:
    """Batch after batch in the order given. Each runs until its longest is done; each gets the tokens it asked for."""
    outputs: list[Tokens] = []
    for begin in range(0, len(requests), batch_size):
        outputs += _generate_batch(model, requests[begin : begin + batch_size])
    return outputs


@torch.inference_mode()
def _generate_batch(model: LlamaForCausalLM, requests: Sequence[GenerationRequest]) -> list[Tokens]:
    width = max(len(request.prompt) for request in requests)
    ids = torch.zeros(len(requests), width, dtype=torch.int64, device=model.device)  # (B, T), padded on the left
    mask = torch.zeros_like(ids)
    for row, request in enumerate(requests):
        ids[row, width - len(request.prompt) :] = torch.tensor(request.prompt, device=model.device)
        mask[row, width - len(request.prompt) :] = 1
    lengths = [request.sampling.max_tokens for request in requests]
    greedy = GenerationConfig(max_new_tokens=max(lengths), do_sample=False, pad_token_id=0, eos_token_id=None)
    output = model.generate(ids, attention_mask=mask, generation_config=greedy)[:, width:].tolist()
    return [tuple(row[:length]) for row, length in zip(output, lengths, strict=True)]


def continuous(
    model: LlamaForCausalLM, requests: Sequence[GenerationRequest], batch_size: int
) -> tuple[list[Tokens], Seconds]:
    """Its own scheduler and paged cache, all requests at once. The time begins when it is ready."""
    greedy = GenerationConfig(max_new_tokens=1, do_sample=False, pad_token_id=0, eos_token_id=-1)
    longest = max(len(request.prompt) + request.sampling.max_tokens for request in requests)
    blocks = (batch_size + 1) * -(-longest // PAGE_SIZE)
    config = ContinuousBatchingConfig(
        page_size=PAGE_SIZE, num_blocks=blocks, max_requests_per_batch=batch_size, max_batch_tokens=512
    )
    with (
        torch.no_grad(),
        model.continuous_batching_context_manager(
            generation_config=greedy, continuous_batching_config=config
        ) as manager,
    ):

        def run() -> list[Tokens]:
            for index, request in enumerate(requests):
                manager.add_request(list(request.prompt), str(index), max_new_tokens=request.sampling.max_tokens)
            tokens: dict[int, Tokens] = {}
            while len(tokens) < len(requests):
                result = manager.get_result(timeout=1)
                if result is None:
                    assert manager.is_running(), "continuous batching ended before its requests"
                elif result.is_finished():
                    assert result.error is None, result.error
                    tokens[int(result.request_id)] = tuple(result.generated_tokens)
            return [tokens[index] for index in range(len(requests))]

        return timed(run)
