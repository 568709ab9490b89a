"""The web page: what a person sees, and what each button does."""
