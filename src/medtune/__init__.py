"""Medtune: from a base language model and dialogues to a measured medical chatbot."""

__version__ = "0.1.0"
