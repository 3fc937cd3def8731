"""Benchmarks: architectures with their trained accuracies, where they come from, and what they are worth."""
