"""Tests of the IR: text, rules, meaning."""
