"""The property "the Python function is the meaning": random programs, compiled = interpreted = Python."""
