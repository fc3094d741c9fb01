"""Building, compiling, checking and timing candidates in processes that may crash."""
