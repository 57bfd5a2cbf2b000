"""What explainers and metrics rely on in a model, measured: `crossxai.check` shows it, a `Question` asks for it by itself."""
