"""The same architectures in PyTorch and in Keras, and the checkpoint that both read."""
