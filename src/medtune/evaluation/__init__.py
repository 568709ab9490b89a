"""Is the tuned model better than its base, by how much, and is that more than chance?"""
