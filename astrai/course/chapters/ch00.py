"""Chapter 00: a sampler of three lines, messages whose beginnings agree, and the share of tokens that was found."""

from __future__ import annotations

from astrai.course.chapters.ch00_messages import messages
from astrai.course.chapters.ch00_quiz import QUIZ
from astrai.course.chapters.ch00_share import hit_rate
from astrai.course.chapters.ch00_tokens import sampler
from astrai.course.exercises import Chapter, Exercise

CHAPTER = Chapter(
    id="00",
    title="Start here: one request through five layers",
    exercises=(
        Exercise(
            "00.5",
            "Choose the most likely token",
            sampler,
            (
                "In one `row` there is a number for each token of the vocabulary. You want to know where the largest "
                "one stands, not how large it is.",
                "`row.argmax()` gives that place as a tensor with one number in it. A `Sampled` takes an `int`.",
                "`token_id = int(row.argmax())`",
            ),
        ),
        Exercise(
            "00.6",
            "Let the beginnings agree",
            messages,
            (
                "A cache of prefixes compares from the first token on, and stops at the first one that differs. What "
                "is the same for all your users, and what is not?",
                "Say the rules first, and whom the model talks with after them.",
                'The content of the system message can be `f"{rules} You talk with {name}."`; the user\'s message '
                "stays as it was.",
            ),
        ),
        Exercise(
            "00.7",
            "The share of tokens that was found",
            hit_rate,
            (
                "You want one number for all requests together, not one for each of them.",
                "Add up `result.cached_tokens` over all results, and `result.prompt_tokens` too; then divide once.",
                "`sum(result.cached_tokens for result in results) / sum(...)`, with the prompt tokens in the second.",
            ),
        ),
    ),
    predictions=("00.1", "00.2", "00.3", "00.4"),
    quiz=QUIZ,
)
