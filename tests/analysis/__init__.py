"""Tests of the analyses: bounds, dependences."""
