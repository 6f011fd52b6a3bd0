"""A peer in C++: llama.cpp through ``llama-cpp-python``, with the same weights by way of a GGUF file.

Its library decodes batches of tokens of many sequences; who runs when is decided here as its own server does it:
prompts first, then one token of everyone, and a prefix that all share is computed once and copied. Greedy.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import torch
from torch import Tensor

from astrai.inference.engine import GenerationRequest
from astrai.model.transformer import Transformer
from benchmarks.measure import Seconds, timed
from benchmarks.workloads import Workload

BATCH_TOKENS = 512  # that one call computes
Tokens = tuple[int, ...]


@dataclass(slots=True)
class Sequence:
    """A request on one of the library's sequences."""

    index: int
    request: GenerationRequest
    computed: int  # tokens that are in the cache
    output: list[int] = field(default_factory=list)

    def pending(self) -> list[int]:
        """Tokens to compute next: what is left of the prompt, or the last token of the output."""
        return self.output[-1:] or list(self.request.prompt[self.computed :])


class LlamaCpp:
    """A loaded model. Each call makes a fresh context, outside of the time taken."""

    def __init__(self, model: Transformer) -> None:
        self.vocab_size = model.config.vocab_size
        llama_cpp.llama_log_set(_silent, None)
        llama_cpp.llama_backend_init()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            write_gguf(model, path)
            parameters = llama_cpp.llama_model_default_params()
            parameters.use_mmap = False
            self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        assert self.model, "llama.cpp could not read the weights"

    def __call__(self, workload: Workload) -> tuple[list[Tokens], Seconds]:
        """Serve all requests of a workload."""
        longest = max(len(r.prompt) + r.sampling.max_tokens for r in workload.requests)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = (workload.batch + 1) * (-(-longest // 32) * 32)
        parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
        parameters.n_seq_max = workload.batch + 1
        parameters.n_threads = parameters.n_threads_batch = torch.get_num_threads()
        parameters.kv_unified = True
        parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
        context = llama_cpp.llama_init_from_model(self.model, parameters)
        assert context, "llama.cpp could not make a context"
        try:
            return timed(lambda: Run(context, self.vocab_size, workload).tokens())
        finally:
            llama_cpp.llama_free(context)


class Run:
    """One workload on one context."""

    def __init__(self, context: llama_cpp.llama_context_p, vocab_size: int, workload: Workload) -> None:
        self.context, self.vocab_size, self.workload = context, vocab_size, workload
        self.memory = llama_cpp.llama_get_memory(context)
        self.waiting = list(enumerate(workload.requests))[::-1]
        self.running: dict[int, Sequence] = {}  # by sequence id
        self.outputs: list[Tokens] = [()] * len(workload.requests)

    def tokens(self) -> list[Tokens]:
        """Serve until all is done."""
        if self.workload.shared_len:
            self._compute_prefix(list(self.workload.requests[0].prompt[: self.workload.shared_len]))
        while self.waiting or self.running:
            self._admit()
            self._step()
        return self.outputs

    @property
    def _prefix_sequence(self) -> int:
        return self.workload.batch

    def _compute_prefix(self, ids: list[int]) -> None:
        for start in range(0, len(ids), BATCH_TOKENS):
            chunk = ids[start : start + BATCH_TOKENS]
            self._decode([(token, start + i, self._prefix_sequence, False) for i, token in enumerate(chunk)])

    def _admit(self) -> None:
        for sequence in range(self.workload.batch):
            if self.waiting and sequence not in self.running:
                index, request = self.waiting.pop()
                shared = self.workload.shared_len
                if shared:
                    llama_cpp.llama_memory_seq_cp(self.memory, self._prefix_sequence, sequence, 0, shared)
                self.running[sequence] = Sequence(index, request, shared)

    def _step(self) -> None:
        """One call of the library: a token of each that decodes, then as much of the prompts as fits."""
        entries: list[tuple[int, int, int, bool]] = []
        asked: list[tuple[int, int]] = []  # which entry's logits belong to which sequence
        for sequence, state in sorted(self.running.items(), key=lambda item: not item[1].output):
            chunk = state.pending()[: BATCH_TOKENS - len(entries)]
            is_last = bool(state.output) or state.computed + len(chunk) == len(state.request.prompt)
            for i, token in enumerate(chunk):
                wanted = is_last and i == len(chunk) - 1
                if wanted:
                    asked.append((len(entries), sequence))
                entries.append((token, state.computed + i, sequence, wanted))
            state.computed += len(chunk)
        self._decode(entries)
        for entry, sequence in asked:
            logits = llama_cpp.llama_get_logits_ith(self.context, entry)
            self._append(sequence, int(np.ctypeslib.as_array(logits, (self.vocab_size,)).argmax()))

    def _append(self, sequence: int, token: int) -> None:
        state = self.running[sequence]
        state.output.append(token)
        if len(state.output) == state.request.sampling.max_tokens:
            self.outputs[state.index] = tuple(state.output)
            llama_cpp.llama_memory_seq_rm(self.memory, sequence, -1, -1)
            del self.running[sequence]

    def _decode(self, entries: list[tuple[int, int, int, bool]]) -> None:
        """Compute ``(token, position, sequence, whether logits are wanted)``."""
        batch = llama_cpp.llama_batch_init(len(entries), 0, 1)
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        status = llama_cpp.llama_decode(self.context, batch)
        llama_cpp.llama_batch_free(batch)
        assert status == 0, f"llama_decode failed with status {status}"


@llama_cpp.llama_log_callback
def _silent(level: int, text: bytes, data: object) -> None:
    """Takes the library's log and drops it: failures are seen in what its functions return."""


# --- the weights ------------------------------------------------------------------------------------------------------


def write_gguf(model: Transformer, path: Path) -> None:
    """The weights in the layout of llama.cpp's Llama architecture, without a vocabulary."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_seq_len)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    _add(writer, "token_embd.weight", model.embed.weight)
    _add(writer, "output_norm.weight", model.norm.weight)
    if model.head is not None:
        _add(writer, "output.weight", model.head.weight)
    for layer, block in enumerate(model.blocks):
        attention, mlp = block.attention, block.mlp
        _add(writer, f"blk.{layer}.attn_norm.weight", block.attention_norm.weight)
        _add(writer, f"blk.{layer}.attn_q.weight", interleaved(attention.q_proj.weight, config.head_dim))
        _add(writer, f"blk.{layer}.attn_k.weight", interleaved(attention.k_proj.weight, config.head_dim))
        _add(writer, f"blk.{layer}.attn_v.weight", attention.v_proj.weight)
        _add(writer, f"blk.{layer}.attn_output.weight", attention.o_proj.weight)
        _add(writer, f"blk.{layer}.ffn_norm.weight", block.mlp_norm.weight)
        _add(writer, f"blk.{layer}.ffn_gate.weight", mlp.gate_proj.weight)
        _add(writer, f"blk.{layer}.ffn_up.weight", mlp.up_proj.weight)
        _add(writer, f"blk.{layer}.ffn_down.weight", mlp.down_proj.weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleaved(weight: Tensor, head_dim: int) -> Tensor:
    """Rows of q or k in llama.cpp's order: it turns dimension 2i with 2i + 1, we turn i with i + E/2."""
    halves = weight.unflatten(0, (-1, 2, head_dim // 2))  # (heads, 2, E/2, D)
    return halves.transpose(1, 2).reshape(weight.shape)


def _add(writer: gguf.GGUFWriter, name: str, weight: Tensor) -> None:
    """Matrices keep their type; vectors are float32, as llama.cpp wants them."""
    weight = weight.detach().cpu().contiguous()
    if weight.dim() == 1 or weight.dtype == torch.float32:
        writer.add_tensor(name, weight.float().numpy())
    else:
        bits = weight.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint8)
        writer.add_tensor(name, bits, raw_dtype=gguf.GGMLQuantizationType.BF16)
