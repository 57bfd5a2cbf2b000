"""What makes libraries disagree, as data, and the search for the conventions that close a gap between two maps."""
