"""Chapter 10, The four phases: what it asks. The checks lie beside it, one file a phase."""

from __future__ import annotations

from typing import Any

from astrai.course.exercises import Chapter, Exercise, Option, Question


def refill(Scheduler: Any) -> None:
    """Who is admitted, and when."""
    from astrai.course.chapters import ch10_refill

    ch10_refill.refill(Scheduler)


def cleanup(Scheduler: Any) -> None:
    """Which slots come back, and when."""
    from astrai.course.chapters import ch10_cleanup

    ch10_cleanup.cleanup(Scheduler)


def plan_groups(Scheduler: Any) -> None:
    """Which requests are decoded in a step."""
    from astrai.course.chapters import ch10_decode

    ch10_decode.plan_groups(Scheduler)


def budget(tokens: Any) -> None:
    """A prefill budget that keeps two promises."""
    from astrai.course.chapters import ch10_decode

    ch10_decode.budget(tokens)


REFILL = Exercise(
    "10.3",
    "Fill the slots",
    refill,
    (
        "Go through the waiting requests in the order in which they came. What must be true before you may admit one?",
        "Two questions for each request: `self.can_admit()` (if not, the rest can only wait as well) and "
        "`self.must_hold(request)` (if so, this one waits, and the next may pass it). Loop over a copy of the queue.",
        "`for request in list(self.waiting.values()):`, in it `if not self.can_admit(): break`, and then "
        "`if not self.must_hold(request): self.admit(request)`.",
    ),
)
CLEANUP = Exercise(
    "10.4",
    "Take the slots back",
    cleanup,
    (
        "Some requests end because a client cancels. Where does the engine learn of that, and when should you look?",
        "First `self.read_inbox()`. Then look at each running request: `is_finished` says whether it has ended, for "
        "whatever reason. Giving back changes `self.running`, so loop over a copy of it.",
        "`self.read_inbox()`, then `for request in list(self.running.values()):`, in it "
        "`if request.is_finished: self.give_back(request)`.",
    ),
)
GROUPS = Exercise(
    "10.7",
    "No request starves",
    plan_groups,
    (
        "The dictionary `at` holds all groups. How many of them does the last line return?",
        "Each group becomes one forward of this step. Leave none out: then every request gets a token in every step.",
        "`return list(at.values())`",
    ),
)
BUDGET = Exercise(
    "10.9",
    "Two promises, one budget",
    budget,
    (
        "A step computes at most `prefill_budget` prompt tokens. Which budgets keep the first promise?",
        "The second promise asks for few steps: the long prompt needs its tokens divided by the budget, rounded up.",
        "600 tokens in at most 8 steps: at least 75 in each, and at most 100. Anything in between is right.",
    ),
)

QUIZ = (
    Question(
        "A request gets its last token in the decode of step 5. When can a waiting request have its slot?",
        (
            Option(
                "In step 5, right after the decode",
                "The request has ended, but it owns its slot until somebody takes it back, and that is cleanup's work.",
            ),
            Option(
                "In step 6: first cleanup, then refill",
                "Cleanup frees the slot and refill, the very next phase, hands it out. Not one step is lost.",
                right=True,
            ),
            Option(
                "In step 7, once cleanup is through",
                "Cleanup and refill belong to the same step: what the first frees, the second hands out at once.",
            ),
        ),
    ),
    Question(
        "Where does the first token of an answer come from?",
        (
            Option(
                "From prefill, out of the last prompt token",
                "The forward over the prompt ends with the scores for what comes next: the first token is free.",
                right=True,
            ),
            Option(
                "From the first decode, as all tokens do",
                "Decode feeds the token before it. For the first, that would be the prompt's last token, fed twice.",
            ),
            Option(
                "From the cache, if the prompt was seen before",
                "The cache keeps keys and values, not answers. The last prompt token is always computed.",
            ),
        ),
    ),
    Question(
        "What does static batching waste?",
        (
            Option(
                "It computes the same prompt more than once",
                "Each prompt is computed once here too. What is lost is room in the batch.",
            ),
            Option(
                "It moves the KV of each request between batches",
                "Nothing is moved: a slot keeps its place. But it may stand there with nobody in it.",
            ),
            Option(
                "Slots that stay empty until the longest has ended",
                "Every slot that is done waits for the slowest of its batch, and so does everybody in the queue.",
                right=True,
            ),
        ),
    ),
    Question(
        "A client cancels while a decode is being computed. When does its request end?",
        (
            Option(
                "At once: the forward is broken off",
                "The forward computes other people's tokens as well. It goes on, and nobody is disturbed.",
            ),
            Option(
                "When the answer has reached its length",
                "Then a cancelled request would keep a slot busy for an answer that nobody reads.",
            ),
            Option(
                "In the cleanup of the next step",
                "Cleanup reads the inbox, ends the request and frees its slot, so it costs one step at most.",
                right=True,
            ),
        ),
    ),
    Question(
        "Eight requests run, each at another position. A scheduler decodes the largest group. Who gets a token now?",
        (
            Option(
                "One of them: each group has one member",
                "All groups are equally large, one is taken, and seven people wait. In the next step perhaps again.",
                right=True,
            ),
            Option(
                "All of them, in eight forwards of one row",
                "That would be grouped decoding as it should be. Here only one group is computed in a step.",
            ),
            Option(
                "The one that has waited for the longest",
                "That would be fair, though slow. But nobody keeps a note of who has waited for how long.",
            ),
        ),
    ),
    Question(
        "The same eight requests, all decoded in each step. How many forwards is that for one step?",
        (
            Option(
                "Eight when ragged, and one when grouped",
                "The other way round: grouped decoding needs a forward for each position.",
            ),
            Option(
                "Eight when grouped, and one when ragged",
                "Ragged decoding lets each row of one forward be at its own position.",
                right=True,
            ),
            Option(
                "Eight with both, since there are eight tokens",
                "A forward can compute many rows: that is the whole point of a batch.",
            ),
        ),
    ),
    Question(
        "You make `prefill_budget` smaller. What does the long prompt of one user then mean for the others?",
        (
            Option(
                "Shorter waits for them, a later first token for it",
                "Each step has less to compute before its decode, and the prompt needs more steps.",
                right=True,
            ),
            Option(
                "Longer waits for them, since there are more steps",
                "There are more steps with prefill in them, but in each of them everybody gets a token.",
            ),
            Option(
                "Nothing: the same tokens are computed in the end",
                "The sum is the same. What changes is how much of it stands between two tokens of a stream.",
            ),
        ),
    ),
)

CHAPTER = Chapter(
    id="10",
    title="The four phases",
    exercises=(REFILL, CLEANUP, GROUPS, BUDGET),
    predictions=("10.1", "10.2", "10.5", "10.6", "10.8"),
    quiz=QUIZ,
)
