"""Hand a trained model over: Ollama, the Hugging Face Hub with a model card, a Space."""
