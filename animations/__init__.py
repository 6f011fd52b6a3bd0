"""The films: what each one shows. This list needs no manim; the scenes do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FilmInfo:
    """One film. Its scene is the class ``name`` in ``module``; ``trace`` is the kept recording that it plays.

    ``about`` says in a sentence what there is to see. Where ``trace`` is ``None`` the film plays no recording that
    could be exchanged for another one. ``still`` is where its best frame lies, from 0 to 1.
    """

    name: str
    title: str
    about: str
    module: str
    trace: str | None = None
    still: float = 0.5


FILMS: dict[str, FilmInfo] = {
    film.name: film
    for film in (
        FilmInfo(
            "Architecture",
            "AstrAI Architecture",
            "The five layers of the engine, from the HTTP server to the transformer; a request travels down and its "
            "tokens travel up.",
            "architecture",
            still=0.36,
        ),
        FilmInfo(
            "TheWholeLoop",
            "The whole loop",
            "Six chats go through the engine's four phases: they wait, get a slot, are prefilled, decoded, and leave.",
            "the_whole_loop",
            "six_chats",
            still=0.72,
        ),
        FilmInfo(
            "LowestSetBit",
            "The lowest set bit",
            "The slot allocator's mask, bit by bit: how one expression finds the lowest free slot.",
            "lowest_set_bit",
            "eight_slots",
            still=0.5,
        ),
        FilmInfo(
            "FourPhases",
            "The four phases",
            "The same requests twice: static batching waits for the slowest, continuous batching refills at once.",
            "four_phases",
            "six_chats",
            still=0.96,
        ),
        FilmInfo(
            "SplitTheEdge",
            "Split the edge",
            "The radix tree of cached prompts grows by splits, answers hits, and forgets leaf by leaf.",
            "split_the_edge",
            "small_cache",
            still=0.83,
        ),
        FilmInfo(
            "TheGhostPrefix",
            "The ghost prefix",
            "A stale note of what a slot held, the wrong words it would give, and the version check that stops it.",
            "the_ghost_prefix",
            still=0.93,
        ),
    )
}
