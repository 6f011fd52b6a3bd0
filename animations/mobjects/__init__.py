"""The shapes of the films: plain data in, animations out."""
