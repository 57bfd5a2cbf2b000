"""Experiments: a specification becomes samples, models and targets, and those become runs."""
