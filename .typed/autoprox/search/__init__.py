"""Search: the architectures of a space, or of a benchmark, that a proxy scores highest."""
