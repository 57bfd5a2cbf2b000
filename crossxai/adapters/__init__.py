"""One file per framework: each presents that framework's models through the protocols of `crossxai.model`."""
