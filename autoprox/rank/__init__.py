"""Ranking: proxies beside each other on the same networks of a benchmark."""
