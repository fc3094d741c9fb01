"""What can be tried: ways to schedule the nests of a program, derived by analysis, and their knobs."""
