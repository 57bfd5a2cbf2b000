"""Metrics other than deletion and insertion: one file per axis, or per part of an axis."""
