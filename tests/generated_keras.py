NAME = "keras"
