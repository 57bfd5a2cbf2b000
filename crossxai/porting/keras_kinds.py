"""Which methods of a Keras layer do not compute its output: a subclass may have its own and is still that layer."""

from __future__ import annotations

HARMLESS = frozenset({
    "__init__", "__new__", "__repr__", "__str__", "__reduce__", "build", "quantize", "get_config", "from_config",
    "get_build_config", "build_from_config", "compute_output_shape", "compute_output_spec", "save_own_variables",
    "load_own_variables", "count_params", "summary", "get_weights", "set_weights",
})  # fmt: skip
