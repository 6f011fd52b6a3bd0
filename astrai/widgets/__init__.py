"""Live pictures of an engine at work, drawn from its trace: they know the events and nothing of the engine."""
