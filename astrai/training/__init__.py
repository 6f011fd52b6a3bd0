"""Where the bundled model comes from: the text (storyworld), its tokens, the training loop and the evaluation."""
