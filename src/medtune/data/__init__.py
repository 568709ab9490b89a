"""Read, clean and split dialogues: what a model learns is what is in the rows."""
