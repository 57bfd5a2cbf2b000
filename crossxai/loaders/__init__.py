"""Networks by name or file, with the preprocessing that comes along; one file = one library or format."""
