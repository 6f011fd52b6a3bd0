"""A real scheduler, driven by hand: its steps, the lines that were at work, its past, and what another policy does."""
