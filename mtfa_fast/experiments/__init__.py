"""Experiments of the paper, from a folder of recordings to a table."""
