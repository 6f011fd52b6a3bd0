"""Learns the byte-level BPE of the bundled model, and defines its chat format.

It knows only strings: the storyworld, or whatever text a learner brings, comes in as an iterator.
"""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from astrai.tokenizer import Tokenizer

BOS, SYSTEM, USER, ASSISTANT, END = SPECIAL_TOKENS = ("<|bos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

# One turn is its role's token, the text as it stands, and <|end|>. Nothing is trimmed and nothing looks ahead, so a
# conversation that grows keeps the tokens it had: the prefix cache depends on that.
CHAT_TEMPLATE = (
    "<|bos|>"
    "{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' ~ message.role ~ ': use system, user or assistant') }}"
    "{% endif %}"
    "{{ '<|' ~ message.role ~ '|>' }}{{ message.content }}{{ '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(
    texts: Iterable[str], words: Iterable[str] = (), common: Iterable[str] = (), vocab_size: int = 4096
) -> Tokenizer:
    """Learn ``vocab_size`` tokens from ``texts``; each of ``words`` becomes one token with its leading space.

    ``common`` words take what room is left, so that text which the model was not trained on is cut into few tokens.
    Digits stay single, which keeps sums simple. The result is the same for the same texts in the same order.

    Raises:
        ValueError: ``vocab_size`` leaves no room for the 256 bytes and the special tokens.
    """
    smallest = 256 + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size is {vocab_size}, but bytes and special tokens alone take {smallest}")
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_with_emphasis(texts, words, common), trainer)
    bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bpe.token_to_id(BOS))])
    return Tokenizer(bpe, CHAT_TEMPLATE, bos_token=BOS, eos_tokens=[END])


def _with_emphasis(texts: Iterable[str], words: Iterable[str], common: Iterable[str]) -> Iterable[str]:
    """The texts, then each word often enough that its merges are learned however rare it is in them.

    After a space most often, which is where it stands in a text; then at the start of one, and with a capital.
    """
    yield from texts
    for word in words:
        yield f" {word}" * 200 + f"\n{word}" * 80 + f" {word.capitalize()}" * 40
    for word in common:
        yield f" {word}" * 10 + f" {word.capitalize()}" * 2
