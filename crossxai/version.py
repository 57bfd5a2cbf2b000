"""The version of this package, where every module can read it without importing the public names."""

__version__ = "0.5.0"
