# %% [markdown]
# # The four phases
#
# An engine that serves many people decides again and again: who computes now, who waits, who is done? The part that
# decides is the *scheduler*, and all it needs are four small phases. In this chapter you play it with cards, then you
# write it yourself and run the engine on it.
#
# | | |
# |---|---|
# | **You will have** | written the heart of a serving engine's loop, and measured what a bad one costs |
# | **Time** | about an hour; the cells themselves run in well under a minute |
# | **You need** | notebook 00, and Python with classes; no other chapter |
# | **Device** | a CPU is enough; a CUDA GPU is used if there is one |

# %%
import astrai
from astrai import GenerationRequest, InferenceEngine, SamplingParams
from astrai.course import check, mine, predict, quiz, reveal

model, tokenizer = astrai.load("tiny")
print("This runs on:", next(model.parameters()).device)

# %% [markdown]
# ## What you need to remember
#
# - A model reads **tokens** and writes one more. Each token that it has read leaves keys and values, the **KV**.
#   Every later token needs them, so they are kept.
# - A **slot** is one request's whole row in the memory for KV. There are only so many, and a request without a slot
#   waits.
# - **Prefill** computes a prompt, many tokens in one go, and its last token gives the first token of the answer.
#   **Decode** feeds the newest token of each running request and gives the next one. One call of the model, over
#   however many tokens, is a **forward**.
#
# The engine's loop turns in **steps**, and each step has four phases. Here it is, as it stands in the package
# (`start_step` only counts the turn):

# %%
import inspect

from astrai.inference.scheduler import InferenceScheduler

print(inspect.getsource(InferenceScheduler.step))

# %% [markdown]
# ## On paper
#
# Take three cards, one for each request, and two coins for the slots. All three requests arrive before step 1. In
# each step go through the phases in this order:
#
# 1. **cleanup**: new requests join the queue; whoever has ended gives the coin back.
# 2. **refill**: as long as a coin is left, the first in the queue takes it. That is to *admit* a request.
# 3. **prefill**: whoever got a coin just now reads the prompt, and writes the **first** token of the answer.
# 4. **decode**: everybody with a coin and a prompt that is read writes **one more** token, also those of phase 3.
#    Whoever has written the whole answer has *ended*, but holds the coin until the next cleanup.
#
# | card | tokens of the answer | step 1 | step 2 | step 3 | step 4 |
# |---|---|---|---|---|---|
# | request 0 | 3 | | | | |
# | request 1 | 6 | | | | |
# | request 2 | 4 | | | | |
#
# Write into each field how many tokens the request writes in that step. The first two fields of request 0 are 2 and
# 1: it has a coin from the start, so in step 1 it writes its first token in prefill and one more in decode.

# %%
predict("10.1", "In which step does request 2 write its first token?")

# %% [markdown]
# Now the same three on the real engine. `start=False` keeps its loop from turning by itself, and a `SchedulerStepper`
# turns it by hand: a whole step, or one phase. The cell runs the four steps of your table. (`prefix_cache=False`:
# nobody takes over what others have computed; we switch that on later. `timings=False`: the picture counts tokens,
# not milliseconds.)

# %%
from astrai.trace.events import FirstTokenSampled
from astrai.widgets.stepping.stepper import SchedulerStepper


def steps_of(log, kind):
    """In which step each event of a kind happened, by request."""
    return {record.event.request_id: record.step for record in log.records if isinstance(record.event, kind)}


paper = InferenceEngine(model, tokenizer, num_slots=2, prefix_cache=False, start=False)
cards = SchedulerStepper(paper, timings=False)
for prompt, length in [("Once upon a time", 3), ("The fox", 6), ("A little mouse", 4)]:
    cards.add(prompt, max_tokens=length)
cards.step(4)
reveal("10.1", steps_of(paper.trace, FirstTokenSampled)[2])

# %%
cards

# %% [markdown]
# In JupyterLab this is alive. Click on it and press Home to go back to the start, then the right arrow key to go
# through all phases; the marked lines of the source are those at work. S turns the loop one step further, and Fork,
# at the bottom, repeats the run under other settings.
#
# The engine writes down all that happens, one event after the other: that is its *trace*. Here is step 3 of it.

# %%
from astrai.course.stills import SlotsOverTime, TraceTable


def text_of(token_ids):
    return tokenizer.decode(token_ids, skip_special=False)


TraceTable([record for record in paper.trace.records if record.step == 3], decode=text_of)

# %% [markdown]
# (`v1` and `v2` count how often the slot was handed out.) Your table should read 2, 1 for request 0; 2, 1, 1, 1 for
# request 1; and for request 2 nothing twice, then 2, 1.
#
# Two things are easily got wrong. In step 1 the requests 0 and 1 write **two** tokens, one in prefill and one in
# decode. And request 0 ends in the decode of step 2, but its slot changes hands in step 3: cleanup takes it back, and
# refill, the very next phase, gives it away. No step is lost between the two.
#
# ## The naive way: static batching
#
# For a long time language models were served like any other network: collect a **batch** of requests, run it until
# all have ended, collect the next. In our loop that is one `if`: no refill while anybody still runs.
#
# We try it on twelve chats and four slots, all handed in at the same moment. Each answer has a fixed length
# (`ignore_eos` lets the model write on where it would like to stop), so you can count in your head. `run` hands all
# in and turns the loop until all have ended; you will use it throughout this chapter.


# %%
class StaticScheduler(InferenceScheduler):
    """Fills all slots at once, and again only when everybody has ended."""

    def refill(self):
        if not self.running:
            super().refill()


# %%
ANIMALS = ["fox", "kite", "cat", "frog", "boat", "bear", "goat", "mouse", "duck", "dog", "hen", "owl"]
LENGTHS = [16, 3, 5, 4, 3, 12, 4, 6, 5, 3, 18, 4]
twelve = [(f"Tell me a story about a {animal}.", length) for animal, length in zip(ANIMALS, LENGTHS)]


def ask(engine, text, length):
    """Hand in one chat. It returns at once, with a stream that will have the answer."""
    sampling = SamplingParams(max_tokens=length, ignore_eos=True)
    return engine.submit(GenerationRequest(messages=[{"role": "user", "content": text}], sampling=sampling))


def run(chats, **settings):
    """Hand all chats in, and turn the loop until they have ended: the engine, and the answers."""
    engine = InferenceEngine(model, tokenizer, start=False, **settings)
    streams = [ask(engine, text, length) for text, length in chats]
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return engine, [stream.result().text for stream in streams]


# %%
predict("10.2", "Static batching: the first four are the first batch. In which step does the last of the twelve end?")

# %%
from astrai.trace.events import RequestFinished

static, static_answers = run(twelve, scheduler=StaticScheduler, num_slots=4, prefix_cache=False)
continuous, answers = run(twelve, num_slots=4, prefix_cache=False)  # the package's own scheduler
print("the same answers:", static_answers == answers)
reveal("10.2", max(steps_of(static.trace, RequestFinished).values()))

# %% [markdown]
# A batch lasts as long as its longest answer. One of 16 tokens takes 15 steps, so: 15 + 11 + 17.
#
# The package's own scheduler refills in every step: that is **continuous batching**. Below we count both, and draw
# them: the static run, and under it the continuous one. Each lane is a slot that fills with tokens from below, each
# column is a step. Where a lane is empty, nobody uses the slot.
#
# > **Predict.** Where will lanes still be empty in the second picture?

# %%
from astrai.trace.events import TokensDecoded

print("             last step   forwards of decode   tokens per forward")
for name, served in [("static", static), ("continuous", continuous)]:
    decodes = [record.event for record in served.trace.records if isinstance(record.event, TokensDecoded)]
    forwards = sum(len(event.groups) for event in decodes)  # a group is one forward
    tokens = sum(len(event.token_ids) for event in decodes)
    last_step = max(steps_of(served.trace, RequestFinished).values())
    print(f"{name:<12}{last_step:>10}{forwards:>21}{tokens / forwards:>21.2f}")

display(SlotsOverTime(static.trace), SlotsOverTime(continuous.trace))

# %% [markdown]
# Only at the end, when the queue is empty, is there nothing to fill the slots with. The same tokens come from fewer
# forwards, and a forward over four rows costs much less than four forwards over one: the fixed cost of a call, and on a
# large model above all the reading of its weights, is paid once for all rows.
#
# And in time? `fastest` runs both in turn, three times each, and keeps the fastest times: those that the rest of your
# machine disturbed least.

# %%
from astrai.course.chapters.ch10_measuring import fastest
from astrai.course.charts import Chart


def times_of_ends(scheduler):
    """Seconds from the start of a run to each end of a request."""
    records = run(twelve, scheduler=scheduler, num_slots=4, prefix_cache=False)[0].trace.records
    return [r.time - records[0].time for r in records if isinstance(r.event, RequestFinished)]


schedulers = {"static": StaticScheduler, "continuous": InferenceScheduler}
times = fastest({name: lambda kind=kind: times_of_ends(kind) for name, kind in schedulers.items()})
whole = times["static"][-1]  # the time that static batching takes

words = "a staircase for each way to serve twelve requests: how many have ended, against the time"
chart = Chart("Answers that are complete", x="time (static batching takes 1)", y="answers", words=words)
for name, ends in times.items():
    chart.axes.plot([0, *(end / whole for end in ends)], range(13), drawstyle="steps-post", label=name)
chart

# %% [markdown]
# Look at the flat stretches of the static curve: there the short answers of the next batch could be under way, but
# everybody waits for one long answer. And look at where each curve ends.
#
# Our static batching is even a kind one, since it does not compute rows that have ended. Hugging Face's `generate`
# over a batch goes on computing them, and throws the result away.
#
# ## Build it: refill
#
# Now you write the scheduler. `PlainScheduler` is the package's own, with a plain name for each thing that a phase
# may need. For refill these are:
#
# | | |
# |---|---|
# | `self.waiting` | the queue: a dictionary from a request's number to the request, in order of arrival |
# | `self.can_admit()` | is a slot free, so that one more may run? |
# | `self.must_hold(request)` | must this one wait, although a slot is free? |
# | `self.admit(request)` | give it a slot; this takes it out of `self.waiting` |
#
# Why hold somebody back? In notebook 00 three requests with the same beginning came at once. The first one computed
# it, and the other two were *held* for a step, so that they could take it over. `must_hold` answers just that: is
# another request computing, right now, a beginning that both share?
#
# **10.3** Write `refill`. It gets nothing but `self`, the scheduler, with the four things of the table, and it returns
# nothing: it admits. Your rule: first come, first served; a held request lets others pass; and no slot stays free in a
# step in which somebody could have it.

# %% tags=["exercise", "10.3"]
from astrai.course.chapters.ch10_scheduler import PlainScheduler


class MyRefill(PlainScheduler):
    def refill(self):
        with self.in_phase("refill"):  # tells the trace when the phase begins and when it ends
            # BEGIN SOLUTION
            for request in list(self.waiting.values()):  # a copy, since admit changes the queue
                if not self.can_admit():
                    break
                if not self.must_hold(request):
                    self.admit(request)
            # STUB: raise NotImplementedError  # who gets a slot, in which order, and when do you stop?
            # END SOLUTION


# %%
check("10.3", MyRefill)

# %% [markdown]
# The engine takes your class as it is. Three chats, two slots, and now with the prefix cache. Does your run go the
# way of the package's?
#
# > **Predict.** All three begin with the same words. Two slots are free in step 1. How many requests are admitted in
# > it?

# %%
from astrai.trace.events import PhaseStarted, PrefixCopied, RequestAdmitted, RequestHeld

Refill = mine("10.3", MyRefill, PlainScheduler)
refilled, its_answers = run(twelve[1:4], scheduler=Refill, num_slots=2)
package, package_answers = run(twelve[1:4], num_slots=2)

admitted = [steps_of(served.trace, RequestAdmitted) for served in (refilled, package)]
print("admitted in the same steps as by the package:", admitted[0] == admitted[1])
print("the same answers:", its_answers == package_answers)
kinds = PhaseStarted | RequestHeld | RequestAdmitted | PrefixCopied
display(TraceTable([record for record in refilled.trace.records if isinstance(record.event, kinds)]))
SlotsOverTime(refilled.trace)

# %% [markdown]
# One: the other two are held although a slot is free. In step 2 the beginning is there, and request 1 copies it
# instead of computing it: the piece with the letter C. A slot stood empty for one step, and a good part of a prompt
# was saved. (Request 2 gets request 0's slot in step 3, with the beginning still in it: R.)
#
# ## Build it: cleanup
#
# Clients live on other threads. They do not touch the scheduler; they drop notes into its **inbox**: a new request,
# or "cancel request 4". Cleanup is where the notes are read. What you may use:
#
# | | |
# |---|---|
# | `self.read_inbox()` | new requests join `self.waiting`; those that were cancelled, or whose time is up, are ended |
# | `self.running` | a dictionary of all requests that own a slot, in order of admission |
# | `request.is_finished` | has it ended, for whatever reason? |
# | `self.give_back(request)` | take it out of `self.running`, and free its slot |
#
# **10.4** Write `cleanup`. It too gets nothing but `self`, and returns nothing. After it all new requests wait in the
# queue, and whoever has ended, for whatever reason, owns a slot no more.


# %% tags=["exercise", "10.4"]
class MyScheduler(Refill):
    def cleanup(self):
        with self.in_phase("cleanup"):
            # BEGIN SOLUTION
            self.read_inbox()  # first, so that a cancelled request gives its slot back in this very step
            for request in list(self.running.values()):
                if request.is_finished:
                    self.give_back(request)
            # STUB: raise NotImplementedError  # read, then take slots back: whose?
            # END SOLUTION


# %%
check("10.4", MyScheduler)

# %% [markdown]
# With your two phases the engine serves the twelve chats again; prefill and decode stay as they are.
#
# > **Predict.** Which of the two pictures above will this one look like?

# %%
Scheduler = mine("10.4", MyScheduler, PlainScheduler)
served, my_answers = run(twelve, scheduler=Scheduler, num_slots=4, prefix_cache=False)

print("the same answers:", my_answers == answers)
print("the last one ends in step", max(steps_of(served.trace, RequestFinished).values()))
SlotsOverTime(served.trace)

# %% [markdown]
# The second one: same requests, same steps. You have written a continuous batching scheduler.
#
# ## Corner case: an answer that is already complete
#
# Somebody sends a chat in which the answer is already complete; only the special token that ends it is missing.
# Behind it waits a second request, and there is but one slot. To make such a chat, we let the engine write a story,
# and take off the last token.

# %%
question = [{"role": "user", "content": "Tell me a story about a fox."}]
with InferenceEngine(model, tokenizer, num_slots=1) as writer:  # this time its loop turns by itself
    asked = GenerationRequest(messages=question, sampling=SamplingParams(max_tokens=200))
    story = writer.generate_with_request(asked)  # waits for the whole answer
prompt_ids = tokenizer.apply_chat_template(question)  # the question, as the tokens that the model reads
complete = [*prompt_ids, *story.token_ids[:-1]]  # and behind it all of the answer but its last token
print("the token that ended the story:", repr(text_of(story.token_ids[-1:])))

# %%
predict("10.5", "A request comes with all but that token as its prompt. In how many decodes does it take part?")

# %%
whole = {"prefill_budget": 200, "prefix_cache": False}  # the prompt in one step, and all of it
crowded = InferenceEngine(model, tokenizer, num_slots=1, scheduler=Scheduler, start=False, **whole)
crowded.submit(GenerationRequest(complete))
ask(crowded, "Tell me a story about a hen.", 3)
while crowded.scheduler.has_work:
    crowded.scheduler.step()

decodes = [record.event for record in crowded.trace.records if isinstance(record.event, TokensDecoded)]
reveal("10.5", sum(0 in event.request_ids for event in decodes))

# %%
TraceTable([record for record in crowded.trace.records if record.step <= 2], decode=text_of)

# %% [markdown]
# Prefill gave the token that ends an answer, so the request ended before it ever decoded. Nobody else ran, so step 1
# has no decode at all, and the next cleanup gave the slot to the other request. A cleanup that looked only at what
# decode had ended would lose this slot for good. (A request with `max_tokens=1` goes the same way.)
#
# ## Corner case: the client goes away
#
# Two streams on two slots, and a third request waits. After step 3 the client of request 0 closes the browser, and
# the loop turns once more.

# %%
predict("10.6", "In which step is request 2 admitted?")

# %%
leaving = InferenceEngine(model, tokenizer, num_slots=2, prefix_cache=False, scheduler=Scheduler, start=False)
stepper = SchedulerStepper(leaving, timings=False)
for prompt in ("Once upon a time", "The fox", "A little mouse"):
    stepper.add(prompt, max_tokens=50)
stepper.step(3)
stepper.cancel(0)  # a note in the inbox: nothing else happens yet
stepper.step()
reveal("10.6", steps_of(leaving.trace, RequestAdmitted)[2])

# %% [markdown]
# Below is the moment after the cleanup of step 4, with the lines that you wrote (or the package's, as long as the
# exercise is open). The right arrow key shows the phases after it. Under the picture is the whole step in words.

# %%
stepper.goto_step(3)
stepper.forward()  # one phase further: the cleanup of step 4
display(stepper)
TraceTable([record for record in leaving.trace.records if record.step == 4], decode=text_of)

# %% [markdown]
# Cleanup read the note, ended the request and freed its slot; refill gave it away in the same step. So a cancelled
# request costs one step at most. No forward is broken off for it, since that forward also computes the tokens of
# others.
#
# ## Break it: only the largest group
#
# So far one decode was one forward for all rows, wherever they stood. That is not what one writes first. A row's
# *position* is the number of tokens in it (`request.context_len`), and a forward in which all rows are at the **same**
# position is simple: one length, one mask. One way out is to pad all rows to one length. Another is to sort them into
# groups by position and compute only the largest group, to make good use of each forward: at least one early engine
# did just that.
#
# People's prompts have different lengths. Here they are beginnings of one text, each a token shorter than the one
# before.
#
# > **Predict.** Four requests, each at another position, and all of them want eight tokens. How will their lanes
# > grow?


# %%
class LargestGroup(PlainScheduler):
    """Decodes the requests at the most common position, and no others."""

    def plan_groups(self, requests):
        at = {}  # position -> the requests that are there
        for request in requests:
            at.setdefault(request.context_len, []).append(request)
        return [max(at.values(), key=len)]


# %%
TEXT = tokenizer.encode("Once upon a time there was a little fox who lived in a hut near the big river")


def run_staggered(count, **settings):
    """Requests whose prompts have 16, 15, 14, ... tokens, all at once; each gets eight tokens."""
    settings |= {"num_slots": count, "prefill_budget": 200, "prefix_cache": False}  # all prompts fit in step 1
    engine = InferenceEngine(model, tokenizer, start=False, **settings)
    for number in range(count):
        sampling = SamplingParams(max_tokens=8, ignore_eos=True)
        engine.submit(GenerationRequest(TEXT[: 16 - number], sampling=sampling))
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return engine


SlotsOverTime(run_staggered(4, scheduler=LargestGroup).trace)

# %% [markdown]
# All four prompts were computed in step 1. Then one request runs to its end while the others, each with a slot and a
# first token, get nothing: they **starve**. All groups have one member, `max` takes the first of them, and in the
# next step it takes the same one again.
#
# How bad is it? `longest_wait` goes through a trace and counts, for each request, the steps from one token to its next
# one. It returns the largest of these counts.

# %%
from astrai.course.chapters.ch10_measuring import longest_wait

print("requests   longest wait, in steps")
for count in (1, 2, 4, 8):
    print(f"{count:>8}{longest_wait(run_staggered(count, scheduler=LargestGroup).trace):>25}")

# %% [markdown]
# It grows with every request that is there, and no error is seen anywhere. (Turn the order of the prompts around, and
# the damage is smaller: then the one that runs catches up with the next, and they go on together. Who starves is a
# matter of luck.)
#
# **10.7** Now mend it. `plan_groups` gets the list of all requests that may decode in this step, and returns a list of
# groups, each of them a list of requests; each group becomes one forward of this step. Everybody gets a token in
# **every** step, in as few forwards as possible, and no forward mixes positions.


# %% tags=["exercise", "10.7"]
class EveryGroup(PlainScheduler):
    def plan_groups(self, requests):
        at = {}  # position -> the requests that are there
        for request in requests:
            at.setdefault(request.context_len, []).append(request)
        # BEGIN SOLUTION
        return list(at.values())
        # STUB: return [max(at.values(), key=len)]  # the defect: mend this line
        # END SOLUTION


# %%
check("10.7", EveryGroup)

# %% [markdown]
# The package has this too, as `decode_policy="grouped"`. The other policy is **ragged** decoding, which is the
# default: one forward for all rows, each at its own position, with a mask that lets each row see exactly its own
# tokens.

# %%
Grouped = mine("10.7", EveryGroup, PlainScheduler)

print("requests   forwards in a decode: grouped   ragged")
for count in (2, 8):
    runs = [run_staggered(count, scheduler=Grouped, decode_policy="grouped"), run_staggered(count)]
    decodes = [next(r.event for r in e.trace.records if isinstance(r.event, TokensDecoded)) for e in runs]
    print(f"{count:>8}{len(decodes[0].groups):>32}{len(decodes[1].groups):>9}")

SlotsOverTime(run_staggered(4, scheduler=Grouped, decode_policy="grouped").trace)

# %% [markdown]
# All lanes grow together. The price of groups: one forward for each position.
#
# > **Predict.** Is a ragged decode of sixteen rows then sixteen times as quick as a grouped one?

# %%
from astrai.trace.events import PhaseEnded

counts = [1, 4, 16]


def decode_times(**settings):
    """The fastest decode phase, for each of the counts of requests."""
    logs = [run_staggered(count, **settings).trace for count in counts]
    ended = [[record.event for record in log.records if isinstance(record.event, PhaseEnded)] for log in logs]
    decodes = [[event.seconds for event in events if event.phase == "decode"] for events in ended]
    return [min(seconds[:-1]) for seconds in decodes]  # in the last step nobody is left to decode


# %%
grouped = {"scheduler": Grouped, "decode_policy": "grouped"}
times = fastest({"grouped": lambda: decode_times(**grouped), "ragged": decode_times}, rounds=2)

title = "One decode phase, every request at another position"
words = "time against the number of requests: a line for grouped and one for ragged decoding"
chart = Chart(title, x="requests", y="time (one request takes 1)", words=words)
for name, line in times.items():
    chart.axes.plot(counts, [time / times["ragged"][0] for time in line], label=name)
chart

# %% [markdown]
# The grouped line climbs with every request: one forward each. How much the ragged one climbs depends on the machine:
# on a GPU, with so few rows, hardly at all. Divide the two at sixteen. About sixteen means that a forward costs the
# same, however many rows it has; less means that each row has its price too.
#
# ## One long prompt stalls everybody
#
# One cause of waiting is left. Prefill comes before decode, and it may be large: two people are reading their answers
# while they are written, and a third one sends a prompt of 600 tokens. The next token of the two comes when all of it
# is computed.
#
# The cure is to cut the prompt into **chunks**. `prefill_budget` says how many prompt tokens one step may compute;
# the rest is computed in the steps that follow, and each of them has its decode. That is **chunked prefill**. What
# does it spare the streams, and what does it cost the prompt?

# %%
predict(
    "10.8",
    "600 tokens and a budget of 50. The step in which the prompt arrives is its step 1: "
    "in which of its steps does it have its first token?",
)


# %%
def run_with_long_prompt(budget):
    """Two streams; when they have run for five steps, request 2 comes with its 600 tokens."""
    engine = InferenceEngine(model, tokenizer, num_slots=3, prefix_cache=False, prefill_budget=budget, start=False)
    ask(engine, "Tell me a story about a fox.", 24)
    ask(engine, "Tell me a story about a hen.", 24)
    for _ in range(5):
        engine.scheduler.step()
    long_prompt = (TEXT * 40)[:600]
    engine.submit(GenerationRequest(long_prompt, sampling=SamplingParams(max_tokens=4, ignore_eos=True)))
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return engine


chunked = run_with_long_prompt(50)
reveal("10.8", steps_of(chunked.trace, FirstTokenSampled)[2] - 5)

# %%
from astrai.trace.events import Prefilled


def stall_and_cost(budget):
    """The most tokens of the long prompt in one step, and the steps from its arrival to its first token."""
    log = run_with_long_prompt(budget).trace
    chunks = [record.event for record in log.records if isinstance(record.event, Prefilled)]
    largest = max(chunk.end - chunk.start for chunk in chunks if chunk.request_id == 2)
    return largest, steps_of(log, FirstTokenSampled)[2] - 5


print("budget   prompt tokens that a stream waits for   first token in step")
for budget in (600, 200, 50):
    stall, steps = stall_and_cost(budget)
    print(f"{budget:>6}{stall:>39}{steps:>22}")
print("the budget of an engine that is told none:", continuous.scheduler.prefill_budget)

# %% [markdown]
# One number falls as the other rises.
#
# > **Predict.** Now a bar for each step of the run with a budget of 50: prompt tokens below (P), tokens of answers on
# > top of them (D). What do the steps look like in which the long prompt is computed?

# %%
from astrai.course.chapters.ch10_pictures import TokensPerStep

TokensPerStep(chunked.trace, "Tokens that each step computes, with a budget of 50")

# %% [markdown]
# Twelve steps with a chunk of the prompt, and in each of them both streams get their token. (In the last of the twelve
# the prompt is complete, so request 2 decodes too.) With the whole prompt in one go there would be a single bar of 600,
# and two people would wait for it.
#
# ## Measure it: two promises
#
# You run this engine, and you have promised two things. To the streams: never more than **100** prompt tokens between
# two of their tokens. To whoever sends 600 tokens: the first token in the **8th** step at the latest.
#
# **10.9** Choose a budget, a whole number of tokens, that keeps both promises. `stall_and_cost(budget)` measures it:
# try some in the cell above.
#
# Below the check you see it in time: for each token of request 0, how long its reader waited for it, with the whole
# prompt in one go and with your budget (with 80, as long as yours does not keep the promises).

# %% tags=["exercise", "10.9"]
# BEGIN SOLUTION
my_budget = 80
# STUB: my_budget = ...  # how many prompt tokens may one step compute?
# END SOLUTION

# %%
check("10.9", my_budget)


# %%
from statistics import median


def gaps_of(budget):
    """Seconds between the tokens of request 0, from its third token on."""
    records = run_with_long_prompt(budget).trace.records
    times = [r.time for r in records if isinstance(r.event, TokensDecoded) and 0 in r.event.request_ids]
    return [times[i + 1] - times[i] for i in range(1, len(times) - 1)]


budget = my_budget if check("10.9", my_budget) else 80
both = fastest({"in one go": lambda: gaps_of(600), "in chunks": lambda: gaps_of(budget)})

title = "Waiting for the next token while a long prompt arrives"
words = "the time before each token of a stream: a line for the prompt in one go, and one for the prompt in chunks"
chart = Chart(title, x="token of request 0", y="time (the usual gap is 1)", words=words)
for name, gaps in both.items():
    usual = median(gaps[-8:])
    chart.axes.plot(range(4, 4 + len(gaps)), [gap / usual for gap in gaps], label=name)
chart.axes.locator_params(axis="x", integer=True)
chart

# %% [markdown]
# One peak against a hill. Below both lies much the same area, since the same tokens are computed (a little more in
# chunks: each call has its fixed cost, and each chunk reads the KV of the chunks before it). But a peak is a stream
# that hangs, and a hill is one that goes on, only slower for a moment.
#
# ## As a film
#
# Any run, with static batching above and continuous batching below, step by step. Here is a frame. (In its run the
# requests share a beginning and the prefix cache is on: so the requests 1 and 2 are held for a step, in both halves.)
# To see the twelve chats of this page, take the `#` away; it takes about half a minute, and needs the extra
# `astrai[video]`.

# %%
from astrai.films.stills import Stills

# astrai.film("FourPhases", trace=continuous.trace)
Stills("FourPhases")

# %% [markdown]
# ## Do you remember?

# %%
quiz("10")

# %% [markdown]
# ## Where this lives
#
# | what you built or saw | where it is |
# |---|---|
# | the loop and its four phases | `InferenceScheduler` in `astrai/inference/scheduler.py` |
# | the inbox | `Inbox` in `astrai/inference/inbox.py` |
# | what a request knows of itself | `Request` in `astrai/inference/request.py` |
# | grouped and ragged forwards | `TransformerRunner` in `astrai/inference/runner.py` |
# | `PlainScheduler` | `astrai/course/chapters/ch10_scheduler.py` |
# | the stepper | `SchedulerStepper` in `astrai/widgets/stepping/stepper.py` |
#
# The package's refill has one thing more than yours: it looks at no more than `lookahead` of the waiting requests in
# one step, so that a very long queue does not make the steps slower.
#
# **What others do.** Deciding anew in each step is the idea of Orca (Yu et al. 2022), where it is called
# iteration-level scheduling. Chunked prefill beside running decodes is the idea of Sarathi (Agrawal et al. 2023).
# vLLM's scheduler knows no prefill phase and no decode phase: each request has a number of tokens that are computed
# and a number that should be, and each step hands out one budget of tokens, to running requests first. So prompts and
# answers share a forward. Memory is given out in small blocks (*pages*) while a request grows; it can run out, and then
# a running request is put back into the queue (*preempted*). SGLang takes running requests back too (it *retracts*
# them). With a whole slot for each request, as here, that cannot happen. The price: every slot is reserved in full
# length, though most answers are short; so fewer requests fit into the same memory. That is why vLLM and SGLang use
# pages. SGLang runs either a prefill batch or a decode batch at a time, prefill first if somebody waits; an option
# mixes chunks of prompts with the decodes.
