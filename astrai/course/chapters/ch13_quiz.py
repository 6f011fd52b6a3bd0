"""The quiz of chapter 13."""

from __future__ import annotations

from astrai.course.exercises import Option, Question

QUIZ = (
    Question(
        "Cleo's stale note said that 11 of her 12 prompt tokens were in the slot. Why was she told Ben's story to the "
        "letter?",
        (
            Option(
                "The model mixed up the two users",
                "A model knows no users. It is given tokens and KV, and what it was given was Ben's.",
            ),
            Option(
                "The KV that stood for her prompt was that of Ben's prompt",
                "Only her last token was computed, and Ben's prompt ends with the same one. So the model had Ben's "
                "question in front of it, and nothing of hers.",
                right=True,
            ),
            Option(
                "Her answer was decoded into a slot in which Ben was still decoding",
                "Ben had ended and the slot was hers alone. A row with two owners is another defect: a double free.",
            ),
            Option(
                "The two prompts have most of their tokens in common",
                "They have, but with the right KV one other token is enough for another story: see what she was told "
                "with the check.",
            ),
        ),
    ),
    Question(
        'Each slot gets a flag, "handed out since somebody looked". Whoever looks clears it. When does that fail?',
        (
            Option(
                "As soon as two of them look at the same slot",
                "The second one who looks clears what the first one has yet to see. A version is never cleared, so any "
                "number of notes can be compared with it.",
                right=True,
            ),
            Option(
                "As soon as the slot is handed out twice in a row",
                "The flag is set, and setting it again leaves it set: with a single reader that is no trouble.",
            ),
            Option(
                "When the engine has more slots than the flags have bits",
                "Each slot has a flag of its own, as each has a version. Their number is not the trouble.",
            ),
        ),
    ),
    Question(
        "Why not write down the time at which a slot was handed out, instead of how often it was?",
        (
            Option(
                "Asking for the time takes too long for each token",
                "It takes far less than a microsecond, and a slot is handed out once in a request, not for each token.",
            ),
            Option(
                "A time needs more memory than a count",
                "Both are one number. Memory is not what tells them apart.",
            ),
            Option(
                "Two hand-outs can have the same time, and clocks are set back",
                "Then different hand-outs look alike, which is the ABA problem again. A count that is raised by each "
                "hand-out cannot repeat.",
                right=True,
            ),
        ),
    ),
    Question(
        "Every freed row is filled with zeros at once, and there are no versions. What has become of the stale note?",
        (
            Option(
                "It is harmless: zeros add nothing to the answer",
                "They do. A key of zeros gets a score of 0, which is a score like any other, and what the prompt said "
                "is missing. The answer is wrong.",
            ),
            Option(
                "It leads to a wrong answer still, and the prefix cache is gone",
                "Ben's words are safe from Cleo, but her own prompt is not there either, and nobody finds a prefix in "
                "an empty row any more.",
                right=True,
            ),
            Option(
                "It is noticed at once, since a row of zeros cannot be read",
                "Attention reads zeros without complaint. That is why poison is a large number and not zero.",
            ),
        ),
    ),
    Question(
        "A slot's version is kept in 8 bits and begins again at 0. When can a stale note be believed?",
        (
            Option(
                "Once its slot was handed out 256 times since",
                "Then the count stands where it stood: A, then 255 others, then A. It takes long, so it is hard to "
                "find, and a busy engine gets there in minutes.",
                right=True,
            ),
            Option(
                "Once the engine has more than 256 slots",
                "Each slot counts for itself, so their number does not matter.",
            ),
            Option(
                "At once, since 8 bits cannot tell handles from slots",
                "The handle holds both, slot and version, as two numbers. Only the count can come round.",
            ),
            Option(
                "Never: it only has to be larger than the count of running requests",
                "It counts hand-outs, not requests that run. One slot is handed out again and again.",
            ),
        ),
    ),
    Question(
        "A new request shares 40 tokens with slot 3, which is free and holds 200 that no other slot has. A blank slot "
        "is there. What does AstrAI do?",
        (
            Option(
                "It takes slot 3 over, since a copy is always slower",
                "It would be quicker for this request. But 160 tokens would be forgotten, and computing them again "
                "costs more than copying 40.",
            ),
            Option(
                "It lets the blank slot point at the first 40 positions of slot 3",
                "A row here is one piece of memory and cannot point into another. Page tables can: with them, two "
                "requests may list the same page.",
            ),
            Option(
                "It copies the 40 tokens into the blank slot, and leaves slot 3 as it is",
                "Nothing is lost, and what a copy costs is little against computing. Had slot 3 ended after the 40, it "
                "would have been taken over without a copy.",
                right=True,
            ),
        ),
    ),
    Question(
        "With a page table, when should the versions of its pages be checked?",
        (
            Option(
                "When the table is made",
                "Then they are right for certain: they have just been handed out. What can go wrong comes later.",
            ),
            Option(
                "Each time that something is read or written through it",
                "The table lives across steps, and in each of them its pages may have been given away. A check that "
                "lies before the last hand-out proves nothing.",
                right=True,
            ),
            Option(
                "When its request ends, before its pages are given back",
                "By then the wrong words are out, and pages of somebody else may be overwritten. (It is right to check "
                "there too, or they are freed twice.)",
            ),
        ),
    ),
    Question(
        "`check_integrity()` found nothing wrong with the haunted engine. Why?",
        (
            Option(
                "It looks only between requests, and the ghost was there for one step",
                "It can be called after any step, and finds nothing in any of them.",
            ),
            Option(
                "It compares the tree with the tensors, and here they agree by chance",
                "It does not look at tensors at all. That is a test of its own, which computes the KV of each row "
                "again.",
            ),
            Option(
                "It compares the books with each other, and in all that it compares they agree",
                "Who owns which row, at which version, how many tokens are in it: all consistent. The mistake was to "
                "place a request by an old handle, and only the trace has kept that.",
                right=True,
            ),
        ),
    ),
)
