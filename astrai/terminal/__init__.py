"""What the longer commands print: a chat, and a recorded run. Plain functions that ``astrai.cli`` calls."""
