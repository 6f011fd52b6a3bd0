# %% [markdown]
# # The radix tree: who holds this beginning already?
#
# A new prompt arrives. The engine remembers what it has computed for others. Is the beginning of this prompt among it,
# and how much of it? In this notebook you build the answer that the engine uses: a tree over tokens.
#
# | | |
# |---|---|
# | **You will have** | built lookup and split, found a bug with random prompts, mended a hasty scheduler |
# | **Time** | 60 minutes; the cells themselves run in well under a minute |
# | **You need** | notebook 00, and Python with classes and dictionaries |
# | **Device** | a CPU is enough; the first code cell says on what you run |
#
# ## A few words from notebook 00
#
# While a model reads a token, each of its layers computes a *key* and a *value* for it, the token's **KV**. Later
# tokens look at these, so a serving engine keeps them. A **slot** is the memory for one request's KV: one whole row of
# the KV cache. (vLLM and SGLang call the place of a single token a slot.) **Prefill** computes the KV of a prompt, many
# tokens at once. **Decode** adds one token a step. When a request ends its slot is free, but what was computed stays in
# the row until the row is needed.
#
# The KV of a token depends on that token and on *all tokens before it*. So a row can help a new prompt only as far as
# both begin with the same tokens. Such a common beginning is a **prefix**, and finding the longest one is our task.

# %%
import astrai
from astrai import GenerationRequest, InferenceEngine, SamplingParams
from astrai.course import check, hint, mine, predict, quiz, reveal, solution
from astrai.widgets import picture

model, tokenizer = astrai.load("tiny")
print("running on:", next(model.parameters()).device)

# %% [markdown]
# ## Four chats
#
# Four people talk to the engine. All their chats begin with the same system message, the rules. `run` hands in all
# chats at once and steps the engine by hand until every answer is there.

# %%
RULES = "You are Astra, a little storyteller. Use simple words. Every story has a happy end."
ASKED = [f"Tell me a story about a {thing}." for thing in ("fox", "kite", "boat", "bear")]
sampling = SamplingParams(max_tokens=120)  # temperature 0: always the most likely token


def opening(text):
    return [{"role": "system", "content": RULES}, {"role": "user", "content": text}]


def run(engine, chats, sampling=sampling):
    streams = [engine.submit(GenerationRequest(messages=chat, sampling=sampling)) for chat in chats]
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return [stream.result() for stream in streams]


engine = InferenceEngine(model, tokenizer, num_slots=4, start=False)
chats = [opening(text) for text in ASKED]
answers = run(engine, chats)
picture.SlotMap(engine)

# %% [markdown]
# Four rows, each with a prompt and an answer. What exactly is in such a row? The prompt, and the answer *without its
# last token*. That one was chosen at the end, but never read by the model, so it has no KV.
#
# Now the first person replies. Chat programs send the whole conversation again: rules, question, story, new question.

# %%
rows = []
for chat, answer in zip(chats, answers):
    rows.append((*tokenizer.apply_chat_template(chat), *answer.token_ids[:-1]))


def reply(chat, answer, text):
    return [*chat, {"role": "assistant", "content": answer.text}, {"role": "user", "content": text}]


second_turn = reply(chats[0], answers[0], "Who is the story about?")
prompt = tuple(tokenizer.apply_chat_template(second_turn))
print("first turn: ", answers[0].prompt_tokens, "prompt tokens,", answers[0].completion_tokens, "tokens of answer")
print("second turn:", len(prompt), "prompt tokens")
predict("11.1", "How many tokens of the second turn's prompt does some row hold already?", unit="tokens")

# %% [markdown]
# ## The obvious ways
#
# **A dictionary.** Python finds a key at once, however many there are. So: whole rows as keys.
#
# **A loop.** Compare the prompt with one row after the other, from the start, and keep the best. `common_prefix_len`
# counts how many tokens two tuples share from their start.

# %%
from astrai.inference.cache.radix_tree import common_prefix_len

slot_of_row = {row: slot for slot, row in enumerate(rows)}
print("the dictionary says:", slot_of_row.get(prompt))

shared = [common_prefix_len(row, prompt) for row in rows]
reveal("11.1", max(shared))

# %% [markdown]
# The dictionary answers the wrong question, "is *exactly this* there?", and a new turn is never exactly there. The loop
# is right: the whole first turn was found, prompt and answer, but for the answer's last token.
#
# But the loop looks at every row. With a thousand rows that all begin with the same rules, it reads those rules a
# thousand times. We will measure that below.
#
# Can the dictionary be taught to answer our question? Yes: every *beginning* of every row becomes a key. To look a
# prompt up, try all of it, then one token less, and so on.

# %%
from astrai.course.charts import Chart

slot_of_prefix = {row[:n]: slot for slot, row in enumerate(rows) for n in range(1, len(row) + 1)}
found = next(n for n in range(len(prompt), 0, -1) if prompt[:n] in slot_of_prefix)
print("the loop:      ", shared, "tokens shared with each row")
print("the dictionary:", found, "tokens, in slot", slot_of_prefix[prompt[:found]])
print(f"{sum(map(len, rows)):,} tokens in the rows")
print(f"{sum(map(len, slot_of_prefix)):,} tokens in the keys")

chart = Chart("One row, and the keys of all its prefixes", x="tokens in the row", y="tokens kept")
lengths = range(1, 1025)
chart.axes.plot(lengths, [n * (n + 1) // 2 for n in lengths], label="in the keys", marker="")
chart.axes.plot(lengths, lengths, label="in the row", marker="")
chart.axes.yaxis.set_major_formatter("{x:,.0f}")
chart

# %% [markdown]
# It finds the prefix, and pays with memory. A row of $n$ tokens has keys of $1, 2, 3, \dots, n$ tokens, together
# $n(n+1)/2$: twice the length, four times the memory. Beside that the row itself is the flat line at the bottom.
#
# All these keys repeat one another. Written as a tree, each token stands there once: a node for each token, and below
# it whatever comes next in some row. That is a **trie**. In Python, dictionaries inside of dictionaries will do.


# %%
def nodes_of(trie):
    """All nodes below the root."""
    found = list(trie.values())
    for node in found:  # the list grows while we walk along it
        found.extend(node.values())
    return found


trie = {}
for row in rows:
    node = trie
    for token_id in row:
        node = node.setdefault(token_id, {})  # the child for this token, made if it is new

nodes = nodes_of(trie)
print(len(nodes), "nodes for", sum(map(len, rows)), "tokens, since shared beginnings are there once")
print(sum(len(node) == 1 for node in nodes), "of the nodes have exactly one child")

# %% [markdown]
# Much better. And look at the second number: nearly every node has one child only. A chat branches in very few places,
# where the questions differ; in between there are long chains without a choice.
#
# So put each chain into *one* node that carries many tokens. This is a **radix tree**. It branches where the texts
# branch, and nowhere else. It is what the engine has kept all the time:
#
# > **Predict.** Four rows. Count in your head: in how many pieces are their texts, if each shared piece is there once?

# %%
picture.RadixTree(engine)

# %% [markdown]
# Each piece of text with the slots that hold it. The first one is there once, for all four. Below it each row goes its
# own way, since the four questions differ in the animal or thing. And so do the stories: even where two of them say the
# same words, they do so after another beginning, and that makes it another KV. (**H** marks the last *hit*: a request
# that found its beginning here. The number at the right tells when a piece was used last.)
#
# A row that shares nothing is one node, however long it is. A new row that leaves another one somewhere adds two nodes
# at most. So this tree has few nodes, and each token is there once.
#
# ## Down the tree by hand
#
# Small first. Three rows of a few words each, and one token a word. (`max_tokens=1` makes a row hold just the prompt:
# the one token of the answer has no KV.)

# %%
little_rows = [tuple(tokenizer.encode(text)) for text in ("a red fox and a boat", "a red kite", "a blue kite")]
little = InferenceEngine(model, tokenizer, num_slots=4, start=False)
for row in little_rows:
    little.submit(GenerationRequest(prompt=row, sampling=SamplingParams(max_tokens=1)))
    while little.scheduler.has_work:
        little.scheduler.step()

print("node  end  holders  edge")
for node in little.scheduler.cache.tree.nodes.values():
    print(f"{node.node_id:>4} {node.end:>4}   {node.holders:04b}    {tokenizer.decode(node.token_ids)!r}")
picture.RadixTree(little)

# %% [markdown]
# Each line above is a `RadixNode`. A node stands for the *edge* that leads to it:
#
# | field | what it is |
# |---|---|
# | `token_ids` | the tokens of the edge; the root has none |
# | `children` | the nodes below, in a dictionary by the *first token* of their edge |
# | `holders` | the rows that hold it, as bits: `0011` are the slots 0 and 1 |
# | `end`, `start` | tokens from the root to the lower and the upper end of the edge |
# | `last_used` | when it was used last, by the tree's own clock |
# | `node_id`, `parent` | its number, and the node above |
#
# To match a prompt, start at the root. The prompt's next token tells which child to go to. Compare its edge with what
# is left of the prompt. If all of the edge agrees, go on from there; if not, you are done, in the middle of an edge.
#
# > **Predict.** Walk down the picture with `a red fox`, `a blue fox`, `the fox`, and `a red kite and`. How many tokens
# > match, and which slots hold them?
#
# **11.2** Write it. The result is a `Match`: the length, and the node on whose edge the match ends (the root if nothing
# matches). Your class is a `RadixTree` like the engine's in all but this.


# %% tags=["exercise", "11.2"]
from astrai.inference.cache.radix_tree import Match, RadixNode, RadixTree


class MatchingTree(RadixTree):
    def match_prefix(self, token_ids):
        """The longest prefix of a tuple of tokens that some row holds."""
        node, length = self.root, 0
        # BEGIN SOLUTION
        while length < len(token_ids) and token_ids[length] in node.children:
            node = node.children[token_ids[length]]
            shared = common_prefix_len(node.token_ids, token_ids[length:])
            length += shared
            if shared < len(node.token_ids):
                break  # the edge goes on with other tokens
        # STUB: raise NotImplementedError  # go down, edge by edge, and count
        # END SOLUTION
        return Match(length, node)


# %%
check("11.2", MatchingTree)

# %% [markdown]
# If you are stuck, `hint("11.2")` in a new cell gives the first of three hints, and after a try `solution("11.2")`
# shows an answer.
#
# Now use it, first on the little rows. `insert` tells a tree that a slot holds some tokens; a `Handle` is a slot and
# its version, a number that chapter 13 is about. Then on the real thing: an engine with your tree gets the first chat,
# its second turn, and the second turn once more, word for word.
#
# > **Predict.** The very same prompt again: how many of its tokens are found?

# %%
from astrai.inference.cache.slots import Handle

Matching = mine("11.2", MatchingTree, RadixTree)


def grow(tree_class, rows):
    tree = tree_class()
    for slot, row in enumerate(rows):
        tree.insert(Handle(slot, 1), row)
    return tree


for text in ("a red fox", "a blue fox", "the fox", "a red kite and"):
    match = grow(Matching, little_rows).match_prefix(tuple(tokenizer.encode(text)))
    print(f"{text:<15} {match.length} tokens, held by {match.holders:04b}")

engine = InferenceEngine(model, tokenizer, num_slots=4, start=False, tree=Matching)
for chat in (chats[0], second_turn, second_turn):
    result = run(engine, [chat])[0]
    print(f"found {result.cached_tokens:>3} of {result.prompt_tokens:>3} prompt tokens: {result.text[:40]!r}")

# %% [markdown]
# `a red fox` ends in the middle of an edge. That is no problem: slot 0 holds the whole edge, so also its beginning.
#
# In the engine, the second turn found the number of 11.1. The third request found all of its prompt but one token: the
# engine asks `match_prefix` for the prompt *without its last token*. That one must be computed in any case, because the
# answer's first token is chosen from the model's output at it, and that output is not in the cache.
#
# ### Loop against tree
#
# What did we gain? Rows of 60 tokens that begin with the same rules, and the time for one lookup: with the loop, and
# with the tree. Both in turn, the median of nine, and of the two times only the ratio.
#
# > **Predict.** 256 times as many rows: does the tree's advantage grow with them, or stay as it is?

# %%
import random
import statistics
import time

draw = random.Random(0)


def seconds(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def loop_against_tree(count):
    """How many times as long the loop takes, with so many rows."""
    many = [(*prompt[:28], *(draw.randrange(4096) for _ in range(32))) for _ in range(count)]
    tree, wanted, loops, walks = grow(Matching, many), many[-1], [], []
    for _ in range(9):  # in turn, so that both meet the same disturbances
        loops.append(seconds(lambda: max(common_prefix_len(row, wanted) for row in many)))
        walks.append(seconds(lambda: tree.match_prefix(wanted)))
    return statistics.median(loops) / statistics.median(walks)


counts = (4, 16, 64, 256, 1024)
chart = Chart("Loop over the rows against walk down the tree", x="rows", y="loop takes so many times as long")
chart.axes.plot(counts, [loop_against_tree(count) for count in counts])
chart.axes.set(xscale="log", yscale="log", xticks=counts, xticklabels=counts)
chart.axes.set(yticks=(1, 10, 100, 1000), yticklabels=("1", "10", "100", "1,000"))
chart

# %% [markdown]
# Both axes are logarithmic, and the line climbs all the way: with more rows the loop takes longer in proportion, while
# the tree hardly notices. A walk down the tree takes as long as the *prompt* is; how many rows there are does not
# matter.
#
# ## Splitting an edge
#
# How does the tree come to have the right edges? So far slot 0 holds `a red fox and a boat`, one edge. Now slot 1 gets
# `a red kite`. The two part in the middle of the edge, so it must be cut there:
#
# | before | after the split | after `insert` goes on |
# |---|---|---|
# | `a red fox and a boat`, node 1, slot 0 | `a red`, **node 2**, slot 0 | `a red`, node 2, slots 0 and 1 |
# | | &nbsp;&nbsp;└ `fox and a boat`, node 1, slot 0 | &nbsp;&nbsp;├ `fox and a boat`, node 1, slot 0 |
# | | | &nbsp;&nbsp;└ `kite`, node 3, slot 1 |
#
# A split itself changes nothing of what any slot holds. It makes a new **upper** node out of the first `length` tokens
# of an edge. The old node stays, as the lower part: slot 0 ends at its lower end, before and after. It is `insert` that
# asks for it: it walks down as `match_prefix` does, has an edge split where it must, and hangs what is left below.
#
# > **Predict.** Which fields of the old node change? Who holds the upper part, when was it used last, where is its end?
#
# **11.3** Write it. `self._new_id()` gives the next free number, `self.nodes` is the table of all nodes by number, and
# to `changes` belongs `NodeSplit(lower number, upper number, length)`: from such events trace and pictures are made.


# %% tags=["exercise", "11.3"]
from astrai.trace.events import NodeSplit


class MyTree(Matching):
    def split(self, node, length, changes):
        """Move the first `length` tokens of a node's edge into a new parent, and return that."""
        upper = RadixNode(node_id=self._new_id(), token_ids=node.token_ids[:length], parent=node.parent)
        # BEGIN SOLUTION
        upper.holders, upper.last_used, upper.end = node.holders, node.last_used, node.start + length
        node.token_ids = node.token_ids[length:]
        node.parent.children[upper.token_ids[0]] = upper  # from above ...
        upper.children[node.token_ids[0]] = node  # ... down to the old node ...
        node.parent = upper  # ... and back up
        self.nodes[upper.node_id] = upper
        changes.append(NodeSplit(node.node_id, upper.node_id, length))
        # STUB: raise NotImplementedError  # what else does upper know? then cut the old edge, and link the three
        # END SOLUTION
        return upper


# %%
check("11.3", MyTree)

# %% [markdown]
# Your tree goes into the engine, and three chats run on it: a fox, a kite, and a fox and a boat. The table shows what
# happened to the tree, and leaves everything else out.
#
# > **Predict.** How many splits will there be? Where?

# %%
from astrai.course.stills import TraceTable

Tree = mine("11.3", MyTree, RadixTree)
engine = InferenceEngine(model, tokenizer, num_slots=4, start=False, tree=Tree)
for text in ("a fox", "a kite", "a fox and a boat"):
    run(engine, [opening(f"Tell me a story about {text}.")], SamplingParams(max_tokens=24))


def events(engine, *names):
    """What happened of these kinds. The phases tell the table where each event belongs."""
    names = (*names, "PhaseStarted", "PhaseEnded")
    return [record for record in engine.trace.records if type(record.event).__name__ in names]


def text_of(token_ids):
    return tokenizer.decode(token_ids, skip_special=False)


display(TraceTable(events(engine, "NodeInserted", "NodeSplit", "NodeMerged"), decode=text_of, fine_print=True))
picture.RadixTree(engine)

# %% [markdown]
# The kite split the first edge in front of `fox`. `a fox and a boat` then went along with the fox for one token more,
# and split again. *Took over its only child* is the reverse, a merge: an answer was added below its prompt, and two
# pieces that the same rows hold become one. So the same rows always give the same tree, in whatever order they came.
#
# ### As a film
#
# `SplitTheEdge` shows all this in motion: the tree grows by splits and answers hits. It also forgets, leaf by leaf;
# that is chapter 12. Take the `#` away to render it from *your* run; it takes about half a minute.

# %%
from astrai.films.stills import Stills

# astrai.film("SplitTheEdge", trace=engine.trace)
Stills("SplitTheEdge")

# %% [markdown]
# ## A thousand prompts
#
# Does the tree always find the right prefix? We tried a handful of prompts that came to mind. Bugs live where nobody
# thought of looking, so let chance do it. A **property test** needs two things: random inputs, and an answer that is so
# simple that it is surely right, however slow. Testers call that an **oracle**.
#
# **11.4** You have seen the oracle already: the loop. Write it as a function. One line is enough.


# %% tags=["exercise", "11.4"]
def longest_prefix(rows, prompt):
    """How many tokens of `prompt` the best of the rows has from its start; 0 if there are no rows."""
    # BEGIN SOLUTION
    return max((common_prefix_len(row, prompt) for row in rows), default=0)
    # STUB: raise NotImplementedError  # the best row, the slow way
    # END SOLUTION


# %%
check("11.4", longest_prefix)

# %% [markdown]
# A case is three random rows and a random prompt. All are made of only three different tokens, `fox`, `kite` and
# `boat`. That is on purpose, as you will see. Here goes your tree, a thousand times:


# %%
def oracle_slowly(rows, prompt):
    return max([common_prefix_len(row, prompt) for row in rows] or [0])


oracle = mine("11.4", longest_prefix, oracle_slowly)


def random_case(draw, alphabet):
    """Three rows and, at the end, a prompt, each of one to five tokens."""
    return [tuple(draw.choices(alphabet, k=draw.randint(1, 5))) for _ in range(4)]


def fails(tree_class, case):
    *rows, prompt = case
    return grow(tree_class, rows).match_prefix(prompt).length != oracle(rows, prompt)


def failures(tree_class, alphabet):
    draw = random.Random(11)
    cases = [random_case(draw, alphabet) for _ in range(1000)]
    return [case for case in cases if fails(tree_class, case)]


three_words = [tokenizer.encode(word)[0] for word in (" fox", " kite", " boat")]
print(len(failures(Tree, three_words)), "of 1,000 prompts went wrong")

# %% [markdown]
# No failure. But would the test find one? A test that cannot fail proves nothing, so we give it a broken tree.
#
# `HastyTree` is one line shorter than a right answer to 11.2, and it agrees with it on all four prompts that you did
# by hand. Can you see what it does wrong? We run the test on it twice: with three tokens to choose from, and with all
# 4,096 of the model's vocabulary, which looks so much more thorough.


# %%
class HastyTree(RadixTree):
    def match_prefix(self, token_ids):
        node, length = self.root, 0
        while length < len(token_ids) and token_ids[length] in node.children:
            node = node.children[token_ids[length]]
            length += common_prefix_len(node.token_ids, token_ids[length:])
        return Match(length, node)


options = ["the one with 3 tokens", "the one with 4,096 tokens", "both, about equally often"]
predict("11.5", "Which of the two tests finds the bug in HastyTree?", options)

# %%
few, all_tokens = failures(HastyTree, three_words), failures(HastyTree, range(4096))
reveal("11.5", options[0] if len(few) > len(all_tokens) else options[1])

# %% [markdown]
# Random rows over a large vocabulary hardly ever share anything, so no edge is split, and there is nothing to get
# wrong. With three tokens they share all the time. Good random inputs are *likely to collide*.
#
# One failure is enough to know, but a short one is needed to understand. So we **shrink** the first one: leave out a
# row or a token, as long as it still fails.


# %%
def smaller(case):
    """The case with one row or one token less, in every way."""
    for i, ids in enumerate(case):
        if i < len(case) - 1:  # the prompt stays
            yield [*case[:i], *case[i + 1 :]]
        for j in range(len(ids)):
            yield [*case[:i], ids[:j] + ids[j + 1 :], *case[i + 1 :]]


case = few[0]
while still := [less for less in smaller(case) if fails(HastyTree, less)]:
    case = still[0]

print(len(few), "prompts of 3 tokens and", len(all_tokens), "of 4,096 went wrong. The first one, shrunk:")
*rows_left, prompt_left = case
for row in rows_left:
    print("row:   ", tokenizer.decode(row))
print("prompt:", tokenizer.decode(prompt_left))
print("HastyTree finds", grow(HastyTree, rows_left).match_prefix(prompt_left).length)
print("the oracle says", oracle(rows_left, prompt_left))

# %% [markdown]
# Small enough for a picture in the head. Only the first token of the first edge matches. `HastyTree` does not stop
# there. It looks among the nodes *below* the edge, finds one that begins with the prompt's next token, and counts on,
# as if the rest of the edge had agreed. No row has these tokens in this order. What is missing is the `break`.
#
# What would it do to real people? Three of the first prompts are in the cache. Now somebody asks in other words.
#
# > **Predict.** The hasty tree finds one token more than the right one. Can one token do any harm?

# %%
from textwrap import fill

for tree_class in (RadixTree, HastyTree):
    engine = InferenceEngine(model, tokenizer, num_slots=4, start=False, tree=tree_class)
    run(engine, [opening(text) for text in ASKED[:3]], SamplingParams(max_tokens=1))
    result = run(engine, [opening("Tell me a fox story.")], SamplingParams(max_tokens=40))[0]
    print(f"{tree_class.__name__} found {result.cached_tokens} tokens.")
    print(fill(result.text, width=90, initial_indent="    ", subsequent_indent="    "))

# %% [markdown]
# The same engine, the same model, no error, and no fox. The row that was taken over holds the KV of `story` where the
# prompt says `fox`. So the model never read the one word that mattered, and nobody is told. A wrong prefix does not
# crash; it answers a question that was not asked. That is why a cache is tested against brute force.
#
# ## Is it worth it?
#
# A workload as in real life: four people, three turns each, the same rules for all. (The stories are cut after 24
# tokens, to be quick.) With the prefix cache and without it (`prefix_cache=False`) in turn, three times each, on one
# thread. The **hit rate** is the share of prompt tokens that were found. The **time to first token** is how long
# somebody looks at an empty answer.
#
# > **Predict.** In which turn is the hit rate highest? And are the answers the same with the cache and without?

# %%
import torch

FOLLOW_UPS = ("Who is the story about?", "Give the story a title.")


def three_turns(prefix_cache):
    """The results of four chats, turn by turn."""
    engine = InferenceEngine(model, tokenizer, num_slots=4, start=False, prefix_cache=prefix_cache)
    chats, short = [opening(text) for text in ASKED], SamplingParams(max_tokens=24)
    turns = [run(engine, chats, short)]
    for text in FOLLOW_UPS:
        chats = [reply(chat, result, text) for chat, result in zip(chats, turns[-1])]
        turns.append(run(engine, chats, short))
    return turns


threads = torch.get_num_threads()
torch.set_num_threads(1)
repeats = [(three_turns(True), three_turns(False)) for _ in range(3)]
torch.set_num_threads(threads)

with_cache, without = repeats[0]
for number, turn in enumerate(with_cache, 1):
    total, hits = sum(r.prompt_tokens for r in turn), sum(r.cached_tokens for r in turn)
    print(f"turn {number}: {hits:>3} of {total:>3} prompt tokens found, {total - hits:>3} computed: {hits / total:.0%}")
same = all(a.token_ids == b.token_ids for x, y in zip(with_cache, without) for a, b in zip(x, y))
print("same answers with and without the cache:", same)


# %%
def first_token(turns, number):
    return statistics.median(result.ttft for result in turns[number])


def ratio(number):
    return statistics.median(first_token(off, number) / first_token(on, number) for on, off in repeats)


words = "a bar for each turn, against a line at 1"
chart = Chart("Time to first token, without the cache / with it", y="times as long", words=words)
chart.axes.bar(["turn 1", "turn 2", "turn 3"], [ratio(number) for number in range(3)], width=0.5)
chart.axes.axhline(1, color="black", linewidth=0.8)
chart

# %% [markdown]
# The line at 1 stands for "no difference". In the first turn there is little to gain: only the short rules can be
# shared, and three of the four wait a step until the first one has computed them. (You will see below why. The bar may
# even end under the line.) From the second turn on nearly the whole prompt is found, and the first token comes clearly
# earlier. Prompts grow with each turn; what is new in them hardly does. The answers are the same, token for token.
#
# ## Break it: looking too early
#
# Each step of the engine has four phases. **Cleanup** takes rows back and lets new requests into the queue, **refill**
# gives waiting requests a row, **prefill** computes their prompts, **decode** adds a token to each answer.
#
# When should a prompt be looked up? One would think: at once, when it arrives. `MatchAtArrival` does that, and is a
# real scheduler in all the rest. (Names that begin with `_` are the scheduler's own parts; `_admit` gives a request a
# row, with what was found for it.)


# %%
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import RequestHeld


class MatchAtArrival(InferenceScheduler):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.found = {}

    def cleanup(self):
        super().cleanup()  # here new requests join the queue
        for number, request in self.waiting.items():
            if number not in self.found:
                self.found[number] = self.cache.match(request.prompt_ids)

    def refill(self):
        with self._in_phase("refill"):
            for request in list(self.waiting.values()):
                if self.can_admit():
                    self.place(request)

    def place(self, request):
        self._admit(request, self.found[request.request_id])

    def hold(self, request, leader):
        """Leave a request in the queue, and note for whom it waits. (Not used yet.)"""
        if request.leader_id != leader.request_id:
            request.leader_id = leader.request_id
            self.emit(RequestHeld(request.request_id, leader.request_id))


# %%
things = ("fox", "kite", "boat", "bear", "cat", "dog", "bird", "mouse")
burst = [opening(f"Tell me a story about a {thing}.") for thing in things]
prompts = [tokenizer.apply_chat_template(chat) for chat in burst]
print("prompt tokens:", [len(one) for one in prompts], "together", sum(map(len, prompts)))
print("shared by all:", min(common_prefix_len(prompts[0], other) for other in prompts))
question = "Eight requests arrive at once, eight slots are free. How many prompt tokens does MatchAtArrival compute?"
predict("11.6", question, unit="tokens")

# %%
from astrai.course.stills import SlotsOverTime


def run_burst(scheduler, max_running=8):
    settings = {"num_slots": 8, "max_running": max_running, "scheduler": scheduler}
    engine = InferenceEngine(model, tokenizer, start=False, **settings)
    run(engine, burst, SamplingParams(max_tokens=12))
    return engine


broken = run_burst(MatchAtArrival)
display(reveal("11.6", broken.stats().prefilled_tokens))
SlotsOverTime(broken.trace)

# %% [markdown]
# Eight times **P**: each request computed its whole prompt, the rules too. When they arrived the cache was empty, so
# nothing was found, and nobody looked again.
#
# So look later: in the refill, at the moment when the request gets its row. That changes one line.
#
# > **Predict.** How many tokens are computed now? Think of what is in the cache while the refill hands out eight rows.


# %%
class MatchAtRefill(MatchAtArrival):
    def place(self, request):
        self._admit(request, self.cache.match(request.prompt_ids))


for scheduler in (MatchAtArrival, MatchAtRefill):
    for at_once in (8, 4):
        computed = run_burst(scheduler, max_running=at_once).stats().prefilled_tokens
        print(f"{scheduler.__name__:<15} {at_once} at a time: {computed} tokens computed")

# %% [markdown]
# With eight at a time, nothing is gained. Refill comes *before* prefill: all eight are matched in one go, before the
# first token of the first prompt is computed. With four at a time the later four do find the rules; the first four
# computed them four times.
#
# Looking late is right, and only half of it. The other half is patience. A request should wait if another one, its
# **leader**, is computing right now what both share. One step later it can have that for the price of a copy.
#
# **11.7** Write `place`. Match now. Is there a running request that is still in its prefill (`other.is_prefilling`),
# and shares more tokens with this prompt than the match has? Then `self.hold(request, other)`, and it will be asked
# again in the next step. If there is no such leader, `self._admit(request, match)`. Compare with
# `request.prompt_ids[:-1]`: the last token is always computed, so it is never shared.


# %% tags=["exercise", "11.7"]
class MyScheduler(MatchAtArrival):
    def place(self, request):
        """Give the request a row, or let it wait for its leader."""
        # BEGIN SOLUTION
        match = self.cache.match(request.prompt_ids)
        for other in self.running.values():
            shared = common_prefix_len(other.prompt_ids, request.prompt_ids[:-1])
            if other.is_prefilling and shared > match.length:
                return self.hold(request, other)
        self._admit(request, match)
        # STUB: self._admit(request, self.found[request.request_id])  # as broken as above: mend it
        # END SOLUTION


# %%
check("11.7", MyScheduler)

# %%
mended = run_burst(mine("11.7", MyScheduler, InferenceScheduler))
print(mended.stats().prefilled_tokens, "tokens computed")
SlotsOverTime(mended.trace)

# %% [markdown]
# One **P** and seven **C**. Request 0 computed its prompt. The seven others waited one step, had the rules copied
# (**C**) into their rows, and computed only their own few tokens. What is shared was computed once.
#
# The first two steps of it, as far as the first three requests go:

# %%
kept = events(mended, "RequestHeld", "RequestAdmitted", "PrefixMatched", "Prefilled")
TraceTable(r for r in kept if r.step <= 2 and getattr(r.event, "request_id", 0) <= 2)

# %% [markdown]
# In step 1 one request is admitted, and the others are held. In step 2 they find the rules in slot 0. Had two been
# admitted side by side in step 1, both would have computed the same tokens, and two rows would have been filled with
# them. A request that shares nothing with a leader is not held: it passes those that wait.
#
# ## Can you say why?

# %%
quiz("11")

# %% [markdown]
# ## Where this lives
#
# | what you built or saw | where it is |
# |---|---|
# | `match_prefix`, `insert`, `split`, merge | `RadixTree` in `astrai/inference/cache/radix_tree.py` |
# | never the last prompt token; which row is taken | `PrefixCacheManager` in `astrai/inference/cache/prefix_cache.py` |
# | matching at refill, holding behind a leader | `InferenceScheduler` in `astrai/inference/scheduler.py` |
# | the property tests of the tree | `tests/inference/cache/test_radix_tree.py` |
#
# What happens when memory runs out, and which leaf goes first, is chapter 12. How a row that was handed out again is
# never mistaken for what it held before is chapter 13.
#
# **What others do.** The idea of a radix tree over cached tokens is SGLang's *RadixAttention* (Zheng et al. 2024). Its
# nodes point to single token positions (or small pages) of a pool, so shared tokens are in memory once and nothing is
# copied; our nodes name whole rows, and a shared prefix is copied into each row that needs it. There a match that ends
# inside of an edge splits it at once. For bursts SGLang has *in-batch prefix caching*: under a cache-aware policy, of
# several waiting requests with the same new prefix all but the first move to the end of the queue.
#
# vLLM has no tree. It cuts prompts into blocks of a fixed number of tokens. The key of a full block is a hash of its
# tokens and of the key of the block before it: the dictionary of prefixes from above, made affordable, since one short
# key stands for a block and for all before it. A prefix is found in whole blocks only. Requests are looked up when they
# are scheduled, and never for their last token. A prompt's full blocks are entered as soon as they are handed out, so
# that requests of the very same step can share them: an answer to the burst that needs no waiting.
