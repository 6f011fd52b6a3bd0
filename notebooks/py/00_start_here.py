# %% [markdown]
# # Start here: one request through five layers
#
# A language model writes one token at a time. *Serving* it means doing that for many people at once, on one machine,
# without computing anything twice. In this notebook you run a complete serving engine, watch a request pass through
# it, and see in a picture what the engine remembered and what it had to compute.
#
# | | |
# |---|---|
# | **You will have** | chatted with a model, read what its engine did step by step, and drawn it |
# | **Time** | 20 minutes; the cells themselves run in well under a minute |
# | **You need** | a little Python; nothing of what follows is assumed |
# | **Device** | a CPU is enough; a CUDA GPU is used if there is one |
#
# Run a cell with Shift+Enter. Each picture and table below comes from a real run, nothing is simulated: change a
# prompt, and they change with it.

# %% [markdown]
# ## The map
#
# The engine has five layers. A request goes down through them, tokens come back up. Beside them runs the *trace*: it
# notes each thing that the engine does, so that we can read and draw it later.

# %%
from astrai.course.stills import FiveLayers, SlotsOverTime, TraceTable

FiveLayers()

# %% [markdown]
# You meet them from the bottom up in the course. Today you stand at the second layer, the `InferenceEngine`, and look
# down. (The first layer, the HTTP server, has a chapter of its own.)
#
# ## A model
#
# AstrAI brings a small model along. It is a real transformer of the same design as the large ones, trained on made-up
# conversations in very simple English: it tells short stories about animals and knows nothing of our world.

# %%
import astrai

model, tokenizer = astrai.load("tiny")
shape = model.config
print(f"{shape.num_parameters:,} parameters in {shape.num_layers} blocks")
print(f"{shape.num_heads} query heads share {shape.num_kv_heads} key-value heads")
print(f"{shape.vocab_size:,} different tokens")

# %% [markdown]
# A model reads and writes *tokens*: numbers that stand for pieces of text. The tokenizer cuts a conversation into
# them. Notice the special ones, such as `<|user|>`: they say who speaks, and a person's text can never contain them.

# %%
RULES = "You are Astra, a little storyteller. Use simple words. Every story has a happy end."


def chat(text):
    return [{"role": "system", "content": RULES}, {"role": "user", "content": text}]


prompt_ids = tokenizer.apply_chat_template(chat("Tell me a story about a fox."))
print(len(prompt_ids), "tokens, the last twelve of them:")
for token_id in prompt_ids[-12:]:
    print(f"{token_id:>6}  {tokenizer.decode([token_id], skip_special=False)!r}")

# %% [markdown]
# ## An engine
#
# The engine sets memory aside before the first request arrives: `num_slots` rows. Here a **slot** is the whole row of
# one request, with room for the keys and values (the *KV*) of each of its tokens. A token's KV is what later tokens
# need to know of it. Keeping it is the difference between computing each token once and computing all of them again
# for each new one.

# %%
engine = astrai.InferenceEngine(model, tokenizer, num_slots=4)
print(f"{engine.config.num_slots} slots of {engine.max_seq_len:,} tokens each")
print(f"{engine.stats().kv_cache_bytes / 2**20:.0f} MiB set aside for their keys and values")

# %% [markdown]
# ## A chat, streaming
#
# `submit` returns at once with a stream. Iterating over it gives pieces of text as the engine makes them.

# %%
from astrai import GenerationRequest, SamplingParams

sampling = SamplingParams(max_tokens=120)  # temperature 0: always the most likely token
stream = engine.submit(GenerationRequest(messages=chat("Tell me a story about a fox."), sampling=sampling))
for piece in stream:
    print(piece, end="", flush=True)

# %% [markdown]
# The stream also knows what it took. The reason is `stop` when the model itself ended its answer, and `length` when it
# reached `max_tokens`.

# %%
first = stream.result()
print(first.prompt_tokens, "prompt tokens,", first.cached_tokens, "of them found in the cache")
print(first.completion_tokens, "tokens written; it ended with", repr(first.finish_reason))

# %% [markdown]
# ## What the engine did
#
# The engine works in **steps**. Each step has four phases, always in this order:
#
# | phase | what happens |
# |---|---|
# | **cleanup** | finished requests give their slots back; new ones join the queue |
# | **refill** | waiting requests get slots, after a look at what the cache already holds |
# | **prefill** | the prompts of new requests are computed, many tokens at once |
# | **decode** | each running request gets one more token |
#
# Here are the first three steps of your chat, as the trace noted them.


# %%
def text_of(token_ids):
    return tokenizer.decode(token_ids, skip_special=False)


TraceTable([record for record in engine.trace.records if record.step <= 3], decode=text_of)

# %% [markdown]
# Read it from the top: the request joins the queue, owns a slot, its prompt is computed in one go, and that gives the
# first token already. From then on each decode adds one. The *node* is the cache's note of which tokens the slot now
# holds: it is what later requests are compared with.
#
# > **Predict.** You now send the *same* request again. How many of its prompt tokens must be computed?
# > Decide on a number before you run the next cell.

# %%
request = GenerationRequest(messages=chat("Tell me a story about a fox."), sampling=sampling)
again = engine.generate_with_request(request)
print("found in the cache:", again.cached_tokens, "of", again.prompt_tokens)
print("computed:", again.prompt_tokens - again.cached_tokens)
print("same answer:", again.text == first.text)

# %% [markdown]
# One token. The slot of the first request was free, but its KV was still in it, and the engine found it. The last
# prompt token is always computed, since its output is what the first answer token is chosen from.
#
# ## Three at once, live
#
# Now three requests arrive together. All begin with the same system message. `astrai.watch` shows the engine while it
# works: its slots, its steps, and the tree of what the slots hold.
#
# To have the same picture in front of us, we hand all three in before the engine's loop starts
# (`start=False`, then `daemon.start()`). And because this model writes faster than one can look, `slowly` holds the
# engine up for a moment after each token. It is still the real engine, in slow motion.
#
# > **Predict.** Three slots will fill. Which of them must be computed from the very first token?

# %% tags=["live", "volatile"]
import time

engine.shutdown()
engine = astrai.InferenceEngine(model, tokenizer, num_slots=4, start=False)
questions = ["Tell me a story about a fox.", "Tell me a story about a kite.", "Tell me a story about a fox and a boat."]


def slowly(token_id):
    time.sleep(0.02)


streams = [
    engine.submit(GenerationRequest(messages=chat(text), sampling=sampling, on_token=slowly)) for text in questions
]
display(astrai.watch(engine))
engine.daemon.start()

# %% [markdown]
# The cell returned at once: the engine runs on a thread of its own. Point at a row, or go through it with the arrow
# keys, to see its tokens. **Rewind this run** lets you go back and forth in it, step by step; the engine goes on.
#
# What the three have written, once they are done:

# %%
for text, stream in zip(questions, streams):
    print(f"{text}\n{stream.result().text}\n")

# %% [markdown]
# Three requests, three answers. What did the shared beginning cost?

# %%
for text, stream in zip(questions, streams):
    result = stream.result()
    print(f"{result.prompt_tokens:>3} prompt tokens, {result.cached_tokens:>3} from the cache   {text}")

# %% [markdown]
# The first request computed its whole prompt. The other two waited for one step, on purpose, and then took the shared
# beginning over. This is the **prefix cache**: the second and the third computed only what was their own.
#
# The rows say the same: what was copied, what was prefilled (computed from the prompt), and what was decoded.
# `SlotMap` is the picture of the slots from above, by itself.

# %%
from astrai.widgets.picture import SlotMap

SlotMap(engine)

# %% [markdown]
# And the tree: the three prompts as one text that branches where they differ. At the right stands which slots hold each
# piece, so the shared beginning is there once, with three holders.

# %%
from astrai.widgets.picture import RadixTree

RadixTree(engine)

# %%
TraceTable([record for record in engine.trace.records if record.step <= 2], decode=text_of)

# %% [markdown]
# ## The slots over time
#
# Time goes from left to right, one column a step. Each lane is a slot that fills with tokens from below.
#
# > **Predict.** In which lanes do you expect **C** (copied from another slot)?

# %%
SlotsOverTime(engine.trace)

# %% [markdown]
# Slot 0 begins with **P**: a prompt that was prefilled. Slots 1 and 2 begin with **C**: their shared beginning was
# copied from slot 0, and only a thin stripe was prefilled. On top of each grows **D**, one decoded token a step. Where
# a lane turns pale, its request has ended. The slot is free, and remembers.
#
# ## The conversation goes on
#
# You answer the first story. As every chat client does, we send the whole conversation again: the system message, your
# question, the model's story, and your new sentence.

# %%
story = streams[0].result().text
conversation = [*chat(questions[0]), {"role": "assistant", "content": story}]
conversation += [{"role": "user", "content": "Give the story a title."}]
title = engine.generate_with_request(GenerationRequest(messages=conversation, sampling=sampling))
print(title.text)
print()
print("found in the cache:", title.cached_tokens, "of", title.prompt_tokens)

# %%
SlotsOverTime(engine.trace)

# %% [markdown]
# **R**: reused in place. The slot that held the conversation was free, so the new request took it over as it stood,
# without copying a byte, and computed only the new sentence. That is why a long chat stays quick.
#
# ## The trace is the whole truth
#
# Each event is a small fact. Replaying the first $k$ of them gives the engine's state after them, for any $k$: this is
# how pictures can be rewound. Replaying all of them gives the state that the engine is in now.

# %%
from astrai.trace.replay import replay

for k in (0, 50, 100, 200):
    state = replay(engine.trace, k)
    held = [slot.context_len for slot in state.slots]
    print(f"after {k:>3} events: step {state.step:>2}, tokens in the slots {held}")

# %%
from astrai.inference.witness import take_snapshot

engine.shutdown()
replay(engine.trace) == take_snapshot(engine.scheduler)

# %% [markdown]
# A run can be kept in a file, one event a line, and read later. In a terminal, `astrai trace show run.jsonl` prints it
# step by step.

# %%
from astrai.trace.log import EventLog

engine.trace.save("run.jsonl")
replay(EventLog.load("run.jsonl")) == replay(engine.trace)

# %% [markdown]
# ## As a film
#
# A trace can also be played as a film. Six films come with the course. Here is a frame of each.

# %%
from astrai.films.stills import Stills

Stills()

# %% [markdown]
# Four of them can play other runs too. To see **yours**, the one on this page, take the `#` away and run the cell. It
# takes about half a minute, and you can go on meanwhile. In a terminal, `astrai render` makes all six.

# %%
# astrai.film("TheWholeLoop", trace=engine.trace)

# %% [markdown]
# ## Can you say why?
#
# Answer for yourself, then open the answer.
#
# <details><summary>The engine found all prompt tokens but one in the cache. Why not that one?</summary>
# The last prompt token must be computed, because its output is what the first new token is chosen from. What the cache
# keeps of a token, its keys and values, serves later tokens; it does not contain that output.
# </details>
#
# <details><summary>Three requests with the same beginning arrive in the same moment. Why do two of them wait?</summary>
# Nothing is in the cache yet. If all three started at once, each would compute the shared beginning. One step later it
# is there to be copied.
# </details>
#
# <details><summary>When is a slot reused in place, and when is its beginning copied?</summary>
# In place when nothing would be lost: the slot is free, and the new request goes on where it ends. Copied when the slot
# belongs to a running request, or holds more that would be forgotten.
# </details>
#
# <details><summary>Why does decoding go one token at a time, while a prompt is computed in one go?</summary>
# All tokens of a prompt are known, so they can be computed side by side. An answer's next token is not known before
# the one in front of it was chosen.
# </details>

# %% [markdown]
# ## Where this lives
#
# | what you saw | where it is |
# |---|---|
# | `InferenceEngine`, `GenerationRequest` | `astrai/inference/engine.py` |
# | the four phases | `InferenceScheduler` in `astrai/inference/scheduler.py` |
# | slots, the prefix cache, the radix tree behind it | `astrai/inference/cache/` |
# | the model | `Transformer` in `astrai/model/transformer.py` |
# | events, the log, replay | `astrai/trace/` |
# | the live pictures | `astrai/widgets/` |
# | the table and the lanes | `astrai/course/stills.py` |
# | the films | `animations/` |
#
# **What others do.** vLLM and SGLang are engines for large installations. There the KV cache is cut into small pages or
# single token positions, and a request owns a list of them; a *slot* there means one token's position. Here a slot is a
# request's whole row, which wastes some memory and can be drawn on paper. SGLang finds shared prefixes with a radix
# tree, as AstrAI does; vLLM looks pages up by a hash of what they hold.
