"""Which candidates to try next, and a model that learns from those measured."""
