"""Load a base model, its tokenizer and an adapter; render dialogues as the model reads them."""
