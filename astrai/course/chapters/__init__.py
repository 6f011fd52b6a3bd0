"""What the chapters' exercises ask: ``chNN.py`` holds the ``CHAPTER`` of notebook NN.

A chapter's module imports torch and the engine inside its checks, not at its top: ``progress()`` reads all chapters.
"""
