"""What pictures are told: a run as plain JSON, folded from the trace. Nothing here draws."""
