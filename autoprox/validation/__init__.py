"""Validation: guards against self-deception, run on any proxy and one benchmark; docs/validation.md defines them."""
