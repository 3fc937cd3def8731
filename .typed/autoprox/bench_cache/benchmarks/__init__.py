"""Benchmarks: architectures with their trained accuracies, where they come from, and how reliable they are."""
