"""Train: the architectures that a search found, trained on a data set, alone or beside random ones of their size."""
