# %% [markdown]
# # Slot versions: the ghost prefix
#
# Somebody makes a note: *slot 0 holds the story of the fox*. Later the slot is given away and written over. The note is
# still there, and it still looks right. In this chapter such a note does harm that nobody notices, and you write the
# check that stops it: a comparison of two numbers.
#
# | | |
# |---|---|
# | **You will have** | seen a ghost in real text, written the version check that stops it, and mended a real defect |
# | **Time** | 60 minutes; the cells themselves run in well under a minute |
# | **You need** | notebook 00, Python, a little PyTorch |
# | **Device** | a CPU is enough; the first cell says what you are running on |

# %%
import inspect
import math

import torch

import astrai
from astrai import GenerationRequest, InferenceEngine, SamplingParams
from astrai.course import check, hint, mine, predict, quiz, reveal, solution

model, tokenizer = astrai.load("tiny")
print("running on:", model.device.type)

# %% [markdown]
# **What you need from notebook 00.** For each token, a model computes numbers that later tokens will read: its keys and
# values, in short its **KV**. The engine keeps them. Each request owns a **slot**, one whole row of the two large
# tensors `k_cache` and `v_cache`. (When we think of the memory, we say *row*; it is the same thing.) **Prefill**
# computes the KV of a prompt, many tokens at once; **decode** then writes the answer, one token a step.
#
# When a request ends, its slot is free, but the KV stays in the row. If the next prompt begins with the same tokens,
# that part need not be computed: its **prefix** is found in the cache. This is where ghosts come from.
#
# ## 1. A ghost story, without an engine
#
# One row, one note, and two looks at whether anything has changed.

# %%
row_0 = "Tell me a story about a fox."  # written for Ann, who has left
state = "free"
memo, seen = "row 0 holds the fox", state  # Cleo has a look, and makes a note

row_0, state = "Tell me a story about a frog.", "Ben's"  # Ben is given the row, and writes over it
state = "free"  # Ben has left

print("is all as Cleo saw it?", state == seen)
print("the note says:        ", memo)
print("the row says:         ", row_0)

# %% [markdown]
# Nobody has touched the note, so it looks as good as new. And when Cleo looks again, the row is free, as it was. Free,
# Ben's, free: A, B, A. This is known as the **ABA problem**. Whoever compares now with then sees A twice and misses the
# B between them. The state came back; what it stood for did not.
#
# What never comes back is a count. So give each slot a number, its **version**, which is raised by one whenever the
# slot is handed out. And let each note say which version it saw. Slot and version together are called a **handle**. A
# handle whose version is no longer the slot's is **stale**.
#
# Here is the same with versions, and as a picture. Above stands what is in the slot, below what the note says, word for
# word.
#
# > **Predict.** Which words of the note will be marked **H** (it stands there), and which **E** (it does not)?

# %%
from astrai.course.stale_slot import Held, StaleSlot

version_of = [1]  # slot 0 was handed out once, to Ann
cleos_handle = (0, version_of[0])  # Cleo's note: slot 0, at version 1
version_of[0] += 1  # slot 0 is handed out again, to Ben

slot, seen_at = cleos_handle
print("the handle is", "still good" if seen_at == version_of[slot] else "stale")

StaleSlot(
    note=Held(seen_at, ["Tell", "me", "a", "story", "about", "a", "fox", "."]),
    row=Held(version_of[slot], ["Tell", "me", "a", "story", "about", "a", "frog", "."]),
    whose="Cleo's note",
)

# %% [markdown]
# The last one, the full stop, stands in both lines. Why is it E all the same? Because a slot does not hold words. It
# holds KV, and what a layer computes for a token depends on all the tokens before it: a full stop after *frog* is not
# the full stop after *fox*. Very soon you will see that in the numbers.
#
# ## 2. The same story on the real engine
#
# Ann asks for a story about a fox. When she has it, Ben asks for a frog, and in the same moment Cleo asks for a fox, as
# Ann did. There is one slot, so Cleo has to wait for Ben. (The film at the end of this chapter tells it with the same
# people and the same words.)

# %%
FOX, FROG = "Tell me a story about a fox.", "Tell me a story about a frog."


def ask(engine, *questions, max_tokens=16):
    """Hand in some questions in one go, and step the engine by hand until all are answered."""
    sampling = SamplingParams(max_tokens=max_tokens)  # 16 tokens are the first sentence of a story
    chats = [[{"role": "user", "content": text}] for text in questions]
    streams = [engine.submit(GenerationRequest(messages=chat, sampling=sampling)) for chat in chats]
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return [stream.result().text for stream in streams]


def tell_story(**parts):
    """Ann asks; when she has her answer, Ben and Cleo ask at once. The engine, and what each of them was told."""
    engine = InferenceEngine(model, tokenizer, num_slots=1, start=False, **parts)
    (ann,) = ask(engine, FOX)
    ben, cleo = ask(engine, FROG, FOX)
    return engine, {"Ann": ann, "Ben": ben, "Cleo": cleo}


plain, right = tell_story()
for name, text in right.items():
    print(f"{name:<5} {text}")

# %% [markdown]
# As it should be: two foxes, one frog. Ann and Cleo asked the same and are told the same, since the model always takes
# the most likely token here.
#
# Now to the full stop. Below stand the tokens of both prompts, all but the last (which is computed each time, as you
# know from notebook 00). Behind them stands whether their keys in the cache are the same: first in the first of the
# model's layers, then in all the others. Each prompt ran in an engine of its own, so nothing was shared.


# %%
def prompt_of(text):
    return tokenizer.apply_chat_template([{"role": "user", "content": text}])


def pieces(token_ids):
    return [tokenizer.decode([token_id], skip_special=False) for token_id in token_ids]


def keys_of(text):
    alone = InferenceEngine(model, tokenizer, num_slots=1, start=False)
    ask(alone, text, max_tokens=1)
    known = len(prompt_of(text)) - 1  # all but the last token
    return alone.kv_cache.k_cache[:, 0, :, :known]  # (layers, kv heads, positions, numbers a head)


far = (keys_of(FOX) - keys_of(FROG)).abs().amax(dim=(1, 3)) > 1e-3  # by layer and position: do any keys differ?
print(f"{'':<20} first layer   other layers")
for fox, frog, first, others in zip(pieces(prompt_of(FOX)), pieces(prompt_of(FROG)), far[0], far[1:].any(dim=0)):
    words = ["other keys" if differ else "same keys" for differ in (first, others)]
    print(f"{fox:<9} {frog:<10} {words[0]:<13} {words[1]}")

# %% [markdown]
# The tokens differ at one position. In the first layer so do the keys: there a key is computed from the token and its
# position, and from nothing else. But each layer reads what the one below has made of all the tokens so far. So from
# the second layer on, the keys differ from that position on.
#
# **When can a note grow old at all?** In AstrAI it cannot. The engine looks for a prefix in its phase *refill*, and
# hands the slot out in the same moment. Nothing happens in between, because one thread does both, one request after the
# other. What it does remember, the index of its cache, is corrected in the very moment in which a row changes hands.
# Versions are compared all the same, each time, as a proof.
#
# The ghost appears as soon as *anything* remembers a slot across steps:
#
# - requests that look when they arrive, and go by it when their turn has come;
# - a page table, which lists where a request's KV lies and is read in every step (there is one in section 6);
# - a second process, or a GPU, that still works on what has been given away.
#
# So we plant the first of these. `NotesOnArrival` is the package's scheduler with one addition: each request that has
# joined the queue has a look, and makes a note. A note is a handle and a length: *so many of my tokens are in this
# slot, at this version*. `BelievedNotes` goes by the note when it places a request, that is, when it chooses a row for
# it.

# %%
from textwrap import dedent, fill

from astrai.course.ghost import BelievedNotes, NotesOnArrival


def show_source(thing):
    print(dedent(inspect.getsource(thing)))


show_source(NotesOnArrival.cleanup)
show_source(BelievedNotes.place)

# %% [markdown]
# Read `place` like this. If there is no note, or `trusts` says no, it goes by `match`, which is what the cache holds
# *now*, as the package does. Otherwise it takes the row of the note and states that the first `note.length` tokens of
# the prompt are in it already. And `trusts` says yes to everything.
#
# Line by line: `allocate(among=1 << slot)` hands out this one slot. (`among` is a *mask*, a number whose bit *i* stands
# for slot *i*; `1 << slot` has the one bit of this slot.) `PrefixMatched` and `SlotReused` are lines for the trace. The
# index of the cache is told by `use` that this text was wanted just now, by `cut` that the row keeps only so many
# tokens, and by `lock` that it is in use. The `None` in `Placement` says that nothing must be copied first.

# %%
predict(
    "13.1",
    "Ann has her fox. Cleo has made her note. Ben's frog is written into the slot, then it is Cleo's turn. "
    "What will she read?",
    [
        "her fox: the note has her own words",
        "a fox and a frog, mixed",
        "Ben's frog, to the letter",
        "an error: the row was overwritten",
    ],
)

# %%
haunted, wrong = tell_story(scheduler=NotesOnArrival, prefix_cache=BelievedNotes)

cleo_reads = wrong["Cleo"]
known = {right["Cleo"]: "her fox: the note has her own words", wrong["Ben"]: "Ben's frog, to the letter"}
reveal("13.1", known.get(cleo_reads, "a fox and a frog, mixed"))

# %%
for name, question in (("Ann", FOX), ("Ben", FROG), ("Cleo", FOX)):
    print(f"{name}\n  asks:        {question}")
    print(f"  should read: {right[name]}")
    print(f"  reads:       {wrong[name]}\n")

# %% [markdown]
# One user's words in another user's answer, and not a blemish that would give it away. This is the worst thing that a
# prefix cache can do. And why to the letter? Here is Cleo's note against what was in the slot when her turn came.

# %%
from astrai.trace import events as e

cleos_note = haunted.scheduler.cache.notes[2]  # requests count from 0, so Cleo's is 2
freed = [record.event for record in haunted.trace.records if isinstance(record.event, e.SlotFreed)]
ben_left = freed[1]  # the slot as Ben left it: its version, and how many tokens of KV are in it
ben_wrote = [*prompt_of(FROG), *tokenizer.encode(wrong["Ben"])]

StaleSlot(
    note=Held(cleos_note.handle.version, pieces(prompt_of(FOX)[: cleos_note.length])),
    row=Held(ben_left.version, pieces(ben_wrote[: ben_left.kept_len])),
    whose="Cleo's note",
)

# %% [markdown]
# (Ben's last token, the full stop, is not in the slot: nothing came after it, so its KV was never computed.)
#
# Her note covers all of her prompt but the last token, `<|assistant|>`, which is always computed. That is also the last
# token of Ben's prompt. So what the model saw was the KV of Ben's prompt, and then Ben's last token. What Cleo asked
# for stood nowhere. It answered Ben once more.
#
# The trace, in which the engine writes down what it does, tells the same. This is the step in which Cleo gets the slot.

# %%
from astrai.course.stills import TraceTable

STORY = (e.SlotFreed, e.PrefixMatched, e.SlotReused, e.RequestAdmitted, e.Prefilled)


def step_of_cleo(engine):
    """The events of the step in which request 2 got its slot."""
    records = engine.trace.records
    (step,) = [r.step for r in records if isinstance(r.event, e.RequestAdmitted) and r.event.request_id == 2]
    return [record for record in records if record.step == step]


TraceTable(step_of_cleo(haunted), only=STORY)

# %% [markdown]
# Look at the versions, the numbers after the *v*. The slot is freed at version 2, which was Ben's. In the next line
# request 2 claims its prefix at version 1. One of the two cannot be true, and comparing two numbers is enough to know
# it.
#
# ## 3. Write the check
#
# A slot's version lives in the allocator, which hands slots out.
#
# **13.2** Write its two methods that know about versions:
#
# - `renew(slot)` raises the version of a slot and returns its new handle. The engine calls it whenever a row is handed
#   out, and whenever something of what a row holds is cut off. From then on, all older handles to it are stale.
# - `check(handle)` is called with a handle of unknown age. It raises `SlotError` unless the slot is at that version
#   now, and the error's text names the slot and both versions. It returns nothing: an answer can be overlooked, an
#   exception cannot. (It is not the `check("13.2", ...)` of this course, which only has the same name.)
#
# The base class does the rest: it knows which slots are free, and has `self.versions`, a list with one number for each
# slot, all 0 at first. A `Handle` has two parts, `handle.slot` and `handle.version`, and is made with `Handle(slot,
# version)`.

# %% tags=["exercise", "13.2"]
from astrai.inference.cache.slots import Handle, SlotAllocator, SlotError


class MyVersions(SlotAllocator):
    """Slots whose old handles are refused. ``self.versions[slot]`` is the version of a slot now."""

    def renew(self, slot):
        """Raise the version of ``slot``, and return its new handle."""
        # BEGIN SOLUTION
        self.versions[slot] += 1
        return Handle(slot, self.versions[slot])
        # STUB: raise NotImplementedError  # raise the number, then make a Handle
        # END SOLUTION

    def check(self, handle):
        """Unless ``handle`` is of the present version: a ``SlotError`` that names the slot and both versions."""
        # BEGIN SOLUTION
        now = self.versions[handle.slot]
        if handle.version != now:
            raise SlotError(f"stale handle: slot {handle.slot} was seen at {handle.version}, but is at {now} now")
        # STUB: raise NotImplementedError  # compare the handle's version with the present one
        # END SOLUTION


# %%
check("13.2", MyVersions)

# %% [markdown]
# Stuck? `hint("13.2")` gives a nudge, and after a try `solution("13.2")` shows an answer. From here on your allocator
# runs the engine: each slot that it hands out below got its version from you.
#
# > **Predict.** Ann, Ben and Cleo once more, on the engine without any notes. Then Dora comes and asks for a fox as
# > well. How many of her 12 prompt tokens are found in the cache, and at which version is the slot then?

# %%
from astrai.course.stills import SlotsOverTime

MySlots = mine("13.2", MyVersions, SlotAllocator)
versioned, answers = tell_story(slots=MySlots)
(dora,) = ask(versioned, FOX)
print("the right answers:", answers == right and dora == right["Ann"])

admitted = [record.event for record in versioned.trace.records if isinstance(record.event, e.RequestAdmitted)]
for name, event in zip(("Ann", "Ben", "Cleo", "Dora"), admitted):
    print(f"{name:<5} slot {event.slot} at version {event.version}, {event.cached_len:>2} of 12 tokens found")

SlotsOverTime(versioned.trace)

# %% [markdown]
# Time goes from left to right, and the slot fills from below. Four hills, four hand-outs, four versions. At the foot of
# all hills but the first lies **R**, the tokens that were reused as they stood. Ben's prompt shares its first words
# with Ann's, and Cleo's with Ben's. Dora asks what Cleo has asked, so all of her prompt is found but its last token,
# which is always computed.
#
# Back to the haunted engine. A check that nobody calls helps nobody: now the reader of the notes must use it.
#
# **13.3** Write `trusts(note)`, which says whether to go by a note: it gets a note and returns `True` or `False`. (On
# `False`, `place` goes by what the cache holds now, as you have read.) You need `note.handle`, and the allocator, which
# is at hand as `self.slots`: its `check` raises `SlotError` for a stale handle.


# %% tags=["exercise", "13.3"]
class MyNotes(BelievedNotes):
    """Goes by a note only while it is true."""

    def trusts(self, note):
        """Whether the row of ``note.handle`` is as it was when the note was made: ``True`` or ``False``."""
        # BEGIN SOLUTION
        try:
            self.slots.check(note.handle)
        except SlotError:
            return False
        return True
        # STUB: raise NotImplementedError  # self.slots.check(...) raises SlotError if a handle is stale
        # END SOLUTION


# %%
check("13.3", MyNotes)

# %% [markdown]
# > **Predict.** The same story with your check, and the same table as in section 2. Which of its five lines will be
# > different, and in which numbers?

# %%
from astrai.course.ghost import CheckedNotes

Reader = mine("13.3", MyNotes, CheckedNotes)
laid, answers = tell_story(scheduler=NotesOnArrival, prefix_cache=Reader, slots=MySlots)
print("Ben reads: ", answers["Ben"])
print("Cleo reads:", answers["Cleo"])

TraceTable(step_of_cleo(laid), only=STORY)

# %% [markdown]
# All but the first. Cleo gets her fox: her note was refused, the cache was asked again, and what it held *now* was
# still of use: the tokens that Ben's prompt and hers have in common. Only the rest was computed.
#
# ## 4. Why a number?
#
# Other ideas come to mind sooner than a version. Each has a hole.
#
# - **A flag** in each slot, "changed since somebody looked", which is cleared by the one who looks. It works as long as
#   *one* looks. Cleo looks and clears it. Ben is given the slot, and it is set. Dora looks and clears it. Cleo asks:
#   has it changed? No, says the flag.
# - **A time**: when was the slot handed out last, and when did I look? But two things can happen within one tick of a
#   clock, and clocks of the day are set back. A version does not say when. It says *how often*, which is what we want
#   to know.
# - **Erasing** what a freed row holds. Then the note leads to zeros in place of Ben's words. Cleo's answer is as wrong
#   as before, only in another way; and there is no prefix cache any more, since nobody finds anything in an empty row.
#   It is also the most work.
#
# What does a version cost, and can the count come to an end?

# %%
kv = plain.kv_cache
row_bytes = kv.k_cache[:, 0].nbytes + kv.v_cache[:, 0].nbytes
print(f"erasing a row: {row_bytes:,} bytes are written, each time")
print(f"a version of 64 bits: {64 // 8} bytes are kept\n")

seen, now = 1, (1 + 8) % 8  # a counter of three bits begins again after eight hand-outs
print("three bits, eight hand-outs later:", "believed" if now == seen else "refused")
hours = 2**32 / 1_000_000 / 3600
print(f"32 bits, a million hand-outs a second: it begins again after {hours:,.1f} hours")
print(f"64 bits: after {hours * 2**32 / 24 / 365.25:,.0f} years")

# %% [markdown]
# A counter that begins again is the ABA problem again, so its size matters. Python's integers grow as needed and have
# no end. In a language with fixed sizes, 64 bits are enough, and 32 deserve a second thought.
#
# ## 5. Zero-copy, or `copy_()`
#
# A handle that was checked is a licence to use what is in the row. There are two ways to do that.
#
# - **Zero-copy.** The row is free, and nothing of worth would be lost: the new request takes it over as it stands. Not
#   one byte moves.
# - **Copy.** The row belongs to a running request, or holds more that somebody may want back: the prefix is copied into
#   another row, once for the keys and once for the values. (If no other row can be had, the row is taken all the same,
#   and the rest is cut off. That is what you saw in section 3, with a single slot.)
#
# We have both in one run. Ann gets a long answer and goes on with her chat: her second request begins with all of the
# first one, which lies in slot 0. Then Ben asks for his frog, which shares a few tokens with it.
#
# > **Predict.** Who of the two takes slot 0 over, and for whom is something copied?

# %%
from astrai.widgets.picture import SlotMap

three_slots = InferenceEngine(model, tokenizer, num_slots=3, start=False, slots=MySlots)
(story,) = ask(three_slots, FOX, max_tokens=60)
chat = [("user", FOX), ("assistant", story), ("user", "Give the story a title.")]
messages = [{"role": role, "content": content} for role, content in chat]
three_slots.submit(GenerationRequest(messages=messages, sampling=SamplingParams(max_tokens=16)))
ask(three_slots)  # no further question: step until Ann's second one is answered
ask(three_slots, FROG)

display(TraceTable(three_slots.trace.records, only=(e.PrefixMatched, e.SlotAllocated, e.SlotReused, e.PrefixCopied)))
SlotMap(three_slots.trace, tokenizer=tokenizer)

# %% [markdown]
# Request 1 is Ann's second. It goes on where slot 0 ends, so nothing is lost, and it takes the row over (**R**).
# Request 2 is Ben's. Had it taken that row, Ann's whole chat would be gone for the sake of a few tokens. A blank row
# was at hand, so they were copied (**C**). Both needed the handle of slot 0, and both times its version was checked.
#
# What does a copy cost? First in bytes, which can be counted exactly.

# %%
kv = three_slots.kv_cache
print("k_cache:", tuple(kv.k_cache.shape), "numbers of", kv.k_cache.itemsize, "bytes; v_cache is as large")
print("that is: layers, slots, kv heads, positions, numbers a head")

# %%
predict("13.4", "The first 100 tokens of a row are copied to another row. How many bytes are written?", unit="bytes")

# %%
prefix = [cache[:, 0, :, :100] for cache in (kv.k_cache, kv.v_cache)]  # all layers, row 0, its first 100 positions
reveal("13.4", sum(part.nbytes for part in prefix))

# %%
layers, _, kv_heads, _, numbers_a_head = kv.k_cache.shape
sizes = [2, layers, kv_heads, numbers_a_head, kv.k_cache.itemsize]  # the 2: keys and values
one_token = math.prod(sizes)
print(" * ".join(map(str, sizes)), "=", f"{one_token:,} bytes a token; for 100 of them {100 * one_token:,}")

# %% [markdown]
# Keys and values, times layers, times kv heads, times numbers a head, times the bytes of a number: so much for one
# token, and a hundred times as much for a hundred. (Each byte is read once, too.) Zero-copy writes none.
#
# Now in time, on this machine: copying a prefix against computing it again, which is what an engine without a prefix
# cache does. `fastest` does each of some things once in every round, on one thread, and keeps the shortest time of each
# in microseconds: whatever else the machine does meanwhile can only make it longer.

# %%
from functools import partial

from astrai.course.measuring import fastest

LENGTHS = (16, 64, 256, 768)
row_kv = InferenceEngine(model, tokenizer, num_slots=2, start=False).kv_cache
long_prompt = torch.tensor([(prompt_of(FOX) * 100)[: max(LENGTHS)]], device=model.device)


def wait():
    if model.device.type == "cuda":  # a GPU works on its own: wait until it is done
        torch.cuda.synchronize()


@torch.inference_mode()
def compute(n):
    attend = row_kv.prefill_attend([(0, 0, n)])  # row 0, from position 0 on, n tokens
    model(long_prompt[:, :n], attend=attend, logits_at=torch.tensor([n - 1]))
    wait()


def copy(n):
    row_kv.copy_prefix(0, 1, n)
    wait()


copied = fastest({n: partial(copy, n) for n in LENGTHS}, rounds=200, calls=1)
computed = fastest({n: partial(compute, n) for n in LENGTHS}, rounds=5, calls=1)

# %%
from astrai.course.charts import Chart

words = "two lines over the length of the prefix: copying it, and computing it again"
chart = Chart("What a prefix costs that is not taken over", x="tokens", y="microseconds", words=words)
chart.axes.plot(LENGTHS, list(computed.values()), label="computing it again")
chart.axes.plot(LENGTHS, list(copied.values()), label="copy_()")
chart.axes.set(xscale="log", yscale="log", xticks=LENGTHS, xticklabels=LENGTHS)
chart.axes.minorticks_off()
for n in LENGTHS:
    print(f"{n:>3} tokens: a copy writes {n * one_token:>9,} bytes, zero-copy 0")
chart

# %% [markdown]
# Both axes are logarithmic, so a distance upwards is a factor. Look at two things. How far above the copy does
# computing lie? That gap is what a prefix cache is for. And how steep is the copy's line at first? A short prefix costs
# hardly more than the calls themselves; where the line begins to climb, the bytes begin to count. Zero-copy has no line
# here: what it leaves out is all of this.
#
# ## 6. Break it: two real defects
#
# Both stood in real engines of this kind (numbers 10 and 26 in `docs/defects.md`).
#
# ### A row changes hands, and nobody is told
#
# Zero-copy is tempting. Why not take *every* free row that holds the beginning of a prompt, and never copy at all? This
# class does it.

# %%
from astrai.course.ghost import TakesOver
from astrai.inference.cache.prefix_cache import PrefixCacheManager

show_source(TakesOver)

# %% [markdown]
# Its names: `self.slots.free_mask` has a bit for each slot that is free, and `^=` turns one over, so the slot is taken.
# `match.holders` has a bit for each slot that holds the prefix; `slots_in` lists the slots of a mask. `self.tree` is
# the index of the cache, a *radix tree*: it knows which tokens each row holds, and at which version. (`use` writes down
# that they were of use just now.)
#
# This time nobody makes notes, and the cache is asked at the right moment. Ann, Ben, Cleo and Dora come one after the
# other.
#
# > **Predict.** What will the tree say of slot 0 after Ben's frog? And what will Cleo read, and Dora after her, who
# > both ask for a fox?

# %%
taken = InferenceEngine(model, tokenizer, num_slots=1, start=False, prefix_cache=TakesOver)
ask(taken, FOX)
(ben,) = ask(taken, FROG)
tree, slots = taken.scheduler.cache.tree, taken.scheduler.cache.slots
ben_wrote = [*prompt_of(FROG), *tokenizer.encode(ben)][:-1]  # as before, all but the last token
after_ben = StaleSlot(
    note=Held(tree.version(0), pieces(tree.row_ids(0))),
    row=Held(slots.handle(0).version, pieces(ben_wrote)),
    whose="the tree",
)
print("Ben reads: ", ben)
print("Cleo reads:", *ask(taken, FOX))
print("Dora reads:", *ask(taken, FOX))
after_ben

# %% [markdown]
# The versions agree, and the ghost is there all the same: the row was written over, but its version was not raised, so
# no handle to it became stale. And this ghost stays. The tree goes on promising a fox, and all who ask for one get a
# frog.
#
# Why did the tree not learn of the frog? When Ben's request ended, it was told what the row holds. But it takes for
# granted that a row still begins with what it held before, so it only looks for something *behind* that. Both stories
# are 27 tokens long: nothing to add, and the fox stays.
#
# Two things are missing when a row changes hands. Its version must be raised, and the tree must be told that the row
# keeps no more than its first `length` tokens.
#
# **13.5** Write `take_over(slot, length)` so that it does both. It gets the number of a free slot, and how many of its
# first tokens stay. It returns two things: the slot's new handle, and the list of what changed in the tree. Two calls
# are enough; the package's own `place` uses both:
#
# - `self.slots.allocate(among=1 << slot)` hands out this one slot: it is no longer free, has a new version, and the new
#   handle is returned.
# - `self.tree.cut(handle, length)` tells the tree, and returns the list of what changed in it.


# %% tags=["exercise", "13.5"]
class Mended(TakesOver):
    """Takes a row over so that nobody can mistake it for what it was."""

    def take_over(self, slot, length):
        """The row's new handle, and the list of what changed in the tree."""
        # BEGIN SOLUTION
        handle = self.slots.allocate(among=1 << slot)
        return handle, self.tree.cut(handle, length)
        # STUB: raise NotImplementedError  # a new handle for the slot; then cut the tree with it, and return both
        # END SOLUTION


# %%
check("13.5", Mended)

# %%
MyCache = mine("13.5", Mended, PrefixCacheManager)
healed = InferenceEngine(model, tokenizer, num_slots=1, start=False, prefix_cache=MyCache, slots=MySlots)
for name, question in (("Ann", FOX), ("Ben", FROG), ("Cleo", FOX), ("Dora", FOX)):
    print(f"{name:<5} reads: {ask(healed, question)[0]}")

# %% [markdown]
# What does each of the two lines do? Here each is left out once. And this time somebody has kept a handle to Ann's fox,
# in a note or in a page table, and has it checked when Ben is gone.
#
# > **Predict.** With the cut alone: what does Cleo read, and is the old handle refused? And with the new version alone?


# %%
class OnlyTheCut(TakesOver):
    def take_over(self, slot, length):
        self.slots.free_mask ^= 1 << slot
        handle = self.slots.handle(slot)  # the old one
        return handle, self.tree.cut(handle, length)


class OnlyTheVersion(TakesOver):
    def take_over(self, slot, length):
        return self.slots.allocate(among=1 << slot), []  # the tree is told nothing


# %%
for half in (OnlyTheCut, OnlyTheVersion):
    halved = InferenceEngine(model, tokenizer, num_slots=1, start=False, prefix_cache=half, slots=MySlots)
    ask(halved, FOX)
    kept = halved.scheduler.cache.slots.handle(0)  # the fox is in slot 0, at this version
    ask(halved, FROG)
    try:
        halved.scheduler.cache.slots.check(kept)
        said = "accepted, though the fox is gone"
    except SlotError:
        said = "refused"
    print(f"{half.__name__}\n  the old handle: {said}\n  Cleo reads:     {ask(halved, FOX)[0]}\n")

# %% [markdown]
# With the cut alone, Cleo reads the right thing: the tree is true again. But whoever keeps a handle elsewhere is not
# warned. With the new version alone they are warned, but the tree still promises the fox. **The cut keeps the index
# true. The version protects everybody else who has looked.**
#
# ### A page table points at memory that was given away
#
# Large engines do not give a request one whole row. They cut the cache into small **pages** and give a request as many
# as it needs, wherever they lie. Its **page table** lists them in order, and each step reads the KV by going through
# the list. So a page table *is* a note, and it lives across steps.
#
# `Pages` is a small one, with real tensors for the real model (`astrai/course/pages.py`). A page has four positions,
# and your allocator hands the pages out (it calls a page a slot). A table is a list of handles.

# %%
from astrai.course.pages import Pages

show_source(Pages.find)

PROMPT_LEN = len(prompt_of(FOX))  # 12 tokens, and Ben's prompt has as many


def answer_in(token_ids):
    return tokenizer.decode(token_ids[PROMPT_LEN:])


def listed(table):
    return "pages " + ", ".join(f"{handle.slot} v{handle.version}" for handle in table)


pages = Pages(model, MySlots(24))
ann_ids, ann_table = prompt_of(FOX), []
pages.go_on(ann_table, ann_ids, num_tokens=16, start=0)  # the KV from position 0 on is missing: all of it
print("the engine's words:", answer_in(ann_ids) == right["Ann"])
print("Ann's page table:  ", listed(ann_table))

# %% [markdown]
# Through pages the model writes what it writes in a row. Now the story. Ann has read seven tokens of her answer when
# she is made to wait; a busy engine does that to make room, and calls it *preemption*. Her pages are given back. Her
# page table stays as it is. Ben comes, is given pages, and reads his answer. Then it is Ann's turn again.
#
# > **Predict.** You know Ann's sentence from above. After its seventh token she is interrupted. How does it go on?


# %%
def interrupt(pages):
    """Ann reads 7 tokens and is interrupted, Ben reads 16. The tokens and the table of each."""
    ann_ids, ann_table, ben_ids, ben_table = prompt_of(FOX), [], prompt_of(FROG), []
    pages.go_on(ann_table, ann_ids, num_tokens=7, start=0)
    for handle in ann_table:
        pages.slots.free(handle)  # given back; but the table still lists them
    pages.go_on(ben_table, ben_ids, num_tokens=16, start=0)
    return ann_ids, ann_table, ben_ids, ben_table


pages = Pages(model, MySlots(24))
ann_ids, ann_table, ben_ids, ben_table = interrupt(pages)
pages.go_on(ann_table, ann_ids, num_tokens=9)
print("Ben has read:", answer_in(ben_ids))
print("Ann has read:", answer_in(ann_ids))

# %% [markdown]
# Nobody has asked for this. The first half of the sentence is Ann's, the second is made of Ben's. Here are both tables,
# and Ann's third page, which holds positions 8 to 11.

# %%
print("Ben's table:", listed(ben_table))
print("Ann's table:", listed(ann_table))

third = ann_table[2]
StaleSlot(
    note=Held(third.version, pieces(ann_ids[8:12])),
    row=Held(pages.slots.handle(third.slot).version, pieces(ben_ids[8:12])),
    where=f"page {third.slot}",
    whose="Ann's table",
    start=8,
)

# %% [markdown]
# She also *wrote*: the KV of her next two tokens, positions 18 and 19, went into page 4, which is his by now. (Behind
# it she was given new pages.) Had he still been reading, his answer could be spoilt as well.
#
# You have written the cure already: the handles are in the table, `check` is in your allocator. The one question is
# where to call it. A table is read in every step, and a page can be given away between any two of them. So it is
# checked at every reading, not when it is made, and not only when Ann comes back. If it is refused, her KV is gone;
# then it is computed once more, into new pages. That is slower, and right.


# %%
class CheckedPages(Pages):
    def find(self, table):
        for handle in table:
            self.slots.check(handle)
        return super().find(table)


safe = CheckedPages(model, MySlots(24))
token_ids, table, _, _ = interrupt(safe)
try:
    safe.go_on(table, token_ids, num_tokens=9)
except SlotError as error:
    print(fill(f"refused: {error}", width=80))
    safe.go_on([], token_ids, num_tokens=9, start=0)
print("Ann has read:", answer_in(token_ids))

# %% [markdown]
# ## 7. Who would have noticed?
#
# A ghost raises no error, so somebody has to look for it. AstrAI's tests do that in four ways, and the haunted engine
# of section 2 shows why one is not enough.
#
# - `check_integrity()` compares the books of the engine with each other, after every step.
# - `replay` plays the trace event by event, and refuses what is impossible.
# - **Alone** against **together**: a question that is asked alone, on a fresh engine, must have the same answer, to the
#   token.
# - **Poison**: with `poison=True`, what is no longer valid in a row is filled with 10,000 or -10,000, so that no read
#   of it can pass for KV.
#
# > **Predict.** Which of them notice that Cleo was told Ben's story? Take the first three first.

# %%
from astrai.trace.replay import ReplayError, replay


class ChecksItsBooks(NotesOnArrival):
    num_checks = 0

    def step(self):
        super().step()
        self.check_integrity()
        self.num_checks += 1


checked, told = tell_story(scheduler=ChecksItsBooks, prefix_cache=BelievedNotes)
print("check_integrity, after", checked.scheduler.num_checks, "steps: nothing to complain of")
alone = InferenceEngine(model, tokenizer, num_slots=1, start=False)
print("the same answer as alone:", told["Cleo"] == ask(alone, FOX)[0])
try:
    replay(checked.trace)
except ReplayError as error:
    print(fill(f"replay: {error}", width=80))

# %% [markdown]
# The books find nothing. Who owns the slot, at which version, how many tokens are in it: allocator, tree and scheduler
# agree on all that, and none of them knows what Cleo asked for. The replay sees the impossible handle, and the plain
# comparison sees the wrong words. (The replay refuses a run with `TakesOver` too: there a slot is handed out twice at
# the same version.)
#
# > **Predict.** Now with poison. Ben asks for his frog as before; then, in a second run, he only says "Hello." In which
# > of the two does Cleo read poison? Her note promised 11 tokens. Each answer ends after 4 tokens.

# %%
for ben_says in (FROG, "Hello."):
    parts = {"scheduler": NotesOnArrival, "prefix_cache": BelievedNotes}
    torch.manual_seed(4)  # the signs of the poison are random
    poisoned = InferenceEngine(model, tokenizer, num_slots=1, start=False, poison=True, **parts)
    ask(poisoned, FOX)
    cleo = ask(poisoned, ben_says, FOX, max_tokens=4)[1]
    read = poisoned.kv_cache.k_cache[:, 0, :, : cleos_note.length]  # the keys that Cleo's note promised
    print("Ben asked:", ben_says)
    print("  poison in what Cleo has read:", bool((read.abs() > 1000).any()))
    print(f"  Cleo reads: {cleo.strip()}\n")

# %% [markdown]
# Poison is silent at first: all that Cleo read had been written by Ben, and was valid. It was only not hers. In the
# second run Ben had written less than her note promised: a short question, and the first tokens of an answer. (That is
# why the answers are cut short here. With a whole answer his row would be long enough, and she would read nothing but
# his words.) Behind it there is still something of an older story, which would pass for KV. With poison it does not:
# the model is fed with 10,000s, and writes rubbish that no test can overlook.
#
# ## 8. Can you say why?

# %%
quiz("13")

# %% [markdown]
# ## As a film
#
# The film of this chapter tells section 2, in the same words, from two recorded runs.

# %%
from astrai.films.stills import Stills

Stills("TheGhostPrefix")

# To see all of it, take the # away and run the cell. It takes about half a minute, and you can go on meanwhile.
# astrai.film("TheGhostPrefix")

# %% [markdown]
# ## Where this lives
#
# | what you saw | where it is |
# |---|---|
# | versions, handles, `renew` and `check` | `SlotAllocator` and `Handle` in `astrai/inference/cache/slots.py` |
# | which row, zero-copy or copy | `PrefixCacheManager.place` in `astrai/inference/cache/prefix_cache.py` |
# | `cut`, and the version at which a path is known | `RadixTree` in `astrai/inference/cache/radix_tree.py` |
# | `copy_prefix`, poison | `KVCache` in `astrai/inference/cache/kv_cache.py` |
# | looking and handing out in one moment | `InferenceScheduler.refill` in `astrai/inference/scheduler.py` |
# | the planted defects of this chapter | `astrai/course/ghost.py` and `astrai/course/pages.py` |
#
# **What others do.** In vLLM the unit is a block of some tokens. A full block is found by a hash of its tokens and of
# all tokens before it, so its name says what must be in it. A freed block keeps its hash and can be found until it is
# handed out anew; in that moment the hash is removed. A count of the requests that use a block keeps it from being
# handed out while it is read. SGLang's radix tree counts the users of each node (`lock_ref`) and evicts only what
# nobody uses. Such counts do what our locks do: they protect what is *in use*. A version protects those who only
# *remember*.
#
# And ghosts were seen. In vllm-mlx (pull request 385) a prefix that matched in part was handed on with the rest of the
# old one still behind it, and a question about Hamlet was answered with another request's penicillin. SGLang's pull
# request 18803 tells of the third kind of section 2: a row of its request table was given to a new request while the
# GPU still read it for the old one. There a number on the CPU does not help: the row must be given back later.
#
# The idea is older than serving. Game engines point at their objects by index and *generation* (a slot map), for the
# same reason. Databases do it too: with optimistic locking, a row is written only if its version is still the one that
# was read.
