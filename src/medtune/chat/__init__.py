"""Talk to a model: engines, conversations, and the safety layer in front of them."""
