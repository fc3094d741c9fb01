"""What primitives are made of: names and places of loops, copies of arrays, moved and recomputed code."""
