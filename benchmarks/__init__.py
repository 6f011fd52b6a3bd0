"""What is measured, on which loads and against whom. Not part of the wheel: run it in a checkout."""
