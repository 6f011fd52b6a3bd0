"""The questions at the end of chapter 00."""

from __future__ import annotations

from astrai.course.exercises import Option, Question

QUIZ = (
    Question(
        "You sent the same request twice, and the engine found all of its prompt tokens but the last one. Why?",
        (
            Option(
                "The last token is always a new one, since the user has just typed it.",
                "Both requests were the same to the last token. It was in the cache, and was computed all the same.",
            ),
            Option(
                "The answer's first token is chosen from what the model makes of it.",
                "The cache keeps a token's keys and values, which later tokens need. The model's output for it is not "
                "kept, so one token must be computed to have something to choose from.",
                right=True,
            ),
            Option(
                "The engine keeps one position free in each slot, to be safe.",
                "It does not: a slot can be filled to its end.",
            ),
        ),
    ),
    Question(
        "A prompt is computed in one go, an answer one token at a time. What makes the difference?",
        (
            Option(
                "A prompt is known at once, an answer only one token after the other.",
                "What is known can be computed side by side. What is not known yet has to wait for its predecessor.",
                right=True,
            ),
            Option(
                "Prompt tokens are simpler for the model than the tokens of an answer.",
                "The model does the same work for every token, whoever wrote it.",
            ),
            Option(
                "The engine sends an answer slowly, so that people can read along.",
                "It sends each token as soon as it is there. In this chapter only one cell slowed it down, on purpose.",
            ),
        ),
    ),
    Question(
        "Three requests with the same beginning arrive in the same moment. Why do two of them wait for one step?",
        (
            Option(
                "There is a slot for only one new request in each step.",
                "There were four free slots, and one step may fill as many as there are.",
            ),
            Option(
                "The model can compute only one request at a time.",
                "It computes many side by side: from the second step on, all three got a token in every step.",
            ),
            Option(
                "The first one is about to compute the beginning that all three need.",
                "Nothing was in the cache when they came. Started at once, each would have computed it. One step later "
                "it was there to be copied.",
                right=True,
            ),
        ),
    ),
    Question(
        "What does a free slot hold?",
        (
            Option(
                "Zeros: it is wiped, so that no request can read another's words.",
                "Wiping it would throw the cache away. A request reads only what matches its own prompt, token for "
                "token.",
            ),
            Option(
                "The keys and values of its last request, until somebody else needs the slot.",
                "The free slots are the prefix cache. A slot that is handed out again loses what does not fit.",
                right=True,
            ),
            Option(
                "Its last request's text, ready to be sent once more.",
                "It holds keys and values, no text. The same question is answered anew, only with less to compute.",
            ),
        ),
    ),
    Question(
        "When is a slot reused in place, and when is its beginning copied?",
        (
            Option(
                "In place where nothing is lost by it, copied otherwise.",
                "Your title request went on where the story ended, so its slot was taken as it stood. A slot that is "
                "in use, or holds more than what matched, would lose something: there the beginning is copied.",
                right=True,
            ),
            Option(
                "In place for short prompts, copied for long ones.",
                "The length does not matter. A long chat is the best case for taking a slot as it stands.",
            ),
            Option(
                "In place for the same user, copied between different users.",
                "The engine knows no users. It compares tokens.",
            ),
        ),
    ),
    Question(
        "Who chooses the next token?",
        (
            Option(
                "The model: its output is the token.",
                "Its output is a number for each token of the vocabulary, which says how likely it is to come next.",
            ),
            Option(
                "The tokenizer, which turns numbers into text.",
                "It only translates. By then the token has been chosen.",
            ),
            Option(
                "The sampler, from the numbers that the model gives to all tokens.",
                "In this chapter you write one. At temperature 0 it takes the largest number, otherwise it draws "
                "lots by them.",
                right=True,
            ),
        ),
    ),
    Question(
        "The system message is to hold the rules and today's date. How does the cache find most?",
        (
            Option(
                "The date first, since it is the shorter of the two.",
                "On the next day every prompt then differs from its first words on, and nothing behind them is found.",
            ),
            Option(
                "The rules first, and the date after them.",
                "All prompts then agree until the date. A prefix cache compares from the front and stops at the first "
                "token that differs: put what changes as far back as you can.",
                right=True,
            ),
            Option(
                "It does not matter: the same tokens are in both.",
                "It is not a bag of words. What a token's keys and values are depends on all that stands before it.",
            ),
        ),
    ),
)
