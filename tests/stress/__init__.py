"""Long runs that look for crashes, leaks and lost data. Each module runs by itself:

    python -m tests.stress.sources --seed 1 --seconds 600

and prints its figures; what it finds ends it with exit status 1. `test_stress.py` runs each for a moment.
"""
