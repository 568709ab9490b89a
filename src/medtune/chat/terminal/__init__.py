"""The conversation in a terminal: what is typed, what is shown, what the commands do."""
