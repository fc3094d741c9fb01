"""What is known about a function: its accesses, their bounds, the dependences between them (isl)."""
