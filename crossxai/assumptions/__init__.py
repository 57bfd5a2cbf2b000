"""What explainers and metrics rely on in a model, measured: `crossxai.check` shows it, a `Question` measures it by itself."""
