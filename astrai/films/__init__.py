"""Films of the engine's runs, each rendered in a process of its own.

``astrai render`` and ``astrai.film`` are the two ways to ask for one. Nothing here imports manim: that is the child's.
"""

from astrai.films.catalogue import choose, films
from astrai.films.child import FilmError, FilmProcess, Progress, Rendered
from astrai.films.notebook import Rendering, film

__all__ = ["FilmError", "FilmProcess", "Progress", "Rendered", "Rendering", "choose", "film", "films"]
