# %% [markdown]
# # Start here: one request through five layers
#
# A language model writes one token at a time. *Serving* it means doing that for many people at once, on one machine,
# without computing anything twice. In this notebook you run a complete serving engine, watch requests pass through
# it, and see in a picture what the engine remembered and what it had to compute.
#
# | | |
# |---|---|
# | **You will have** | chatted with a model, foretold what its engine does next, and put a part of your own into it |
# | **Time** | ten minutes to read, as long again for the exercises; the cells themselves run in half a minute |
# | **You need** | a little Python; nothing of what follows is assumed |
# | **Device** | a CPU is enough; a CUDA GPU is used if there is one, and a cell below says so |
#
# Run a cell with Shift+Enter. Each picture and table below comes from a real run, nothing is simulated: change a
# prompt, and they change with it. If something is missing, `astrai doctor` in a terminal says what.

# %% [markdown]
# ## The map
#
# The engine has five layers. A request goes down through them, tokens come back up. Beside them runs the *trace*: it
# notes each thing that the engine does, so that we can read and draw it later. Today you stand at the second layer, the
# `InferenceEngine`, and look down. Each layer has chapters of its own: a number that is a link leads to one, the others
# are still to be written.

# %%
from astrai.course.contents import course_map, layer_map
from astrai.course.stills import FiveLayers, Frozen, SlotsOverTime, TraceTable

display(FiveLayers())
layer_map()

# %% [markdown]
# To read the code of one of them, import it and put two question marks behind it: `astrai.InferenceEngine??`
#
# ## A model
#
# AstrAI brings a small model along. It is a real transformer of the same design as the large ones, trained on made-up
# conversations in very simple English: it tells short stories about animals and knows nothing of our world.

# %%
import astrai
from astrai import GenerationRequest, SamplingParams

model, tokenizer = astrai.load("tiny")
print(
    f"{model.config.num_parameters:,} parameters in {model.config.num_layers} blocks, on device {model.device.type!r}"
)

# %% [markdown]
# A model reads and writes *tokens*: numbers that stand for pieces of text. The tokenizer cuts a conversation into
# them. Notice the special ones, such as `<|user|>`: they say who speaks, and a person's text can never contain them.

# %%
RULES = "You are Astra, a little storyteller. Use simple words. Every story has a happy end."


def chat(text):
    return [{"role": "system", "content": RULES}, {"role": "user", "content": text}]


prompt_ids = tokenizer.apply_chat_template(chat("Tell me a story about a fox."))
print(len(prompt_ids), "tokens, the last twelve of them:")
print(*(repr(tokenizer.decode([token_id], skip_special=False)) for token_id in prompt_ids[-12:]))

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
# `submit` returns at once with a stream. Iterating over it gives pieces of text as the engine makes them.

# %%
sampling = SamplingParams(max_tokens=120)  # temperature 0: always the most likely token
stream = engine.submit(GenerationRequest(messages=chat("Tell me a story about a fox."), sampling=sampling))
for piece in stream:
    print(piece, end="", flush=True)

first = stream.result()
print("\n")
print(first.prompt_tokens, "prompt tokens,", first.cached_tokens, "of them found in the cache")
print(first.completion_tokens, "tokens written; it ended with", repr(first.finish_reason))  # 'length': at max_tokens

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
# Here are the first two steps of your chat, as the trace noted them.


# %%
def text_of(token_ids):
    return tokenizer.decode(token_ids, skip_special=False)


TraceTable([record for record in engine.trace.records if record.step <= 2], decode=text_of)

# %% [markdown]
# Read it from the top: the request joins the queue, owns a slot, its prompt is computed in one go, and that gives the
# first token already. From then on each decode adds one. The *node* is the cache's note of which tokens the slot now
# holds: it is what later requests are compared with.
#
# Now you. Decide before you run the next cell. Nothing waits for your answer, and nobody else sees it.

# %%
from astrai.course import check, hint, mine, predict, progress, quiz, reveal, solution

predict("00.1", "You send the same request again. How many of its prompt tokens must be computed?", unit="tokens")

# %%
request = GenerationRequest(messages=chat("Tell me a story about a fox."), sampling=sampling)
again = engine.generate_with_request(request)
print("found in the cache:", again.cached_tokens, "of", again.prompt_tokens)
print("same answer:", again.text == first.text)
reveal("00.1", again.prompt_tokens - again.cached_tokens)

# %% [markdown]
# The slot of the first request was free, but its KV was still in it, and the engine found it. The last prompt token is
# always computed: the first answer token is chosen from what the model makes of it.
#
# ## Three at once
#
# Three requests arrive together. All begin with the same system message. With `start=False` the engine does not run
# by itself, so that we can turn its loop by hand: one step, and stop.

# %%
import time

engine.shutdown()
engine = astrai.InferenceEngine(model, tokenizer, num_slots=4, start=False)
questions = ["Tell me a story about a fox.", "Tell me a story about a kite.", "Tell me a story about a fox and a boat."]


def slowly(token_id):
    time.sleep(0.01)  # after each token: this model writes faster than one can look


streams = [
    engine.submit(GenerationRequest(messages=chat(text), sampling=sampling, on_token=slowly)) for text in questions
]
engine.scheduler.step()
Frozen(engine, step=1)

# %% [markdown]
# Above are the slots: of request 0 the prompt is computed (**P**, prefilled), and the first token of its answer too
# (**D**, decoded). Below is the tree: which text is in which slots. Requests 1 and 2 have no slot yet, although three
# are free: the engine holds them back on purpose. (Leave the small signs for later: `v1`, ticks, locks.)

# %%
next_step = [
    "It computes both waiting prompts from their first token on",
    "It copies the beginning that is there already, and computes only the rest of each",
    "It lets them wait until request 0 has ended",
]
predict("00.2", "What will step 2 do about requests 1 and 2?", next_step)

# %% [markdown]
# `astrai.watch` shows an engine while it works: slots, steps and tree. Now we let it go on by itself. It is the real
# engine, in slow motion.

# %% tags=["live", "volatile"]
display(astrai.watch(engine))
engine.daemon.start()

# %% [markdown]
# The cell returned at once: the engine runs on a thread of its own. Point at a row, or go through it with the arrow
# keys, to see its tokens. **Rewind this run** lets you go back and forth in it; the engine goes on.
#
# What the three have written, and what their prompts cost. Below it, what step 2 had done:

# %%
for text, stream in zip(questions, streams):
    result = stream.result()
    print(f"{text}\n{result.text}")
    print(f"   ({result.prompt_tokens} prompt tokens, {result.cached_tokens} of them from the cache)\n")

# %%
display(Frozen(engine, step=2))
did = {type(record.event).__name__ for record in engine.trace.records if record.step == 2}
reveal("00.2", next_step[1] if "PrefixCopied" in did else next_step[0])

# %% [markdown]
# This is the **prefix cache**. **C** is what was copied: requests 1 and 2 computed only what was their own. In the tree
# the shared beginning stands once, with three slots that hold it, and branches where the prompts differ.
#
# ## Stop the film
#
# The trace holds the whole run, so we can stop at any step of it. Here is the one in which the first of the three
# ended.

# %%
from astrai.trace.events import RequestFinished, SlotFreed

end = next(record for record in engine.trace.records if isinstance(record.event, RequestFinished))
print(f"request {end.event.request_id} got its last token in step {end.step}")
Frozen(engine, step=end.step, parts=["slots"])

# %%
outcomes = [
    "It is wiped, ready for the next request",
    "It becomes free, and what it holds stays in it",
    "It belongs to its request until the other two have ended",
]
predict("00.3", f"What happens in step {end.step + 1} to the slot of request {end.event.request_id}?", outcomes)

# %%
display(Frozen(engine, step=end.step + 1, parts=["slots"]))
freed = next(r.event for r in engine.trace.records if r.step == end.step + 1 and isinstance(r.event, SlotFreed))
reveal("00.3", outcomes[1] if freed.kept_len else outcomes[0])

# %% [markdown]
# Pale means free, but remembered. What is it good for? You answer the first story. As every chat client does, we send
# the whole conversation again: the system message, your question, the model's story, and your new sentence.

# %%
story = streams[0].result().text
conversation = [*chat(questions[0]), {"role": "assistant", "content": story}]
conversation += [{"role": "user", "content": "Give the story a title."}]
title = engine.generate_with_request(GenerationRequest(messages=conversation, sampling=sampling))
print(title.text)
print("found in the cache:", title.cached_tokens, "of", title.prompt_tokens)
SlotsOverTime(engine.trace)

# %% [markdown]
# Time goes from left to right, one column a step. Each lane is a slot that fills with tokens from below. In slot 0
# stands **R**: *reused in place*. The slot that held the conversation was free, so the new request took it over as it
# stood, without copying a byte, and computed only the new sentence. That is why a long chat stays quick.
#
# ## Build: your own sampler
#
# Who chose the words? Not the model. For each request it gives a row of numbers, the *logits*, one for each token of
# the vocabulary: the larger, the likelier it comes next. As probabilities, the first token of the fox's story:

# %%
from math import exp

asked = GenerationRequest(messages=chat(questions[0]), sampling=SamplingParams(max_tokens=1, logprobs=4))
for token_id, logprob in engine.generate_with_request(asked).top_logprobs[0]:
    print(f"{exp(logprob):>6.0%}  {tokenizer.decode([token_id])!r}")

# %% [markdown]
# A **sampler** chooses from them. Write one that takes the most likely token. `check` says whether it is right,
# `hint("00.4")` helps, and `solution("00.4")` shows an answer after a try. Once it is right, your sampler writes every
# word from there on; until then AstrAI's own takes its place, and a line says so.

# %% tags=["exercise", "00.4"]
from astrai.inference.request import Sampled


def most_likely(logits, requests):
    """``logits`` has a row for each request, and in it a number for each token of the vocabulary."""
    chosen = []
    for row in logits:
        # BEGIN SOLUTION
        token_id = int(row.argmax())
        # STUB: raise NotImplementedError  # token_id = ... the place of the largest number in this row, as an int
        # END SOLUTION
        chosen.append(Sampled(token_id))
    return chosen


# %%
check("00.4", most_likely)

# %%
from astrai.inference.sampler import Sampler

sampler = mine("00.4", most_likely, Sampler())
with astrai.InferenceEngine(model, tokenizer, num_slots=4, sampler=sampler) as your_engine:
    fox = your_engine.generate_with_request(GenerationRequest(messages=chat(questions[0]), sampling=sampling))
print("the same story as before:", fox.text == first.text)

# %% [markdown]
# ## Break: a name in the wrong place
#
# Your storyteller is to know whom it talks with. Somebody on the team adds the name, right at the front. The answers
# are fine, so nobody notices. What does the engine say?


# %%
def name_first(rules, name, question):
    return [{"role": "system", "content": f"You talk with {name}. {rules}"}, {"role": "user", "content": question}]


def three_users(make_messages):
    """Three users, one after the other, on a new engine that we turn by hand."""
    engine = astrai.InferenceEngine(model, tokenizer, num_slots=4, sampler=sampler, start=False)
    results = []
    for name, question in zip(["Ada", "Ben", "Clara"], questions):
        request = GenerationRequest(
            messages=make_messages(RULES, name, question), sampling=SamplingParams(max_tokens=9)
        )
        stream = engine.submit(request)
        while engine.scheduler.has_work:
            engine.scheduler.step()
        results.append(stream.result())
        print(f"{name:<6} {results[-1].cached_tokens:>3} of {results[-1].prompt_tokens} found in the cache")
    return engine, results


broken_engine, broken = three_users(name_first)
Frozen(broken_engine, parts=["tree"])

# %% [markdown]
# The tree branches at the name, and behind it the rules stand three times. A prefix cache compares from the front:
# after the first token that differs it finds nothing. A date or a request number at the front does the same; real
# services have lost their cache to one. Mend it: the same rules, the same name, the same question.


# %% tags=["exercise", "00.5"]
def make_messages(rules, name, question):
    # BEGIN SOLUTION
    system = f"{rules} You talk with {name}."
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]
    # STUB: raise NotImplementedError  # what name_first says, so that all users' prompts begin alike
    # END SOLUTION


# %%
check("00.5", make_messages)

# %%
from astrai.course.chapters.ch00_messages import well_ordered

mended_engine, mended = three_users(mine("00.5", make_messages, well_ordered))
Frozen(mended_engine, parts=["tree"])

# %% [markdown]
# ## Measure: what was it worth?
#
# One number says how well a prefix cache does, the **hit rate**: of all prompt tokens, the share that was found. Each
# result has `prompt_tokens` and `cached_tokens`.


# %% tags=["exercise", "00.6"]
def hit_rate(results):
    """The share of all prompt tokens, over all results, that was found in the cache: from 0 to 1."""
    # BEGIN SOLUTION
    found = sum(result.cached_tokens for result in results)
    return found / sum(result.prompt_tokens for result in results)
    # STUB: raise NotImplementedError  # add up before you divide
    # END SOLUTION


# %%
check("00.6", hit_rate)

# %%
from astrai.course.chapters.ch00_share import share_found

rate = mine("00.6", hit_rate, share_found)
print(f"name first: {rate(broken):.0%} found      name last: {rate(mended):.0%} found")

# %% [markdown]
# And in time? We measure the *time to first token*, from the moment a request is handed in, for prompts of four
# lengths: on an engine that has seen them before, and in turn on one that remembers nothing (`prefix_cache=False`).

# %%
from statistics import median

import torch

from astrai.course.charts import Chart

threads = torch.get_num_threads()
torch.set_num_threads(1)  # steadier times
with_cache = astrai.InferenceEngine(model, num_slots=4)
without = astrai.InferenceEngine(model, num_slots=4, prefix_cache=False)
lengths, found, computed = [75, 150, 300, 600], [], []


def first_token_ms(engine, length):
    prompt = (prompt_ids * 30)[:length]
    request = GenerationRequest(prompt, sampling=SamplingParams(max_tokens=1))
    return 1000 * engine.generate_with_request(request).ttft


first_token_ms(without, 600)  # the first of all is slower
for length in lengths:
    first_token_ms(with_cache, length)  # from here on it has seen this prompt
    times = [(first_token_ms(with_cache, length), first_token_ms(without, length)) for _ in range(5)]
    found.append(median(one for one, _ in times))
    computed.append(median(other for _, other in times))

with_cache.shutdown()
without.shutdown()
torch.set_num_threads(threads)
# %%
words = "the line of what was found stays low, the line of what was computed climbs with the prompt"
chart = Chart("Time to first token", "tokens in the prompt", "milliseconds", words)
chart.axes.plot(lengths, computed, label="computed")
chart.axes.plot(lengths, found, label="found in the cache")
chart.axes.set_ylim(bottom=0)
chart

# %% [markdown]
# What is computed costs the more, the longer the prompt is. What is found costs hardly more for a long prompt than for
# a short one: only the last token is left to compute.
#
# ## The trace is the whole truth
#
# Each event in the trace is a small fact. Replaying them all gives the state that the engine is in, and replaying the
# first few the state it was in then. All pictures of the runs on this page are made from that.

# %%
from astrai.inference.witness import take_snapshot
from astrai.trace.replay import replay

engine.shutdown()
replay(engine.trace) == take_snapshot(engine.scheduler)

# %% [markdown]
# ## Can you say why?

# %%
quiz("00")

# %% tags=["volatile"]
progress()

# %% [markdown]
# ## As a film
#
# Six films come with the course; four of them can play **your** run. This is a frame of the one about the five layers.
# To render one, take a `#` away and run the cell below it, or say `astrai render Architecture` in a terminal.

# %%
from astrai.films.stills import Stills

Stills("Architecture")

# %%
# astrai.film("Architecture")
# astrai.film("TheWholeLoop", trace=engine.trace)

# %% [markdown]
# ## Where this lives
#
# | what you saw | class | file |
# |---|---|---|
# | chatting | `InferenceEngine`, `GenerationRequest` | `astrai/inference/engine.py` |
# | the four phases | `InferenceScheduler` | `astrai/inference/scheduler.py` |
# | the tree, and who gets which slot | `RadixTree`, `PrefixCacheManager` | `astrai/inference/cache/` |
# | choosing a token | `Sampler` | `astrai/inference/sampler.py` |
# | the trace | `EventLog`, `Replayer` | `astrai/trace/` |
# | the live picture | `Dashboard` | `astrai/widgets/picture.py` |
# | the film | `Architecture` | `animations/architecture.py` |
#
# **What others do.** vLLM and SGLang are engines for large installations. There the KV cache is cut into small pages or
# single token positions, and a request owns a list of them; a *slot* there means one token's position. Here a slot is a
# request's whole row, which wastes some memory and can be drawn on paper. SGLang finds shared prefixes with a radix
# tree, as AstrAI does; vLLM looks pages up by a hash of what they hold. Both compare from the front, so a name at the
# front costs them what it costs here.
#
# ## The course
#
# Go on where you like: each chapter stands for itself.

# %%
course_map()
