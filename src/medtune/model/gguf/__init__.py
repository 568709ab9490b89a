"""Models as GGUF, the one-file format of llama.cpp, Ollama and LM Studio."""
