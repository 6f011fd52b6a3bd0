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


def opening(text):
    return [{"role": "system", "content": RULES}, {"role": "user", "content": text}]


def run(engine, chats, max_tokens=120):
    sampling = SamplingParams(max_tokens=max_tokens)  # temperature 0: always the likeliest token
    requests = [GenerationRequest(messages=chat, sampling=sampling) for chat in chats]
    streams = [engine.submit(request) for request in requests]
    while engine.scheduler.has_work:
        engine.scheduler.step()
    return [stream.result() for stream in streams]


four = InferenceEngine(model, tokenizer, num_slots=4, start=False)
chats = [opening(text) for text in ASKED]
answers = run(four, chats)
picture.SlotMap(four)

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
    said = {"role": "assistant", "content": answer.text}
    return [*chat, said, {"role": "user", "content": text}]


second_turn = reply(chats[0], answers[0], "Who is the story about?")
prompt = tuple(tokenizer.apply_chat_template(second_turn))
first = answers[0]
print("first turn: ", first.prompt_tokens, "prompt tokens,", first.completion_tokens, "of answer")
print("second turn:", len(prompt), "prompt tokens")

# %%
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
# is right: the whole first turn was found, prompt and answer, but for the answer's last token. (The answer came back as
# text, and here that text gives the same tokens again. This is not certain: the match would end where they differ.)
#
# But the loop looks at every row. With a thousand rows that all begin with the same rules, it reads those rules a
# thousand times. We will measure that below.
#
# Can the dictionary be taught to answer our question? Yes: every *beginning* of every row becomes a key. To look a
# prompt up, try all of it, then one token less, and so on.

# %%
from astrai.course.charts import Chart

slot_of_prefix = {}
for slot, row in enumerate(rows):
    slot_of_prefix |= {row[:n]: slot for n in range(1, len(row) + 1)}
found = next(n for n in range(len(prompt), 0, -1) if prompt[:n] in slot_of_prefix)
print("the loop:      ", shared, "tokens shared with each row")
print("the dictionary:", found, "tokens, in slot", slot_of_prefix[prompt[:found]])
print(f"{sum(map(len, rows)):,} tokens in the rows")
print(f"{sum(map(len, slot_of_prefix)):,} tokens in the keys")


words = "one line climbs ever more steeply, the other stays at the bottom"
title = "One row, and the keys of all its prefixes"
chart = Chart(title, x="tokens in the row", y="tokens kept", words=words)
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
print(len(nodes), "nodes for", sum(map(len, rows)), "tokens: shared beginnings are there once")
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
picture.RadixTree(four)

# %% [markdown]
# Each piece of text with the slots that hold it. The first one is there once, for all four. Below it each row goes its
# own way, since the four questions differ in the animal or thing. And so do the stories: even where two of them say the
# same words, they do so after another beginning, and that makes it another KV. (**H** marks the last *hit*: a request
# that found its beginning here. The number at the right tells when a piece was used last. *Oldest* and the lock are
# for chapter 12: what may be forgotten.)
#
# A row that shares nothing is one node, however long it is. A new row that leaves another one somewhere adds two nodes
# at most. So this tree has few nodes, and each token is there once.
#
# ## Down the tree by hand
#
# Small first. Three rows of a few words each, and one token a word. (`max_tokens=1` makes a row hold just the prompt:
# the one token of the answer has no KV.)

# %%
texts = ("a red fox and a boat", "a red kite", "a blue kite")
little_rows = [tuple(tokenizer.encode(text)) for text in texts]
little = InferenceEngine(model, tokenizer, num_slots=4, start=False)
for row in little_rows:
    little.submit(GenerationRequest(prompt=row, sampling=SamplingParams(max_tokens=1)))
    while little.scheduler.has_work:
        little.scheduler.step()

print("node  end  holders  edge")
for node in little.scheduler.cache.tree.nodes.values():
    text = tokenizer.decode(node.token_ids)
    print(f"{node.node_id:>4} {node.end:>4}   {node.holders:04b}    {text!r}")
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
# **11.2** Write `match_prefix`. It gets a tuple of tokens, and returns a `Match`: how many of them match, and the node
# on whose edge the match ends (the root if nothing matches). You need no more than `children` and `token_ids` of a
# node, and `common_prefix_len`. It only looks: the tree stays as it is. Your class is a `RadixTree` like the engine's
# in all but this.


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
        # STUB: raise NotImplementedError  # a loop: to the child, compare its edge, count, stop if they part
        # END SOLUTION
        return Match(length, node)


# %%
check("11.2", MatchingTree)

# %% [markdown]
# If you are stuck, `hint("11.2")` in a new cell gives the first of three hints, and after a try `solution("11.2")`
# shows an answer.
#
# Now use it, first on the little rows. `insert` tells a tree that a slot holds some tokens; a `Handle` is a slot and
# its version, a number that chapter 13 is about. `match.holders` are the holders of the node that you return. Then on
# the real thing: an engine with your tree gets the first chat, its second turn, and the second turn once more, word for
# word.
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

yours = InferenceEngine(model, tokenizer, num_slots=4, start=False, tree=Matching)
for chat in (chats[0], second_turn, second_turn):
    result = run(yours, [chat])[0]
    print(f"found {result.cached_tokens:>3} of {result.prompt_tokens:>3} tokens:", result.text[:40])

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
# with the tree. `fastest` tries each many times and takes the shortest time, since whatever else the machine does only
# makes it longer. And we ask how the time *grows*: each is divided by its own time with 4 rows.
#
# > **Predict.** 256 times as many rows. How much longer does a lookup take with the loop? And with the tree?

# %%
import random
from functools import partial

from astrai.course.measuring import fastest

draw = random.Random(0)


def rows_of(count):
    tails = [draw.choices(range(tokenizer.vocab_size), k=32) for _ in range(count)]
    return [(*prompt[:28], *tail) for tail in tails]


def best_of(rows, wanted):  # the loop
    return max(common_prefix_len(row, wanted) for row in rows)


counts = (4, 16, 64, 256, 1024)
many = {n: rows_of(n) for n in counts}
trees = {n: grow(Matching, many[n]) for n in counts}

# %%
loops = fastest({n: partial(best_of, many[n], many[n][-1]) for n in counts}, 40, calls=1)
walks = fastest({n: partial(trees[n].match_prefix, many[n][-1]) for n in counts}, 200)

words = "the loop's line climbs with the rows, the tree's stays where it was"
chart = Chart("One lookup, measured by its time with 4 rows", "rows", "times as long", words)
for times, label in ((loops, "loop over the rows"), (walks, "walk down the tree")):
    chart.axes.plot(counts, [times[n] / times[4] for n in counts], label=label)
chart.axes.set(xscale="log", yscale="log", xticks=counts, xticklabels=counts)
chart.axes.set(ylim=(0.5, 1000), yticks=(1, 10, 100), yticklabels=("1", "10", "100"))
chart

# %% [markdown]
# Both axes are logarithmic. The loop's line climbs all the way: twice as many rows, about twice the time. The tree's
# line hardly leaves the ground. A walk down the tree takes as long as the *prompt* is; how many rows there are does
# not matter.
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
# **11.3** Write `split`. It gets a node, the number of tokens that go up (at least one, and fewer than the edge has),
# and a list. It returns the upper node, which is begun for you: `self._new_id()` gives the next free number. Fill in
# its other fields, cut the old edge, and make the links between the three nodes. Then enter the new one in
# `self.nodes`, the table of all nodes by number, and append `NodeSplit(lower number, upper number, length)` to the list
# `changes`: from such events trace and pictures are made.


# %% tags=["exercise", "11.3"]
from astrai.trace.events import NodeSplit


class MyTree(Matching):
    def split(self, node, length, changes):
        """Move the first `length` tokens of a node's edge into a new parent, and return that."""
        first = node.token_ids[:length]
        upper = RadixNode(node_id=self._new_id(), token_ids=first, parent=node.parent)
        # BEGIN SOLUTION
        upper.holders, upper.last_used = node.holders, node.last_used
        upper.end = node.start + length
        node.token_ids = node.token_ids[length:]
        node.parent.children[upper.token_ids[0]] = upper  # from above ...
        upper.children[node.token_ids[0]] = node  # ... down to the old node ...
        node.parent = upper  # ... and back up
        self.nodes[upper.node_id] = upper
        changes.append(NodeSplit(node.node_id, upper.node_id, length))
        # STUB: raise NotImplementedError  # fill in upper, cut the old edge, link the three, note it
        # END SOLUTION
        return upper


# %%
check("11.3", MyTree)

# %% [markdown]
# Of the old node only `token_ids` and `parent` change. The upper part has the same holders and the same `last_used`,
# and ends `length` tokens below the upper end of the old edge.
#
# Your tree goes into the engine, and three chats run on it: a fox, a kite, and a fox and a boat. From the trace of that
# run we pick what happened to the tree, and leave everything else out.
#
# > **Predict.** How many splits will there be? Where?

# %%
from astrai.course.stills import TraceTable
from astrai.trace import events as e


def text_of(token_ids):
    return tokenizer.decode(token_ids, skip_special=False)


# %%
Tree = mine("11.3", MyTree, RadixTree)
splitting = InferenceEngine(model, tokenizer, num_slots=4, start=False, tree=Tree)
for text in ("a fox", "a kite", "a fox and a boat"):
    run(splitting, [opening(f"Tell me a story about {text}.")], max_tokens=24)

changes = (e.NodeInserted, e.NodeSplit, e.NodeMerged)
display(TraceTable(splitting.trace.records, decode=text_of, only=changes))
picture.RadixTree(splitting)

# %% [markdown]
# The kite split the first edge in front of `fox`. `a fox and a boat` then went along with the fox for one token more,
# and split again. *Took over its only child* is the reverse, a merge: an answer was added below its prompt, and two
# pieces that the same rows hold become one. So the same rows always give the same tree, in whatever order they came.
#
# In JupyterLab, press *Rewind this run* at the picture and go back step by step: you see `fox` and `kite` part.
#
# ### As a film
#
# `SplitTheEdge` shows all this in motion: the tree grows by splits and answers hits. The run in this still may keep 30
# tokens; it has 33, so something must be forgotten, and that is chapter 12. Take the `#` away to render the film from
# *your* run. It needs `pip install 'astrai[video]'` (an error names what else is missing).

# %%
from astrai.films.stills import Stills

# astrai.film("SplitTheEdge", trace=splitting.trace)
Stills("SplitTheEdge")

# %% [markdown]
# ## A thousand prompts
#
# Does the tree always find the right prefix? We tried a handful of prompts that came to mind. Bugs live where nobody
# thought of looking, so let chance do it. A **property test** needs two things: random inputs, and an answer that is so
# simple that it is surely right, however slow. Testers call that an **oracle**.
#
# **11.4** You have seen the oracle already: the loop. Write it as a function. It gets a list of rows, each a tuple of
# tokens, and a prompt. It returns a number: how many tokens of the prompt the best row has from its start, 0 if there
# are no rows. With `common_prefix_len`, one line is enough.


# %% tags=["exercise", "11.4"]
def longest_prefix(rows, prompt):
    """How many tokens of `prompt` the best of the rows has from its start; 0 if there are no rows."""
    # BEGIN SOLUTION
    return max((common_prefix_len(row, prompt) for row in rows), default=0)
    # STUB: raise NotImplementedError  # the best of what each row shares with the prompt
    # END SOLUTION


# %%
check("11.4", longest_prefix)

# %% [markdown]
# A case is three random rows and a random prompt. All are made of three tokens, `fox`, `kite` and `boat`. Here goes
# your tree, a thousand times:

# %%
from astrai.course.chapters.ch11_runs import longest

oracle = mine("11.4", longest_prefix, longest)


def random_case(draw, alphabet):
    """Three rows and, at the end, a prompt, each of one to five tokens."""
    return [tuple(draw.choices(alphabet, k=draw.randint(1, 5))) for _ in range(4)]


def fails(tree_class, case):
    *rows, prompt = case
    return grow(tree_class, rows).match_prefix(prompt).length != oracle(rows, prompt)


# %%
def failures(tree_class, alphabet):
    draw = random.Random(11)
    cases = [random_case(draw, alphabet) for _ in range(1000)]
    return [case for case in cases if fails(tree_class, case)]


three_tokens = [tokenizer.encode(word)[0] for word in (" fox", " kite", " boat")]
print(len(failures(Tree, three_tokens)), "of 1,000 prompts went wrong")

# %% [markdown]
# No failure. But would the test find one? A test that cannot fail proves nothing, so we give it a broken tree.
#
# `HastyTree` leaves one question out, and still agrees with a right answer on all four prompts that you did by hand.
# Can you see what it does wrong? We run the test on it twice: with three tokens to choose from, and with the model's
# whole vocabulary.


# %%
class HastyTree(RadixTree):
    def match_prefix(self, token_ids):
        node, length = self.root, 0
        while length < len(token_ids) and token_ids[length] in node.children:
            node = node.children[token_ids[length]]
            length += common_prefix_len(node.token_ids, token_ids[length:])
        return Match(length, node)


# %%
all_tokens = range(tokenizer.vocab_size)
sizes = [f"the one with {len(tokens):,} tokens" for tokens in (three_tokens, all_tokens)]
options = [*sizes, "both, about equally often"]
predict("11.5", "Which of the two tests finds the bug in HastyTree?", options)

# %%
few, others = (failures(HastyTree, tokens) for tokens in (three_tokens, all_tokens))
reveal("11.5", options[0] if len(few) > 2 * len(others) else options[2])

# %% [markdown]
# Random rows over a large vocabulary hardly ever share anything, so no edge is split, and there is nothing to get
# wrong. With three tokens they share all the time. Good random inputs are *likely to collide*. (This bug is rare even
# then, as the next cell counts: hence a thousand.)
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


still = [few[0]]
while still:  # as long as a smaller case fails, too
    case = still[0]
    still = [less for less in smaller(case) if fails(HastyTree, less)]

*short, ask = case
print(len(few), "of 1,000 went wrong with 3 tokens,", len(others), "with all. The first, shrunk:")
print("rows:  ", [tokenizer.decode(row) for row in short])
print("prompt:", repr(tokenizer.decode(ask)))
print("HastyTree finds", grow(HastyTree, short).match_prefix(ask).length)
print("the oracle says", oracle(short, ask))

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
    tried = InferenceEngine(model, tokenizer, num_slots=4, start=False, tree=tree_class)
    run(tried, chats[:3], max_tokens=1)
    result = run(tried, [opening("Tell me a fox story.")], max_tokens=40)[0]
    print(f"{tree_class.__name__} found {result.cached_tokens} tokens.")
    print(fill(result.text, width=70, initial_indent="    ", subsequent_indent="    "))

# %% [markdown]
# The same engine, the same model, no error, and no fox. The row that was taken over holds the KV of `story` where the
# prompt says `fox`. So the model never read the one word that mattered, and nobody is told. A wrong prefix does not
# crash; it answers a question that was not asked. That is why a cache is tested against brute force.
#
# ## Is it worth it?
#
# A workload as in real life: four people, three turns each, the same rules for all. With the prefix cache and without
# it (`prefix_cache=False`) in turn, on one thread. The **hit rate** is the share of prompt tokens that were found. The
# **time to first token** is how long somebody looks at an empty answer. (So the answers are cut after 4 tokens, to be
# quick.) All is done ten times, and of the ten times the shortest counts again.
#
# > **Predict.** In which turn is the hit rate highest? And are the answers the same with the cache and without?

# %%
FOLLOW_UPS = ("Who is the story about?", "Give the story a title.")


def three_turns(prefix_cache):
    """The results of four chats, turn by turn."""
    settings = {"num_slots": 4, "start": False, "prefix_cache": prefix_cache}
    engine = InferenceEngine(model, tokenizer, **settings)
    chats = [opening(text) for text in ASKED]
    turns = [run(engine, chats, max_tokens=4)]
    for text in FOLLOW_UPS:
        chats = [reply(chat, result, text) for chat, result in zip(chats, turns[-1])]
        turns.append(run(engine, chats, max_tokens=4))
    return turns


# %%
from astrai.course.measuring import in_turn

both = {"with": partial(three_turns, True), "without": partial(three_turns, False)}
with_cache, without = in_turn(both, rounds=10).values()
for number, turn in enumerate(with_cache[0], 1):
    total, hits = sum(r.prompt_tokens for r in turn), sum(r.cached_tokens for r in turn)
    found = f"{hits:>3} of {total:>3} prompt tokens found ({hits / total:.0%})"
    print(f"turn {number}: {found}, {total - hits:>2} computed")

ids = [[[r.token_ids for r in turn] for turn in turns[0]] for turns in (with_cache, without)]
print("same answers with and without the cache:", ids[0] == ids[1])

# %%
import statistics


def first_token(repeats, turn):
    """Seconds to the first token: the median of the four people, in the fastest repeat."""
    return min(statistics.median(r.ttft for r in turns[turn]) for turns in repeats)


ratios = [first_token(without, turn) / first_token(with_cache, turn) for turn in range(3)]
words = "a bar for each turn, against a line at 1"
chart = Chart("Time to first token, without the cache / with it", y="times as long", words=words)
chart.axes.bar(["turn 1", "turn 2", "turn 3"], ratios, width=0.5)
chart.axes.axhline(1, color="black", linewidth=0.8)
chart

# %% [markdown]
# The line at 1 stands for "no difference". In the first turn there is little to gain: only the short rules can be
# shared, and three of the four wait a step until the first one has computed them. (You will see below why. The bar may
# well end under the line.) From the second turn on most of the prompt is found, and the first token comes clearly
# earlier. Prompts grow with each turn; what is new in them hardly does.
#
# The answers: here they are the same, token for token. On other hardware the two ways may round differently, and where
# two tokens are almost equally likely an answer may part from the other; that is no bug of the cache.
#
# ## Break it: looking too early
#
# Each step of the engine has four phases. **Cleanup** takes rows back and lets new requests into the queue, **refill**
# gives waiting requests a row, **prefill** computes their prompts, **decode** adds a token to each answer.
#
# When should a prompt be looked up? One would think: at once, when it arrives. `MatchAtArrival` does that, and is a
# real scheduler in all the rest. (Names that begin with `_` are the scheduler's own parts.) Below, our first four chats
# arrive at once, at an engine that has seen nothing yet.


# %%
from astrai.inference.scheduler import InferenceScheduler


class MatchAtArrival(InferenceScheduler):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.found = {}  # the match of each request, by its number

    def cleanup(self):
        super().cleanup()  # here new requests join the queue
        for number, request in self.waiting.items():
            if number not in self.found:
                self.found[number] = self.cache.match(request.prompt_ids)

    def refill(self):
        with self._in_phase("refill"):  # so that the trace knows the phase
            for request in list(self.waiting.values()):
                if self.can_admit():  # there is room for one more
                    self.place(request)

    def place(self, request):  # give it a row, with what was found for it
        self._admit(request, self.found[request.request_id])


# %%
prompts = [tokenizer.apply_chat_template(chat) for chat in chats]
print("prompt tokens:", [len(one) for one in prompts])
print("shared by all:", min(common_prefix_len(prompts[0], other) for other in prompts))

# %%
question = "Four requests, four free slots. How many prompt tokens does MatchAtArrival compute?"
predict("11.6", question, unit="tokens")


# %%
def run_burst(scheduler, max_running=4):
    settings = {"num_slots": 4, "max_running": max_running, "scheduler": scheduler}
    engine = InferenceEngine(model, tokenizer, start=False, **settings)
    run(engine, chats, max_tokens=8)
    return engine


broken = run_burst(MatchAtArrival)
reveal("11.6", broken.stats().prefilled_tokens)

# %%
from astrai.course.stills import SlotsOverTime

SlotsOverTime(broken.trace)

# %% [markdown]
# Four times **P**: each request computed its whole prompt, the rules too. When they arrived the cache was empty, so
# nothing was found, and nobody looked again.
#
# So look later: in the refill, at the moment when the request gets its row. That changes one line. We try it with all
# four running at a time, and with two at a time (`max_running=2`).
#
# > **Predict.** How many tokens are computed now? Think of what is in the cache while the refill hands out four rows.


# %%
class MatchAtRefill(MatchAtArrival):
    def place(self, request):
        self._admit(request, self.cache.match(request.prompt_ids))


for scheduler in (MatchAtArrival, MatchAtRefill):
    for at_once in (4, 2):
        computed = run_burst(scheduler, max_running=at_once).stats().prefilled_tokens
        print(f"{scheduler.__name__:<15} {at_once} at a time: {computed:>3} tokens computed")

# %% [markdown]
# With four at a time, nothing is gained. Refill comes *before* prefill: all four are matched in one go, before the
# first token of the first prompt is computed. With two at a time the later two do find the rules; the first two both
# computed them.
#
# Looking late is right, and only half of it. The other half is patience. A request should wait if another one, its
# **leader**, is computing right now what both share. One step later it can have that for the price of a copy.
#
# To wait is simple: whoever gets no row stays in the queue, and is asked again in the next step. `hold` only notes for
# whom.


# %%
from astrai.trace.events import RequestHeld


class HoldingScheduler(MatchAtArrival):
    def hold(self, request, leader):
        """Note for whom a request waits."""
        if request.leader_id != leader.request_id:  # once, not again in each step
            request.leader_id = leader.request_id
            self.emit(RequestHeld(request.request_id, leader.request_id))  # to the trace


# %% [markdown]
# **11.7** Write `place`. It gets a waiting request, and returns nothing: it gives the request a row, or holds it.
#
# Match now, with `self.cache.match`. `self.running` holds the running requests as `self.waiting` holds the waiting
# ones: a dictionary by number. `match.length` is what was found, `prompt_ids` is a request's prompt. Is there a running
# request that is still in its prefill (`other.is_prefilling`), and shares more tokens with this prompt than the match
# has? Then `self.hold(request, other)`, and no more. If there is no such leader, `self._admit(request, match)`. Compare
# with `request.prompt_ids[:-1]`: the last token is always computed, so it is never shared.


# %% tags=["exercise", "11.7"]
class MyScheduler(HoldingScheduler):
    def place(self, request):
        """Give the request a row, or let it wait for its leader."""
        # BEGIN SOLUTION
        match = self.cache.match(request.prompt_ids)
        for other in self.running.values():
            shared = common_prefix_len(other.prompt_ids, request.prompt_ids[:-1])
            if other.is_prefilling and shared > match.length:
                return self.hold(request, other)
        self._admit(request, match)
        # STUB: self._admit(request, self.found[request.request_id])  # match now; is there a leader? hold
        # END SOLUTION


# %%
check("11.7", MyScheduler)

# %%
mended = run_burst(mine("11.7", MyScheduler, InferenceScheduler))
print(mended.stats().prefilled_tokens, "tokens computed")
SlotsOverTime(mended.trace)

# %% [markdown]
# One **P** and three **C**. Request 0 computed its prompt. The three others waited one step, had the rules copied
# (**C**) into their rows, and computed only their own few tokens. What is shared was computed once.
#
# The first two steps of it, as far as the first three requests go:

# %%
first_three = [r for r in mended.trace.records if r.step <= 2 and getattr(r.event, "request_id", 0) <= 2]
TraceTable(first_three, only=(e.RequestHeld, e.RequestAdmitted, e.PrefixMatched, e.Prefilled))

# %% [markdown]
# In step 1 one request is admitted, and the others are held. In step 2 they find the rules in slot 0. Had two been
# admitted side by side in step 1, both would have computed the same tokens. A request that shares nothing with a leader
# is not held: it passes those that wait.
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
# inside of an edge splits it at once. For bursts SGLang has *in-batch prefix caching*: under `lpm`, its longest-prefix
# policy (not the default), of waiting requests that share 32 or more new tokens all but the first go to the end of the
# queue.
#
# vLLM has no tree. It cuts prompts into blocks of a fixed number of tokens. The key of a full block is a hash of its
# tokens and of the key of the block before it: the dictionary of prefixes from above, made affordable, since one short
# key stands for a block and for all before it. A prefix is found in whole blocks only. Requests are looked up when they
# are scheduled, and never for their last token. A prompt's full blocks are entered as soon as they are handed out, so
# that requests of the very same step can share them: an answer to the burst that needs no waiting.
