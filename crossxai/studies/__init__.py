"""Case studies: their data, networks, training and commands; the engine works without this folder."""
