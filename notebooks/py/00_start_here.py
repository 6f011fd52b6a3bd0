# %% [markdown]
# # Start here: one request through five layers
#
# A language model writes one token at a time. *Serving* it means doing that for many people at once, on one machine,
# computing as little as possible twice. In this notebook you run a complete serving engine, watch requests pass through
# it, and see in pictures what it remembered and what it had to compute.
#
# | | |
# |---|---|
# | **You will have** | chatted with a model, foretold what its engine does next, and put a part of your own into it |
# | **Time** | a quarter of an hour up to *Build*, half an hour in all, as long again for the exercises |
# | **You need** | a little Python; nothing of what follows is assumed |
# | **Device** | a CPU is enough; a CUDA GPU is used if there is one, and a cell below says so |
#
# Run a cell with Shift+Enter. All pictures of runs come from real runs, nothing is simulated: change a prompt, and they
# change with it. If something is missing, `astrai doctor` in a terminal says what.

# %% [markdown]
# ## The map
#
# The engine has five layers. A request goes down through them, tokens come back up. Beside them runs the *trace*: it
# notes each thing that the engine does, so that we can read and draw it later. Today you stand at the second layer, the
# `InferenceEngine`, and look down. Do not mind the other names: each is explained where it is first needed. A chapter
# whose number is a link is there, the others are still to be written.

# %%
from astrai.course.contents import course_map, layer_map
from astrai.course.stills import FiveLayers, Frozen, SlotsOverTime, TraceTable

display(FiveLayers())
layer_map()

# %% [markdown]
# ## A model
#
# AstrAI brings a small model along. It is a real transformer of the same design as the large ones, trained on made-up
# conversations in very simple English: it tells short stories about animals and knows nothing of our world.

# %%
import astrai
from astrai import GenerationRequest, SamplingParams

model, tokenizer = astrai.load("tiny")
size = f"{model.config.num_parameters:,} parameters in {model.config.num_layers} blocks"
print(f"{size}, on device {model.device.type!r}")

# %% [markdown]
# To read the code of a layer, import its class by the path of its file, with dots, and put two question marks behind
# it: `from astrai.inference.engine import InferenceEngine`, and in a cell of its own `InferenceEngine??`.
#
# A model reads and writes *tokens*: numbers that stand for pieces of text. A conversation begins with a *system
# message*, our rules for the model; then comes what the user says. All that is sent to the model is the *prompt*. Signs
# such as `<|user|>` say who speaks, and a person's text can never contain them. The last one, `<|assistant|>`, is the
# sign for the model to speak, and with `<|end|>` it ends its answer.

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
# What the model computes for a token, and later tokens need of it, are its keys and values: the **KV**. Keeping them is
# the difference between computing each token once and computing all of them again for each new one. Before the first
# request arrives, the engine sets memory aside for this *cache*: `num_slots` rows. A **slot** is the whole row of one
# request.
#
# `submit` hands a request in and returns at once with a stream: iterating over it gives pieces of text as the engine
# makes them. An answer ends where the model says so (`'stop'`), or after `max_tokens` (`'length'`).

# %%
engine = astrai.InferenceEngine(model, tokenizer, num_slots=4)
print(f"{engine.config.num_slots} slots of {engine.max_seq_len:,} tokens each")
print(f"{engine.stats().kv_cache_bytes / 2**20:.0f} MiB set aside for their keys and values")

# %%
sampling = SamplingParams(max_tokens=120)  # temperature 0: always the most likely token
stream = engine.submit(GenerationRequest(messages=chat("Tell me a story about a fox."), sampling=sampling))
for piece in stream:
    print(piece, end="", flush=True)

first = stream.result()
print("\n")
print(first.prompt_tokens, "prompt tokens,", first.cached_tokens, "of them found in the cache")
print(first.completion_tokens, "tokens written; it ended with", repr(first.finish_reason))

# %% [markdown]
# ## What the engine did
#
# The engine works in **steps**. Each step has four phases, always in this order; one with nothing to do leaves no line.
#
# | phase | what happens |
# |---|---|
# | **cleanup** | finished requests give their slots back; new ones join the queue |
# | **refill** | waiting requests get slots, after a look at what the cache already holds |
# | **prefill** | the prompts of new requests are computed, many tokens at once |
# | **decode** | each running request gets one more token |
#
# Here are the first two steps of your chat, as the trace noted them. A *forward pass* is one run through the model.
# Leave the small signs for later chapters: `v1` here, ticks and locks in the pictures.


# %%
def text_of(token_ids):
    return tokenizer.decode(token_ids, skip_special=False)


TraceTable([record for record in engine.trace.records if record.step <= 2], decode=text_of)

# %% [markdown]
# From the top: the request joins the queue, owns a slot, its prompt is computed in one go, and that gives the first
# token already. From then on each decode adds one. A *node* is the cache's note of which tokens a slot holds: it is
# what later requests are compared with.
#
# A token is chosen first and read by the model after that, in the next decode; only then is its KV in the slot. So the
# newest token of an answer is not in it yet, and the very last one (here the sign `<|end|>`) never gets in.
#
# Now you. Run the next cell, type your answer, press *Keep my answer*; only then run the one below it. Nothing waits
# for you, and nobody else sees your answer.

# %%
from astrai.course import check, hint, mine, predict, progress, quiz, reveal, solution

predict("00.1", "You send the same request again. How many of its prompt tokens must be computed?", unit="tokens")

# %%
request = GenerationRequest(messages=chat("Tell me a story about a fox."), sampling=sampling)
again = engine.generate_with_request(request)
print("the same answer as before:", again.text == first.text)
reveal("00.1", again.prompt_tokens - again.cached_tokens)

# %% [markdown]
# The first request had ended and its slot was free, but what it had computed was still there, and the engine found it.
# The last prompt token is always computed: the first token of the answer is chosen from what the model makes of it.
#
# ## Three at once
#
# Three requests arrive together. All begin with the same system message. With `start=False` an engine does not run by
# itself: we turn its loop by hand, two steps, and look at what it was like after the first.

# %%
import time

three = astrai.InferenceEngine(model, tokenizer, num_slots=4, start=False)
questions = ["Tell me a story about a fox.", "Tell me a story about a kite.", "Tell me a story about a fox and a boat."]


def slowly(token_id):
    time.sleep(0.01)  # after each token: this model writes faster than one can look


asked = [GenerationRequest(messages=chat(text), sampling=sampling, on_token=slowly) for text in questions]
streams = [three.submit(request) for request in asked]
three.scheduler.step()
three.scheduler.step()
Frozen(three, step=1)

# %% [markdown]
# Above are the slots: of request 0 the prompt is computed (**P**, prefilled), and the first token of its answer read
# (**D**, decoded). *Miss*, or ∅, says that nothing was found in the cache for it; a *hit* is when something was. Below
# is the tree: which text is in which slots. Requests 1 and 2 have no slot yet, although three are free: the engine
# holds them back on purpose.

# %%
computes = [
    "Both prompts, each from its first token on",
    "Of each prompt only what request 0 does not have",
    "Nothing: both go on waiting for request 0 to end",
]
predict("00.2", "What did step 2 compute of the prompts of requests 1 and 2?", computes)

# %%
did = {type(record.event).__name__ for record in three.trace.records if record.step == 2}
reveal("00.2", computes[1] if "PrefixCopied" in did else computes[0] if "Prefilled" in did else computes[2])

# %%
Frozen(three, step=2)

# %% [markdown]
# This is the **prefix cache**; a *prefix* is a common beginning. **C** is what was copied: requests 1 and 2 computed
# only what was their own. They were held for one step, until the beginning that they share was there; it was copied,
# since slot 0 is in use. In the tree it stands once, with three slots that hold it, and branches where the prompts
# differ.
#
# Now the engine goes on by itself, in slow motion, and `astrai.watch` shows it while it works. (In JupyterLab, that is;
# on GitHub the next cell stays empty.) The cell returns at once, since the engine runs on a thread of its own. Point at
# a row, or go through it with the arrow keys, to see its tokens. **Rewind this run** lets you go back and forth in it;
# the engine goes on.

# %% tags=["live", "volatile"]
display(astrai.watch(three))
three.daemon.start()

# %%
three.daemon.start()  # in case it does not run yet; a second start does nothing
for text, stream in zip(questions, streams):
    result = stream.result()
    print(f"{text}\n{result.text}")
    print(f"   ({result.prompt_tokens} prompt tokens, {result.cached_tokens} of them from the cache)\n")

# %% [markdown]
# ## Stop the film
#
# The trace holds the whole run, so we can stop at any step of it. Here is the one in which the first of the three
# ended.

# %%
from astrai.trace.events import RequestFinished, TokensDecoded

three.daemon.start()
stories = [stream.result() for stream in streams]  # waits for those that still run
end = next(record for record in three.trace.records if isinstance(record.event, RequestFinished))
print(f"request {end.event.request_id} got its last token in step {end.step}")
Frozen(three, step=end.step, parts=["slots"])

# %%
predict("00.3", f"How many tokens will step {end.step + 1} write, for all requests together?", unit="tokens")

# %%
after = [record.event for record in three.trace.records if record.step == end.step + 1]
reveal("00.3", sum(len(event.token_ids) for event in after if isinstance(event, TokensDecoded)))

# %% [markdown]
# Cleanup comes first: the ended request gives its slot back, then decode gives one token to each of the others. Nobody
# waits for a whole batch to end. This is **continuous batching**: requests come and go between two steps.
#
# What of the row that was freed? You answer the first story. As every chat client does, we send the whole conversation
# again: the system message, your question, the model's story, and your new sentence.

# %%
costs = [
    "All of it, as it is a new request with a longer prompt",
    "The story and what follows, as only the prompt was kept",
    "What is new, as the story was kept while it was written",
]
predict("00.4", "The conversation is sent again. What of it must be computed?", costs)

# %%
three.daemon.start()
conversation = [*chat(questions[0]), {"role": "assistant", "content": stories[0].text}]
conversation += [{"role": "user", "content": "Give the story a title."}]
title = three.generate_with_request(GenerationRequest(messages=conversation, sampling=sampling))
in_story = title.cached_tokens > stories[0].prompt_tokens
reveal("00.4", costs[2] if in_story else costs[1] if title.cached_tokens else costs[0])

# %%
print(title.text)
print("found in the cache:", title.cached_tokens, "of", title.prompt_tokens)
SlotsOverTime(three.trace)

# %% [markdown]
# Time goes from left to right, one column a step. Each lane is a slot that fills with tokens from below; faded means
# free, but remembered. In slot 0 stands **R**: *reused in place*. The slot that held the conversation was free, so the
# new request took it over as it stood, without copying a byte, and computed only the new sentence and the signs around
# it. In place only since nothing in the slot would be lost; else the common part is copied. That is why a long chat
# stays quick, as long as nobody else needed its slot.
#
# ## Build: your own sampler
#
# Who chose the words? Not the model. For each request it gives a row of numbers, the *logits*, one for each token of
# the vocabulary: the larger, the likelier it comes next. As probabilities, the first token of the fox's story:

# %%
from math import exp

one_token = GenerationRequest(messages=chat(questions[0]), sampling=SamplingParams(max_tokens=1, logprobs=4))
for token_id, logprob in engine.generate_with_request(one_token).top_logprobs[0]:
    print(f"{exp(logprob):>6.0%}  {tokenizer.decode([token_id])!r}")

# %% [markdown]
# **00.5** Write a *sampler*, which chooses from them: one that takes the most likely token. It gets the `logits`, a
# PyTorch tensor with a row for each request, and returns a list with a `Sampled(token_id)` for each. A row is a tensor
# too: `row.max()` is its largest number and `row.argmax()` the place where that stands, each still a tensor; `int(...)`
# makes a number of it. Or do without, with `row.tolist()`.
#
# `check` says whether it is right, `hint("00.5")` helps, and `solution("00.5")` shows an answer after a try. Once it is
# right, your sampler writes all that follows up to *Measure*; until then AstrAI's own takes its place, and a line says
# so.

# %% tags=["exercise", "00.5"]
from astrai.inference.request import Sampled


def most_likely(logits, requests):
    """A row of ``logits`` holds a number for each token of the vocabulary; a token's id is its place in the row."""
    chosen = []
    for row in logits:
        # BEGIN SOLUTION
        token_id = int(row.argmax())
        # STUB: raise NotImplementedError  # set token_id to the place of the largest number in this row, as an int
        # END SOLUTION
        chosen.append(Sampled(token_id))
    return chosen


# %%
check("00.5", most_likely)

# %%
from astrai.inference.sampler import Sampler

sampler = mine("00.5", most_likely, Sampler())
with astrai.InferenceEngine(model, tokenizer, num_slots=4, sampler=sampler) as your_engine:
    fox = your_engine.generate_with_request(GenerationRequest(messages=chat(questions[0]), sampling=sampling))
print("the same story as before:", fox.text == first.text)

# %% [markdown]
# ## Break: a name in the wrong place
#
# Your storyteller is to know whom it talks with. Somebody on the team adds the name, right at the front. The answers
# are fine, so nobody notices. Three users ask, one after the other. What does the engine say?

# %%
from astrai.course.chapters.ch00_runs import three_users


def name_first(rules, name, question):
    return [{"role": "system", "content": f"You talk with {name}. {rules}"}, {"role": "user", "content": question}]


broken_engine = astrai.InferenceEngine(model, tokenizer, num_slots=4, sampler=sampler, start=False)
broken = three_users(broken_engine, name_first, RULES, questions)
Frozen(broken_engine, parts=["tree"])

# %% [markdown]
# The tree branches at the name, and behind it the rules stand three times. A prefix cache compares from the front:
# after the first token that differs it finds nothing. A date or a request number at the front does the same; real
# services have lost their cache to one.
#
# **00.6** Write `make_messages`, which mends it. Like `name_first` it gets the rules, a name and a question, all of
# them text, and returns a list of messages that says all three: but so that the prompts of all users begin alike, for
# as long as possible.


# %% tags=["exercise", "00.6"]
def make_messages(rules, name, question):
    # BEGIN SOLUTION
    system = f"{rules} You talk with {name}."
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]
    # STUB: raise NotImplementedError  # return the list of messages: what name_first says, in a better order
    # END SOLUTION


# %%
check("00.6", make_messages)

# %%
from astrai.course.chapters.ch00_messages import well_ordered

better = mine("00.6", make_messages, well_ordered)
mended_engine = astrai.InferenceEngine(model, tokenizer, num_slots=4, sampler=sampler, start=False)
mended = three_users(mended_engine, better, RULES, questions)
Frozen(mended_engine, parts=["tree"])

# %% [markdown]
# ## Measure: what was it worth?
#
# One number says how well a prefix cache does, the **hit rate**: of all prompt tokens, the share that was found.
#
# **00.7** Write `hit_rate`. It gets a list of results, each with its `prompt_tokens` and its `cached_tokens`, and
# returns one number from 0 to 1 for all of them together.


# %% tags=["exercise", "00.7"]
def hit_rate(results):
    """The share of all prompt tokens, over all results, that was found in the cache: from 0 to 1."""
    # BEGIN SOLUTION
    found = sum(result.cached_tokens for result in results)
    return found / sum(result.prompt_tokens for result in results)
    # STUB: raise NotImplementedError  # return the share; add up before you divide
    # END SOLUTION


# %%
check("00.7", hit_rate)

# %%
from astrai.course.chapters.ch00_share import share_found

rate = mine("00.7", hit_rate, share_found)
print(f"name first: {rate(broken):.0%} found      name last: {rate(mended):.0%} found")

# %% [markdown]
# And in time? We measure the *time to first token*, from the moment a request is handed in, for prompts of four
# lengths: on an engine that has seen each before, and in turn on one that remembers nothing (`prefix_cache=False`).
# Each point is the fastest of ten, so that whatever else your machine is busy with counts for little.

# %%
from astrai.course.chapters.ch00_runs import first_token_ms
from astrai.course.charts import Chart

remembers = astrai.InferenceEngine(model, num_slots=4, start=False)
forgets = astrai.InferenceEngine(model, num_slots=4, start=False, prefix_cache=False)
lengths = [75, 150, 300, 600]
times = [first_token_ms([remembers, forgets], (prompt_ids * 30)[:length]) for length in lengths]
found, computed = zip(*times)

words = "the line of what was found stays low, the line of what was computed climbs with the prompt"
chart = Chart("Time to first token", "tokens in the prompt", "milliseconds", words)
chart.axes.plot(lengths, computed, label="computed")
chart.axes.plot(lengths, found, label="found in the cache")
chart.axes.set_ylim(bottom=0)
chart

# %% [markdown]
# On a CPU what is computed costs the more, the longer the prompt is. What is found costs hardly more for a long prompt
# than for a short one: only the last token is left to compute.
#
# ## The trace is the whole truth
#
# Each event in the trace is a small fact. Replaying them all gives the engine's whole bookkeeping: queue, slots and
# tree (not the numbers in the KV cache). Replaying the first few gives what it was then: all pictures of runs on this
# page are made from that. Does it agree with the engine itself?

# %%
from astrai.inference.witness import take_snapshot
from astrai.trace.replay import replay

replay(mended_engine.trace) == take_snapshot(mended_engine.scheduler)

# %% [markdown]
# ## Can you say why?
#
# Take your time. Each answer is explained, the wrong ones too.

# %%
quiz("00")

# %% [markdown]
# What you have done so far, in all chapters, is kept in `.astrai-progress.json` beside this notebook. Run the next cell
# again whenever you like.

# %% tags=["volatile"]
progress()

# %% [markdown]
# ## As a film
#
# This is a frame of a film about the five layers. It shows a model of 1B parameters; yours is of the same design,
# smaller. To render it, take the first `#` of the next cell away, or say `astrai render Architecture` in a terminal;
# another film can play **your** run. It needs `pip install 'astrai[video]'` (an error names what else is missing) and
# a few minutes, and the video is put into a folder `films`.

# %%
from astrai.films.stills import Stills

Stills("Architecture")
# astrai.film("Architecture")
# astrai.film("TheWholeLoop", trace=three.trace)

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
# request's whole row: a short request occupies all of it, which is dear, but can be drawn on paper. SGLang finds shared
# prefixes with a radix tree, as AstrAI does; vLLM looks pages up by a hash of their tokens and of all that stands
# before them, whole pages only (16 tokens is usual). Both compare from the front, so a name at the front costs them
# what it costs here.
#
# ## The course
#
# Go on where you like: each chapter needs only this one. If in doubt, take
# [08, One buffer, many slots](08_one_buffer_many_slots.ipynb).

# %%
course_map()
