"""The autotuner: a search space made from the program, models of its cost, search, measuring, results."""
