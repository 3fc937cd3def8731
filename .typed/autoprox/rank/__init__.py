"""Ranking: how well proxies rank the architectures of a benchmark, side by side on the same networks."""
