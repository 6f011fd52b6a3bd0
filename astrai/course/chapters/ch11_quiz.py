"""The questions at the end of chapter 11."""

from __future__ import annotations

from astrai.course.exercises import Option, Question

QUIZ = (
    Question(
        "A row holds `a red fox`. A new prompt reads `one red fox`. What can be taken over?",
        (
            Option(
                "The KV of `red fox`, since these two tokens stand at the same positions in both",
                "Position is not enough. The KV of `fox` was computed after reading `a red`, and would be another one "
                "after `one red`.",
            ),
            Option(
                "Nothing: the KV of a token depends on all tokens before it, and the first one differs",
                "Only a common beginning can be shared. That is why we look for prefixes, not for common words.",
                right=True,
            ),
            Option(
                "The KV of `red fox`, if it is first moved into the new request's own row",
                "Copying does not change what was computed. It was computed after `a`, in whatever row it lies.",
            ),
        ),
    ),
    Question(
        "A prompt of 30 tokens was answered with 20 tokens, the end token among them. How many does the row hold?",
        (
            Option(
                "49, since the last token was chosen but never fed to the model",
                "A token gets its KV when it is fed to the model. The last one ended the request, so it was not.",
                right=True,
            ),
            Option(
                "50, since every token of the prompt and of the answer has keys and values",
                "One too many: the token that was chosen last has no KV yet. It would get it in the next step, which "
                "never came.",
            ),
            Option(
                "30, since an answer is no part of a prompt and of no use to later ones",
                "It is, in the next turn of the chat: there the answer is part of the prompt. That is why it is kept.",
            ),
        ),
    ),
    Question(
        "A match ends in the middle of an edge. Which rows hold the matched prefix?",
        (
            Option(
                "Only those rows of the edge that end in just this place",
                "No row ends inside of an edge: where a row ends, or rows part, a node ends. All rows of the edge go "
                "on to its lower end.",
            ),
            Option(
                "All rows that hold the node above, since this edge was not matched completely",
                "Those are too many: some of them took another child and do not have the matched tokens of this edge.",
            ),
            Option(
                "All rows that hold the edge: who holds all of it holds its beginning",
                "Right, and this is why `Match` names the node on whose edge the match ends.",
                right=True,
            ),
        ),
    ),
    Question(
        "An edge is split, and the old node stays as the lower part. Why not as the upper part?",
        (
            Option(
                "The upper part has more holders than the old node had",
                "At the moment of the split it has the same holders. Others join later, when `insert` goes on.",
            ),
            Option(
                "Rows end at the old node's lower end, and this stays true",
                "What is noted about where each row ends stays true. Nor do the nodes below notice anything.",
                right=True,
            ),
            Option(
                "A Python object cannot get other children once it has been linked",
                "It can. The reason is not in Python, it is in who refers to the node.",
            ),
        ),
    ),
    Question(
        "A prompt of 40 tokens is sent twice. How many of the second one's tokens are found?",
        (
            Option(
                "39, since the answer's first token is chosen from the output at the last one",
                "The cache keeps keys and values. The output at the last token is not in it, so that token is "
                "computed again.",
                right=True,
            ),
            Option(
                "40, since the row of the first request holds all of them, and nothing is left to do",
                "The row does hold them, but from what would the first token be chosen? The output at the last prompt "
                "token is needed.",
            ),
            Option(
                "0, since the row belongs to the first request until it is cleared",
                "A row keeps what was computed when it is free, and even a row in use can be copied from.",
            ),
        ),
    ),
    Question(
        "A property test with prompts from the whole vocabulary found nothing. What does that say about the tree?",
        (
            Option(
                "Much: with a large vocabulary the prompts are more varied than with a small one",
                "More different, and all of the same kind: without a shared token. The hard cases were never tried.",
            ),
            Option(
                "Enough: a bug that a thousand prompts do not find is rare in practice, too",
                "Real prompts share long beginnings all the time. They are like the test with few tokens, not like "
                "this one.",
            ),
            Option(
                "Little: such prompts share no beginnings, so edges are hardly ever split",
                "Random inputs must be likely to reach the hard cases. Few tokens and short rows do.",
                right=True,
            ),
        ),
    ),
    Question(
        "Eight requests with the same long beginning arrive at once. Each is matched when it gets its row, none waits. "
        "There are eight free slots. What is computed?",
        (
            Option(
                "The beginning once, since the first request has its row before the second one is matched",
                "It has its row, but nothing is in it yet. Rows are handed out in refill, computing comes in prefill.",
            ),
            Option(
                "The beginning eight times, since all are matched before anything is computed",
                "So seven of them should be held for one step, until their leader has written what they share.",
                right=True,
            ),
            Option(
                "The beginning twice: once by the first request, once by the second, which came too early",
                "All seven came too early, not only the second: they are matched in the same refill.",
            ),
        ),
    ),
)
