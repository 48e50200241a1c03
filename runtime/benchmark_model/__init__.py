"""The parts of `shadowattn benchmark_model`: TFLite's benchmark_model, on the pip interpreter."""
