"""Data sets with known ground truth, and readers for public ones."""
