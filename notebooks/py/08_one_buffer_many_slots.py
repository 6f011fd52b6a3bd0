# %% [markdown]
# # One buffer, many slots
#
# A serving engine remembers what it has computed of each conversation. This chapter is about where it keeps that
# memory: one large buffer, cut into rows, and one whole number that knows which of the rows are free. You write both,
# and the real engine runs on what you wrote.
#
# | | |
# |---|---|
# | **You will have** | a KV cache and an allocator of your own, and mended a cache that forgets the wrong chat |
# | **Time** | 60 to 90 minutes; the cells themselves run in under a minute |
# | **You need** | notebook 00, Python, a little PyTorch: slices of tensors, and shapes |
# | **Device** | a CPU is enough; a CUDA GPU is used if there is one, and the first cell says on which you are |

# %% tags=["volatile"]
import torch

import astrai
from astrai.course import check, hint, mine, predict, progress, quiz, reveal, solution

model, tokenizer = astrai.load("tiny")
print(f"The model runs on: {model.device}")

# %% [markdown]
# ## Why keep anything?
#
# A language model reads a text token by token. In each of its blocks, every token makes three vectors: a *query* (what
# it looks for), a *key* (what it can be found by) and a *value* (what it has to tell). A new token compares its query
# with the keys of all tokens before it, and takes their values in, each as much as its key fits. A block does this
# several times side by side, in *heads* that look for different things.
#
# A token only ever looks back: its key and value depend on itself and on all tokens before it, and never change once
# they are computed. They are its **KV**. Keep them, and each later step computes one token. Throw them away, and each
# step computes the whole text again.
#
# Here is what one block hands over for a prompt. The model calls `attend` in each block, with the queries, keys and
# values of the tokens that it was given. `causal_attend` is the plain way to answer: each token looks only back.

# %%
from astrai.model.attention import causal_attend

prompt_ids = tokenizer.apply_chat_template([{"role": "user", "content": "Tell me a story about a fox."}])


def look(layer, q, k, v):
    if layer == 0:
        print("queries", tuple(q.shape), " keys", tuple(k.shape), " values", tuple(v.shape))
    return causal_attend(layer, q, k, v)


with torch.inference_mode():
    model(torch.tensor([prompt_ids], device=model.device), attend=look)

# %% [markdown]
# Read a shape as: texts, tokens, heads, numbers per head. The prompt has 12 tokens. Each has 12 query heads, but only 2
# heads of keys and values, of 32 numbers each: six query heads share one. So what is to be kept of a token, in one
# block, is two small tables of 2 x 32 numbers: its keys `k`, its values `v`.
#
# ## The naive way: a list
#
# The plainest memory is a Python list that gets one key tensor for each token. (The values need another one.) But
# attention wants all keys in *one* tensor, so they are joined at every step. Joining means copying: `stack` and `cat`
# always make new memory and fill it. By hand, for four tokens: 1 + 2 + 3 + 4 = 10 copies, to end up with 4. What about
# the 1,024 tokens that fit into a conversation with our model?

# %%
keys = []
for token in range(4):
    keys.append(torch.full((2, 32), float(token)))  # (heads, numbers per head)
    joined = torch.stack(keys, dim=1)  # (heads, tokens, numbers per head)
    print(f"step {token + 1}: {len(keys)} small tensors are copied into one of shape {tuple(joined.shape)}")

bytes_per_token = model.config.kv_bytes_per_token  # keys and values, all blocks
for tokens in (4, 100, 1024):
    copies = sum(range(1, tokens + 1))
    kept, moved = tokens * bytes_per_token / 2**20, copies * bytes_per_token / 2**20
    print(f"{tokens:>5} tokens: {kept:>6.3f} MiB kept, {moved:>8.3f} MiB copied on the way")

# %% [markdown]
# A gibibyte is moved in order to keep two mebibytes. Twice the tokens, four times the copying.
#
# ## The other way: set the space aside first
#
# Make the tensor once, as long as a conversation may get, and write each token into its place. What is handed to
# attention is a **view**: a slice that is a window onto the same memory. Nothing is copied to make it.

# %%
buffer = torch.zeros(2, 8, 32)  # (heads, positions, numbers per head): room for 8 tokens
for token in range(4):
    buffer[:, token] = float(token)  # the new token, and only it, is written
    joined = buffer[:, : token + 1]  # (heads, tokens, numbers per head): a view
same_memory = joined.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr()
print("shape", tuple(joined.shape), "- the slice is a window onto the buffer:", same_memory)

# %% [markdown]
# Now both ways against the clock: one more token, when a conversation has some length already. All that is kept of a
# token are 16 small tables (4 blocks, keys and values, 2 heads), so let both ways keep all 16. For the joined side we
# are kind: `cat` of what is there and what is new copies the same bytes as the list did, in fewer pieces.
#
# `fastest` runs all of it in turn, several times, and keeps the least time of each: whatever else your machine does can
# only add to it.
#
# > **Predict.** Draw two curves on a piece of paper, or in your mind: time for one more token, against the tokens that
# > are there already. Where does each begin, and how does it go on?

# %%
from astrai.course.charts import Chart
from astrai.course.measuring import fastest


def one_more(tokens):
    old, new = torch.zeros(16, tokens, 32), torch.zeros(16, 1, 32)  # (tables, tokens, numbers per head)
    buffer = torch.zeros(16, 1024 + 1, 32)

    def into_the_buffer():
        buffer[:, tokens : tokens + 1] = new
        return buffer[:, : tokens + 1]

    return {"joined": lambda: torch.cat([old, new], dim=1), "one buffer, a view": into_the_buffer}


lengths = [1, 128, 256, 512, 768, 1024]
times = fastest({(way, length): action for length in lengths for way, action in one_more(length).items()})
words = "time against tokens: the line of the joined tensors climbs with them, that of the buffer stays low"
chart = Chart("One more token: all that is kept of it", x="tokens so far", y="microseconds", words=words)
for way in one_more(1):
    chart.axes.plot(lengths, [times[way, length] for length in lengths], label=way)
chart

# %% [markdown]
# The joined line climbs with each token that is there already. The buffer's line stays where it is: it writes one token
# and makes a view, however long the conversation is. (The list of small tensors climbs more steeply still, since each
# piece costs some time of its own, besides its bytes.)
#
# For a handful of tokens joining may even be ahead. A fix is seldom better everywhere; it is better where it counts.
#
# ## How large is the buffer?
#
# Setting space aside has a price: it is taken before anyone has said a word. So let us plan it. One **slot** is the
# whole row of one request, with room for every token that it may ever have. (*Row* is the same thing seen as memory.)
#
# ```
# bytes = 2 x layers x slots x kv heads x positions x numbers per head x bytes per number
# ```
#
# The 2 is for keys and values. Our model has 4 layers (that is what we called blocks), 2 kv heads, 1,024 positions, 32
# numbers per head, and float32 takes 4 bytes for a number.

# %%
predict("08.1", "An engine gets 8 slots. How many MiB (2**20 bytes) do its keys and values take?", unit="MiB")

# %%
not_started = astrai.InferenceEngine(model, tokenizer, num_slots=8, start=False)  # we only look at it
reveal("08.1", not_started.stats().kv_cache_bytes // 2**20)

# %%
# And for a larger model, with the shape that this course builds: 24 layers, in 16-bit numbers?
from astrai.config import ModelConfig
from astrai.inference.cache.kv_cache import KVCache

large = ModelConfig.preset("1b")
print(f"its weights:           {large.num_parameters * 2 / 2**30:>7.3f} GiB")
for num_slots in (1, 8, 256):
    gibibytes = KVCache.plan_bytes(large, num_slots, large.max_seq_len, torch.bfloat16) / 2**30
    print(f"{num_slots:>3} x {large.max_seq_len:,} positions: {gibibytes:>7.3f} GiB")

# %% [markdown]
# Ours, by hand: 2 x 4 x 8 x 2 x 1,024 x 32 x 4 = 16,777,216 bytes. Two powers of two to remember: one token costs
# 2 KiB, one whole slot 2 MiB.
#
# With the larger model, the memory of 256 conversations is several times as large as the model itself. This is why
# engines plan it before they take the first request, and why `InferenceEngine` refuses to start, with these numbers,
# when they do not fit.
#
# ## The layout
#
# The buffer is two tensors, `k_cache` and `v_cache`. Both have five dimensions, always in this order:
#
# | letter | counts | here |
# |---|---|---|
# | L | layers | 4 |
# | S | slots | 8 |
# | K | kv heads | 2 |
# | M | positions in a slot | 1,024 |
# | E | numbers per head | 32 |
#
# (The query heads, H = 12 of them, are not in the table: queries are not kept.)
#
# Memory itself has no dimensions, it is one long line of numbers. What differs only in the last index stands side by
# side, then what differs in the last but one, and so on. Attention reads one head of one row, from position 0 on.
#
# Here is one layer, of two slots with six positions. Each number is a place on that line. Two cells are dark: *writing*
# one token, at position 4 of slot 1, touches these. Six are light: *reading* the first three positions of slot 0.
#
# > **Predict.** Why do the heads stand before the positions? Which places would the keys of one head have, if it were
# > the other way around?

# %%
in_memory = torch.arange(2 * 2 * 6).view(2, 2, 6)  # (S, K, M): each key's place on the line
touched = torch.zeros(2, 2, 6)
touched[1, :, 4] = 2  # write: both heads of one position
touched[0, :, :3] = 1  # read: both heads, the first three positions
words = "each row of the grid, one head of one slot, has six places in sequence: 0 to 5, 6 to 11, 12 to 17, 18 to 23"
chart = Chart("Where each key stands in memory: (S, K, M)", x="position", words=words, size=(8, 2.4))
chart.axes.imshow(touched.view(4, 6), aspect="auto", cmap="Blues", vmax=4)
chart.axes.set_yticks(range(4), [f"slot {slot}, head {head}" for slot in range(2) for head in range(2)])
for row in range(4):
    for position in range(6):
        place = in_memory.view(4, 6)[row, position].item()
        chart.axes.text(position, row, place, ha="center", va="center", color="#1A1A1A")
print("slot 0, head 0, heads before positions:", in_memory[0, 0].tolist())
print("slot 0, head 0, positions before heads:", torch.arange(2 * 6 * 2).view(2, 6, 2)[0, :, 0].tolist())
chart

# %% [markdown]
# One head of one slot is one stretch. Its first positions are a piece of that stretch, however many there are, and
# reading them means going straight ahead. With positions before heads, every other key on the way would belong to the
# other head. But then the token that is written would be one piece (its heads side by side), and here it is two.
#
# So both orders can be had. vLLM and SGLang mostly put the heads behind the position: their kernels fetch many keys at
# once and sort them out as they go. For plain PyTorch attention our order is the simple one.
#
# ## Build: write and read
#
# Your first part of the engine. `KVCache` brings the two tensors. The cell below is given: it makes every key and value
# that the model computes pass through two methods of yours. It is slower than the engine's own way, which does many
# tokens at once, but it comes to the same.

# %%
from torch.nn.functional import scaled_dot_product_attention


class TokenByToken(KVCache):
    """The engine's KV cache, but the KV of each token goes through `write` and `read`."""

    def decode_attend(self, slots, positions):
        def attend(layer, q, k, v):
            tokens = zip(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), slots, positions)
            found = []
            for query, key, value, slot, position in tokens:  # of each token: query (H, E), key and value (K, E)
                self.write(layer, slot, position, key, value)
                keys, values = self.read(layer, slot, position + 1)  # the token itself, and all before it
                query = query[:, None]  # (H, 1, E): one token asks
                found.append(scaled_dot_product_attention(query, keys, values, enable_gqa=True))  # (H, 1, E)
            return torch.stack(found).view(q.shape)

        return attend

    def prefill_attend(self, segments):
        places = [(slot, start + i) for slot, start, length in segments for i in range(length)]
        return self.decode_attend(*zip(*places))


# %% [markdown]
# **08.2** Write the two methods, with plain slices of `self.k_cache` and `self.v_cache`. The picture above shows what
# each of them touches in one layer.
#
# - `write(layer, slot, position, k, v)` puts one token's `k` and `v` into their place, for all kv heads at once. It
#   returns nothing. Two lines do.
# - `read(layer, slot, length)` returns the keys and the values of the row's first `length` positions, as two views. One
#   line does.


# %% tags=["exercise", "08.2"]
class MyKVCache(TokenByToken):
    def write(self, layer, slot, position, k, v):
        """Keep one token's keys `k` and values `v`, both (K, E), in the row `slot`."""
        # BEGIN SOLUTION
        self.k_cache[layer, slot, :, position] = k  # (K, E)
        self.v_cache[layer, slot, :, position] = v  # (K, E)
        # STUB: raise NotImplementedError  # assign k to its place in self.k_cache, (L, S, K, M, E), and v likewise
        # END SOLUTION

    def read(self, layer, slot, length):
        """The keys and the values of the row's first `length` positions: two views, both (K, length, E)."""
        # BEGIN SOLUTION
        return self.k_cache[layer, slot, :, :length], self.v_cache[layer, slot, :, :length]
        # STUB: raise NotImplementedError  # return two slices: one of self.k_cache, one of self.v_cache
        # END SOLUTION


# %%
check("08.2", MyKVCache)

# %% [markdown]
# The check writes at random and compares with a dictionary. It looks whether other rows stayed untouched, and whether
# `read` copies. Then it runs the bundled model through your two methods and compares all keys and values with those
# that *Hugging Face's* implementation of the same model has for that prompt. If you are stuck, `hint("08.2")` helps,
# and `solution("08.2")` shows an answer after a try. Both work for each exercise.
#
# ## The engine on your buffer
#
# Now the real thing. From here on, `mine` takes your class if it passes its check, and the engine's own otherwise; one
# line says which.
#
# We keep the engine's loop off (`start=False`) and turn it by hand, so that the same things happen in the same step
# whenever you run this. Two of its four phases compute: **prefill** a prompt, all its tokens in one go, and **decode**
# one more token for each request. Both hand keys and values to the KV cache of the *runner*, the part between the
# scheduler and the model. So we give the runner yours.
#
# Three chats ask for stories. If 08.2 has passed, each of their keys and values goes through your `write` and `read`.
# Then a second engine does the same in its own way, many tokens at once. Will both say the same?

# %%
from astrai import GenerationRequest, SamplingParams

Cache = mine("08.2", MyKVCache, KVCache)


def ask(engine, text, max_tokens=40):
    chat = [{"role": "user", "content": text}]
    return engine.submit(GenerationRequest(messages=chat, sampling=SamplingParams(max_tokens=max_tokens)))


def finish(engine):
    while engine.scheduler.has_work:
        engine.scheduler.step()


# %%
heroes = ("fox", "kite", "boat")
on_yours, on_its_own = (astrai.InferenceEngine(model, tokenizer, num_slots=8, start=False) for _ in range(2))
yours = Cache(model.config, num_slots=8, max_seq_len=on_yours.max_seq_len, device=model.device)
on_yours.kv_cache = on_yours.scheduler.runner.kv_cache = yours
by_yours, by_its_own = [], []
for engine, streams in ((on_yours, by_yours), (on_its_own, by_its_own)):
    streams += [ask(engine, f"Tell me a story about a {hero}.") for hero in heroes]
    finish(engine)
for one, other in zip(by_yours, by_its_own):
    print(one.result().text, "...")
    print("the same tokens from both:", one.result().token_ids == other.result().token_ids, "\n")

# %% [markdown]
# > **Predict.** Three chats, eight slots, 1,024 positions. If you drew the buffer now, how much of it would be blank?

# %%
sizes = yours.k_cache[0, :, 0].norm(dim=-1).cpu()  # (slots, positions): how large each key of layer 0, head 0 is
words = "eight rows: the first three are filled from the left for about fifty positions, all else is blank"
title, size = "k_cache of layer 0, head 0: how large each key is", (8, 2.4)
chart = Chart(title, x="position (the first 128 of 1,024)", y="slot", words=words, size=size)
chart.axes.imshow(sizes[:, :128], aspect="auto", interpolation="nearest", cmap="Blues")
print(f"{(sizes > 0).float().mean():.1%} of the positions are filled")
chart

# %% [markdown]
# Most of it. That is the price of whole rows: a short chat occupies a long row. It is also what makes this layout easy:
# a request needs to know one number, its slot. What large engines do about the blank part stands at the end.
#
# ## Eight slots by hand
#
# Somebody must know which rows are free. We could keep a list of them, or one `True` or `False` for each row. This
# engine keeps a single whole number. Written in binary, its digits are the rows: bit 0 (the rightmost) is row 0, and a
# 1 means *free*. Eight free rows are `0b11111111`, which is 255. Such a number is called a **bitmask**.
#
# One question comes up again and again: which is the lowest row in the mask? The answer is `m & -m`. Watch it work on a
# mask in which rows 2, 4, 5 and 7 are free.


# %%
def bits(number):
    return f"{number & 0b11111111:08b}"  # eight digits, the highest row on the left


m = 0b10110100
print(f"     m  {bits(m)}    rows 2, 4, 5 and 7 are free")
print(f"    ~m  {bits(~m)}    every bit turned around")
print(f"    -m  {bits(-m)}    which is ~m + 1")
print(f"m & -m  {bits(m & -m)}    what m and -m have in common")
print("the place of that bit:", (m & -m).bit_length() - 1)

# %% [markdown]
# Look at the right end. `m` ends in `100`: the lowest 1, and zeros behind it. Turned around, that is `011`: the zeros
# became ones. Adding 1 turns those ones back into zeros, one after the other, and the carry stops at exactly one place:
# where `m` has its lowest 1. So from there on to the right, `-m` is as `m`. To the left of it, nothing was carried, so
# every bit is the opposite of `m`'s. What do both have in common? That one bit.
#
# `&` gives the bit itself, here 4. `bit_length() - 1` gives its place, here 2. No row was looked at by itself.
#
# There is a film of it, and a board that does it on the engine's own allocator. Run it, then click: take slots, and
# give them back.

# %%
from astrai.films.stills import Stills

# To see it of your own run, take the # away in front of the next line. Rendering takes about half a minute.
# astrai.film("LowestSetBit", trace=on_yours.trace)
Stills("LowestSetBit")

# %%
from astrai.inference.cache.slots import SlotAllocator
from astrai.widgets.bitmask_board import BitmaskBoard

slots = SlotAllocator(8)
board = BitmaskBoard(slots)
for _ in range(5):
    board.allocate()
board

# %%
predict(
    "08.3",
    "Slots 0 to 4 are taken. 1 is freed, then 3, then 2. Three requests come. Which slots, in this order?",
    ["5, 6, 7", "2, 3, 1", "1, 2, 3"],
)

# %%
eight = SlotAllocator(8)
taken = [eight.allocate() for _ in range(5)]
for slot in (1, 3, 2):
    eight.free(taken[slot])
reveal("08.3", ", ".join(str(eight.allocate().slot) for _ in range(3)))

# %% [markdown]
# A stack of free slots would have given 2, 3, 1: what came back last goes out first. A queue would have given 5, 6, 7,
# the first in line. The mask does not know who came back when: it has the lowest. Where all free rows are alike, as
# blank ones are, that keeps busy rows together at the low end, and decode can read neighbouring rows as one view.
#
# A few more moves with masks, which you will need. `1 << row` is the mask of that row alone, and `&`, `|`, `^` work on
# each bit by itself: in both, in one or the other, in exactly one. Python's whole numbers have no last digit, so `~m`
# and `-m` are negative there; `bits` shows their lowest eight digits.

# %%
from astrai.inference.cache.slots import slots_in

print(bits(m), "         m")
print(bits(1 << 4), "         the mask of row 4 alone")
print(m >> 4 & 1, "                is row 4 in m?")
print(bits(m | 1 << 3), "         row 3 put in")
print(bits(m ^ 1 << 4), "         row 4 turned around: it was in, now it is out")
print(bits(m & ~0b11110000), "         m without rows 4 to 7")
print(list(slots_in(m)), "     all rows of m, lowest first")

# %% [markdown]
# The last one takes the lowest bit, turns it off, and looks again until nothing is left.
#
# ## Build: the allocator
#
# Your second part. What an allocator hands out is a *handle*: the slot, and a version that counts how often that row
# was handed out. An old handle can so be told from a new one. Versions are given, in the next cell; what they protect
# from is chapter 13's story.
#
# **08.4** Write the allocator, in the cell after it. Its one attribute is `free_mask`.
#
# - `allocate()` takes the lowest free row: its bit leaves `free_mask`, and `self.renew(row)` is what it returns.
# - `allocate(among=...)` gets a second mask and takes the lowest row that is free *and* in it. The engine's cache
#   uses this: it asks for the very row that it wants. `None` means that any free row will do.
# - If there is no such row, it raises `SlotError`.
# - `free(handle)` puts the bit of `handle.slot` back. If the row is free already, it raises `SlotError`.


# %%
from astrai.inference.cache.slots import Handle, SlotError


class Versions:
    """How often each row was handed out. Given."""

    def __init__(self, num_slots):
        self.num_slots = num_slots
        self.versions = [0] * num_slots

    def renew(self, slot):
        """Count one more hand-out of a row; the handle for it."""
        self.versions[slot] += 1
        return Handle(slot, self.versions[slot])

    def handle(self, slot):
        return Handle(slot, self.versions[slot])

    def check(self, handle):
        if self.versions[handle.slot] != handle.version:
            raise SlotError(f"{handle} is out of date: that row is at version {self.versions[handle.slot]}")


# %% tags=["exercise", "08.4"]
class MyAllocator(Versions):
    def __init__(self, num_slots):
        super().__init__(num_slots)
        # BEGIN SOLUTION
        self.free_mask = (1 << num_slots) - 1  # a 1 for each row
        # STUB: raise NotImplementedError  # set self.free_mask: a 1 for each row, since all are free
        # END SOLUTION

    def allocate(self, among=None):
        # BEGIN SOLUTION
        candidates = self.free_mask if among is None else self.free_mask & among
        if not candidates:
            raise SlotError("none of these rows is free")
        lowest = candidates & -candidates
        self.free_mask ^= lowest
        return self.renew(lowest.bit_length() - 1)
        # STUB: raise NotImplementedError  # find the lowest row, take its bit out, return self.renew(row)
        # END SOLUTION

    def free(self, handle):
        self.check(handle)  # given: a handle that is out of date is refused
        # BEGIN SOLUTION
        if self.free_mask >> handle.slot & 1:
            raise SlotError(f"row {handle.slot} is free already")
        self.free_mask |= 1 << handle.slot
        # STUB: raise NotImplementedError  # raise SlotError if handle.slot is free already, else put its bit back
        # END SOLUTION


# %%
check("08.4", MyAllocator)

# %% [markdown]
# Why is `free` so strict? Suppose that two parts of a program both believe that a row is theirs to give back. (This
# happened, with a client's thread and the engine's.) If the row has a new owner by the second time, the version gives
# it away: `check` refuses. If it is still free, only your `if` can notice. Without versions and without that `if`, the
# row would sooner or later be handed out to two requests, and two conversations would write over each other's KV. A
# loud error on the spot is the kind way.
#
# ## The engine on your allocator
#
# Four chats on four slots. The one in slot 3 ends first, then the one in slot 1. Then a fifth comes.
#
# > **Predict.** Which slot does the fifth chat get?

# %%
from astrai.widgets.picture import SlotMap

Slots = mine("08.4", MyAllocator, SlotAllocator)
on_your_slots = astrai.InferenceEngine(model, tokenizer, num_slots=4, slots=Slots, start=False)
for hero, max_tokens in (("fox", 40), ("kite", 6), ("boat", 40), ("goat", 3)):
    ask(on_your_slots, f"Tell me a story about a {hero}.", max_tokens)
for _ in range(10):
    on_your_slots.scheduler.step()
ask(on_your_slots, "Who are you?")
for _ in range(5):
    on_your_slots.scheduler.step()
SlotMap(on_your_slots)

# %% [markdown]
# Slot 3, now at its second version, although slot 1 is free too, and lower. A row that was given back is not blank: it
# remembers a conversation, so free rows are not all alike. Your allocator was asked for this very row, through `among`:
# *which* row is the choice of the prefix cache, and it took the one that was used longest ago. (It even held the first
# two tokens already, with which every chat here begins, and kept them.) We come back to that choice soon.
#
# ## What does O(1) mean here?
#
# One often reads that such an allocator works in O(1): in the same time, however many slots there are. Let us be honest
# about that and measure three ways to take a slot and give it back, with the lower half of the slots taken:
#
# - a **list** of the free slots, used as a stack: `pop()` and `append()`;
# - a **scan**: one `True` or `False` for each slot, and a search for the first `True`;
# - the **bitmask**.
#
# > **Predict.** Which of the three is the fastest with 8 slots? Which of them keep their time up to 4,096?


# %%
def three_ways(num_slots):
    half = num_slots // 2
    stack = list(range(half, num_slots))
    is_free = [slot >= half for slot in range(num_slots)]
    mask = (1 << num_slots) - (1 << half)

    def use_list():
        slot = stack.pop()
        stack.append(slot)

    def use_scan():
        slot = is_free.index(True)
        is_free[slot] = False
        is_free[slot] = True

    def use_mask():
        nonlocal mask
        lowest = mask & -mask
        slot = lowest.bit_length() - 1
        mask ^= lowest
        mask |= 1 << slot

    return {"list": use_list, "scan": use_scan, "bitmask": use_mask}


# %%
counts = [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]


def draw(ways, title, x, words, rounds, calls):
    """The time of each way at each count, on two logarithmic axes."""
    actions = {(way, count): action for count in counts for way, action in ways(count).items()}
    times = fastest(actions, rounds, calls)
    chart = Chart(title, x, "microseconds", words)
    for way in ways(8):
        chart.axes.loglog(counts, [times[way, count] for count in counts], label=way)
    chart.axes.set_xscale("log", base=2)
    chart.axes.set_xticks([8, 64, 512, 4096], ["8", "64", "512", "4,096"])
    return chart


words = "time against slots: the list lies lowest and flat, the scan climbs, the bitmask rises late"
draw(three_ways, "Take one slot and give it back", "slots", words, rounds=20, calls=50)

# %% [markdown]
# Both axes are logarithmic: upwards, each power of ten is ten times the one before; to the right, each tick is eight
# times the one before. A straight climb is a time that grows with the slots. Look for three things.
#
# - The **list** lies lowest, and flat. In Python, taking from the end of a list is as fast as things get. If speed were
#   all, we would use it.
# - The **scan** climbs with the number of slots, as a search must. For a few slots it is as good as the mask.
# - The **bitmask** makes a small step near 30 slots, then stays for long, then rises. A processor computes with *words*
#   of 64 bits; Python keeps a large number in pieces of 30, and one piece is handled more quickly than several. A mask
#   of 4,096 bits has more than a hundred pieces, and each `&`, `-` and `^` goes through all. So it is O(1) up to a
#   word and O(words) beyond: much less than a scan, but not nothing.
#
# It hardly matters: a request takes *one* slot, and then hundreds of trips through the model. So why a mask?
#
# ## What the mask is good at
#
# Because a mask is a set, and sets of rows combine. The engine also keeps, for each piece of text, the rows that hold
# it, as a mask too. Then *free and holding this prefix* is one `&` (a longer one for more rows):
#
# ```
# free                  10111010
# holding the prefix    00101110
# free and holding      00101010    rows 1, 3 and 5
# ```
#
# Let us measure that too: as a loop over the rows, with Python's own `set`, and as one `&`. (The first two list the
# rows, the `&` is a mask again. That is what the engine needs: it asks whether the mask is 0, and which row is the
# lowest. To list all of them, it would walk them too.)
#
# > **Predict.** Where will the line of the masks lie, and how will it go on?

# %%
import random


def candidates(num_slots):
    rows, chance = range(num_slots), random.Random(0)
    is_free = [chance.random() < 0.5 for _ in rows]
    holds = [chance.random() < 0.5 for _ in rows]
    free_rows, holding_rows = ({row for row in rows if flags[row]} for flags in (is_free, holds))
    free, holders = (sum(1 << row for row in chosen) for chosen in (free_rows, holding_rows))
    return {
        "a loop over the rows": lambda: [row for row in rows if is_free[row] and holds[row]],
        "sets: free & holders": lambda: free_rows & holding_rows,
        "masks: free & holders": lambda: free & holders,
    }


words = "time against rows: loop and set climb, the line of the masks stays far below them"
draw(candidates, "Which rows are free and hold this prefix?", "rows", words, rounds=15, calls=10)

# %% [markdown]
# That is its merit: not the quickest `pop`, but *set algebra on all rows at once*, and *the lowest first*, which is a
# fair way to choose among equals. But are they equal?
#
# ## An early engine's choice
#
# A row that was given back keeps its KV. That is the *prefix cache*: when the conversation goes on, its row is found,
# and only the new words are computed. A new conversation must get some free row as well. The obvious choice is what the
# allocator does by itself: the lowest. An early engine did just that, and here it is again.
#
# The first class is given: the engine's cache calls its `_least_valuable_slot` when no free row can simply go on with a
# request. (The underscore marks an inner part, which one normally leaves alone.) Ours passes the question on to
# `choose_row`, together with what is known about the rows, as masks. It asks `self.tree`, which knows what each row
# holds: chapter 11 builds that tree.

# %%
from astrai.inference.cache.prefix_cache import PrefixCacheManager


class AskingCache(PrefixCacheManager):
    """The engine's prefix cache, but `choose_row` decides which free row a new conversation gets. Given."""

    def _least_valuable_slot(self):
        ends = [self.tree.end_node(slot) for slot in range(self.slots.num_slots)]  # where the tokens of each row end
        # an end has `holders`, the mask of all rows that hold everything up to it: is there one besides the row itself?
        held_twice = sum(1 << slot for slot, end in enumerate(ends) if end.holders & ~(1 << slot))
        last_used = [end.last_used for end in ends]
        return self.choose_row(self.slots.free_mask, self.tree.holding, held_twice, last_used)


class LowestFree(AskingCache):
    def choose_row(self, free, holding, held_twice, last_used):
        return (free & -free).bit_length() - 1


# %% [markdown]
# Four slots. Ana has a long chat; each time, her whole conversation is sent again and found in slot 0. Then three
# strangers drop in, one after the other, each with one short question. Then Ana goes on.


# %%
def say(engine, chats, name, text, max_tokens=60):
    """One more turn of a chat, to its end."""
    chat = chats.setdefault(name, [])
    chat.append({"role": "user", "content": text})
    stream = engine.submit(GenerationRequest(messages=chat, sampling=SamplingParams(max_tokens=max_tokens)))
    finish(engine)
    result = stream.result()
    chat.append({"role": "assistant", "content": result.text})
    return result


# %%
TURNS = [
    ("Ana", "Tell me a story about a fox."),
    ("Ana", "What happens next?"),
    ("Ana", "Tell the next part."),
    ("Ben", "What do you like?"),
    ("Cleo", "What is your name?"),
    ("Dan", "What is the weather?"),
    ("Ana", "Give the story a title."),
]


def ana_and_three_strangers(cache_class):
    engine, chats = astrai.InferenceEngine(model, tokenizer, num_slots=4, prefix_cache=cache_class, start=False), {}
    return engine, [say(engine, chats, name, text) for name, text in TURNS]


def table(results):
    for (name, text), result in zip(TURNS, results):
        print(f"{name:>4}: {text:<28} {result.cached_tokens:>3} of {result.prompt_tokens:>3} tokens found")
    print("Ana reads:", results[-1].text)


# %%
finds = [
    "nearly all of it: there are three blank rows",
    "what the strangers' short chats did not write over",
    "only the beginning that all chats share",
]
question = "How much of her conversation does Ana's last question find, when a new chat gets the lowest free row?"
predict("08.5", question, finds)

# %%
broken, results = ana_and_three_strangers(LowestFree)
ben, last = results[3], results[-1]
nearly_all, only_the_beginning = last.cached_tokens > 0.9 * last.prompt_tokens, last.cached_tokens <= ben.cached_tokens
reveal("08.5", finds[0] if nearly_all else finds[2] if only_the_beginning else finds[1])

# %%
from astrai.course.stills import SlotsOverTime

table(results)
SlotsOverTime(broken.trace)

# %% [markdown]
# Slot 0 was free when Ben came, and it is the lowest. So the one row that remembered anything was overwritten, while
# three blank ones stood beside it; and again for Cleo, and for Dan. Ana still reads the right words: a cache that
# forgets costs time, never truth. But all that she and the model had said was computed a second time: the tall **P** at
# the end.
#
# Why all of it? Ben wrote only the first positions of the row. But what stands behind them is of no use any more: a key
# depends on all tokens before it, and those are Ben's now. So the cache drops the rest of the row. The tokens that were
# found are the ones with which every chat here begins.
#
# And note whom it hits. The low rows are handed out first and used the most, so it is the *warmest* row that goes
# first.
#
# ## Mend it
#
# **08.6** Write `choose_row`. It gets three masks and a list:
#
# - `free`: the rows that may be handed out (at least one);
# - `holding`: the rows that hold tokens, of running or past requests. The others are blank;
# - `held_twice`: the rows all of whose tokens stand in some other row too;
# - `last_used[row]`: when the row was last used. Larger is later; a blank row has 0.
#
# Return the number of the free row that will be missed least: a *blank* row if there is one, else one that is *held
# twice*, else any. Of several such rows, take the one that was used longest ago, and the lowest if there is a tie. The
# moves with masks that you know are enough, and `slots_in(mask)` gives the rows of a mask.


# %% tags=["exercise", "08.6"]
class MyCache(AskingCache):
    def choose_row(self, free, holding, held_twice, last_used):
        # BEGIN SOLUTION
        candidates = free & ~holding or free & held_twice or free  # the first of the three masks that is not empty
        return min(slots_in(candidates), key=lambda row: last_used[row])
        # STUB: raise NotImplementedError  # choose a mask (blank, else held twice, else free), return a row of it
        # END SOLUTION


# %%
check("08.6", MyCache)

# %%
PrefixCache = mine("08.6", MyCache, PrefixCacheManager)
mended, results = ana_and_three_strangers(PrefixCache)
table(results)
SlotsOverTime(mended.trace)

# %% [markdown]
# The strangers got the blank rows. Ana's row was free in the meantime, and yet nobody's but hers: her question found
# the whole conversation, and the engine went on in place (**R**, reused). Only her new words were computed.
#
# ## A busier day
#
# Blank rows run out. Then the other two rules have to earn their keep. Ben and Cleo hear a story each (requests 0 and
# 1); Ana and Abe ask for the very same one (2 and 3), so two rows hold the same tokens. Then a program comes that sends
# bare token ids (4); they share not even the first token with the chats. (A chat shares its first tokens with the rows.
# If one of these is held twice, the cache takes it by itself and does not ask you.) Then Ben goes on (5), somebody new
# comes, Eva (6), and Ana goes on (7).
#
# > **Predict.** Three policies: the lowest row; a blank row, else the oldest; all three rules. Which of the last two
# > computes fewer tokens?


# %%
class BlankThenOldest(AskingCache):
    def choose_row(self, free, holding, held_twice, last_used):
        return min(slots_in(free & ~holding or free), key=lambda row: last_used[row])


def busy_day(cache_class):
    engine = astrai.InferenceEngine(model, tokenizer, num_slots=4, prefix_cache=cache_class, start=False)
    chats = {}
    for name, hero in (("Ben", "kite"), ("Cleo", "boat"), ("Ana", "fox"), ("Abe", "fox")):
        say(engine, chats, name, f"Tell me a story about a {hero}.", max_tokens=20)
    engine.submit(GenerationRequest(prompt=tokenizer.encode("One day"), sampling=SamplingParams(max_tokens=8)))
    finish(engine)
    for name, text in (("Ben", "Give the story a title."), ("Eva", "Who are you?"), ("Ana", "Give the story a title.")):
        say(engine, chats, name, text)
    return engine


policies = {"the lowest": LowestFree, "blank, then oldest": BlankThenOldest, "all three rules": PrefixCache}
days = {name: busy_day(cache_class) for name, cache_class in policies.items()}
for name, day in days.items():
    print(f"{name:<18} {day.stats().prefilled_tokens:>4} tokens computed, {day.stats().cached_tokens:>4} found")
display(SlotsOverTime(days["blank, then oldest"].trace))
SlotsOverTime(days["all three rules"].trace)

# %% [markdown]
# The upper picture is *blank, then oldest*, the lower one *all three rules*. Follow request 4, the program. Above, it
# got the oldest row, which was Ben's, although the story of the fox was there twice; so most of Ben's second
# question, request 5, had to be computed (**P**). Below, one copy of the fox was given up for the program, and nobody
# missed it: Ben found his own row again (**R**). In both, Eva, request 6, got the row of Cleo, who never came back.
#
# No rule knows the future. *Least recently used* (LRU) is a guess: who was here lately will come again. Chapter 12
# looks at how good that guess is.
#
# ## Can you say why?

# %%
quiz("08")

# %% tags=["volatile"]
progress()

# %% [markdown]
# ## Where this lives
#
# | what you built or used | where it is |
# |---|---|
# | `k_cache` and `v_cache`, their layout and plan | `KVCache` in `astrai/inference/cache/kv_cache.py` |
# | the bitmask, versions, handles | `SlotAllocator` in `astrai/inference/cache/slots.py` |
# | which row is handed out | `PrefixCacheManager` in `astrai/inference/cache/prefix_cache.py` |
# | the runner between scheduler and model | `TransformerRunner` in `astrai/inference/runner.py` |
# | the board, the map | `astrai/widgets/bitmask_board.py`, `astrai/widgets/picture.py` |
# | the film | `animations/lowest_set_bit.py` |
#
# **What others do.** Hugging Face's default `DynamicCache` joins old and new keys with `cat` at each step, as we timed
# it; its `StaticCache` sets the space aside. vLLM and SGLang set all of it aside too, but not as rows: vLLM cuts it
# into blocks of a few tokens (often 16), SGLang often into single tokens, and a request has a table of those that it
# owns. So a short chat occupies only what it needs, shared beginnings are shared instead of copied, and attention
# needs kernels that follow the table. Mind the word: in vLLM a *slot* (`slot_mapping`) is the place of one token, and
# SGLang uses it for that and for a request's row in its table. For what is forgotten, both go by least recent use: vLLM
# keeps its free blocks in a queue in that order and hands out the oldest, SGLang evicts the leaves of its radix tree.
