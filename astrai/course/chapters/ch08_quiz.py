"""The quiz of chapter 08."""

from __future__ import annotations

from astrai.course.exercises import Option, Question

QUIZ = (
    Question(
        "Why can the keys and values of a token be kept instead of computed again?",
        (
            Option(
                "The next token asks for exactly the same keys and values as this one did.",
                "Each token asks with a query of its own, and mixes the values in its own way. What stays the same is "
                "what it asks among.",
            ),
            Option(
                "A token looks only at what stands before it, so what follows cannot change them.",
                "All that they depend on is there already. That is also why a prefix that two chats share has the same "
                "KV in both.",
                right=True,
            ),
            Option(
                "They hold the text of the token, and a text that was written stays as it is.",
                "The text is in the token ids. Keys and values are vectors that the model computes from the token and "
                "from all before it: the same word has other ones in another sentence.",
            ),
        ),
    ),
    Question(
        "Keys are kept in a list and joined at every step. A conversation gets twice as long. What becomes of the "
        "number of bytes that are copied in all?",
        (
            Option(
                "It doubles.",
                "What is kept doubles. But the later steps each copy more, since all tokens so far are copied in each.",
            ),
            Option(
                "It stays, since each token is copied only once, when it arrives.",
                "That is how the buffer does it. Joining makes new memory at each step and copies all of it.",
            ),
            Option(
                "It becomes about four times as much.",
                "1 + 2 + ... + n is n(n + 1) / 2: it grows with the square.",
                right=True,
            ),
        ),
    ),
    Question(
        "An engine has 8 slots of 1,024 positions. Three chats run, of 50 tokens each. How much memory do `k_cache` "
        "and `v_cache` take?",
        (
            Option(
                "That of 8 x 1,024 tokens",
                "It was all set aside before the first chat came. So nothing is moved later, and what does not fit is "
                "known at the start; the price is what stays blank.",
                right=True,
            ),
            Option(
                "That of 3 x 1,024 tokens",
                "A row is handed out when a request gets it, but its memory was taken when the engine was made.",
            ),
            Option(
                "That of 3 x 50 tokens",
                "Such an engine would have to find new memory for each token. Paged engines come close to that number: "
                "they hand out small blocks of a buffer that was set aside too.",
            ),
        ),
    ),
    Question(
        "`m` is `0b01101000`. What is `m & -m`?",
        (
            Option("`0b01000000`", "That is the highest 1. The carry of `~m + 1` starts at the right, at the low end."),
            Option("3", "That is the place of the lowest 1: one gets it with `bit_length() - 1`. `m & -m` is a mask."),
            Option("`0b00000111`", "Those are the bits below the lowest 1. That would be `(m & -m) - 1`."),
            Option("`0b00001000`", "The lowest 1 by itself, as a mask with one bit.", right=True),
        ),
    ),
    Question(
        "Slot 2 is free, and somebody frees it once more. Why is that an error, and not just nothing to do?",
        (
            Option(
                "Because the bit would be turned around, and slot 2 would count as taken.",
                "Only with `^=`. With `|=` the mask would stay right at this moment, and the mistake unseen.",
            ),
            Option(
                "Because somebody wrongly believes to own it, and may free it when it has an owner again.",
                "Without versions nobody would notice then, and two requests would write into one row. Better to hear "
                "of it at the first sign.",
                right=True,
            ),
            Option(
                "Because its keys and values would be erased a second time.",
                "Freeing erases nothing at all. The row keeps what it holds: that is the prefix cache.",
            ),
        ),
    ),
    Question(
        "How long does it take to find the lowest free slot with `m & -m`?",
        (
            Option(
                "As long for any number of slots: it is one operation.",
                "It is one operation in the program text. A mask of many words takes the processor many steps.",
            ),
            Option(
                "It grows with the number of slots before the first free one.",
                "That is the scan, which looks at slot after slot. The mask looks at a whole word in one step.",
            ),
            Option(
                "As long for any mask that fits into a word; beyond, it grows with the words.",
                "So it is O(1) for up to 64 slots (in Python, for up to 30), and O(words) for more.",
                right=True,
            ),
        ),
    ),
    Question(
        "A list of free slots, used as a stack, is quicker than the mask. What has the mask that the list has not?",
        (
            Option(
                "It combines with other sets of rows at once, and gives the lowest row first.",
                "Free and holding a prefix, free and blank: one `&` each, for all rows. And among rows that are alike, "
                "the lowest first is a plain and fair rule.",
                right=True,
            ),
            Option(
                "It knows which slot came back first, so that the oldest can be taken.",
                "The mask knows nothing of time. For that the engine keeps `last_used` beside it.",
            ),
            Option(
                "It needs no memory, since its bits are in the number itself.",
                "Those bits are memory too. They are few, but a short list is small as well.",
            ),
        ),
    ),
    Question(
        "Why is the lowest free row a bad choice for a new conversation?",
        (
            Option(
                "The low rows are read more often, so they are slower to write.",
                "All rows are alike. Neighbours at the low end are even a little cheaper to read together.",
            ),
            Option(
                "The lowest free row may still be in use by a request that is about to end.",
                "Then it is not free. A row's bit comes back only when its request has given it back.",
            ),
            Option(
                "Free rows remember, and low ones were handed out most lately and most often.",
                "So the warmest memory goes first, while blank rows stand beside it.",
                right=True,
            ),
        ),
    ),
)
