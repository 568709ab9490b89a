"""What works with no download: the condition knowledge, the built-in dialogues, a small base."""

from pathlib import Path

BASE_FOLDER = Path(__file__).parent / "base"
"""The embedded base: a Llama of 9.6 million parameters in the usual Hub layout."""
