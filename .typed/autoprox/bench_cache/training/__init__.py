"""Training: architectures trained from scratch on data sets, to make a benchmark of their accuracies."""
