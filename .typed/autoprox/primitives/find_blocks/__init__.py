"""Where the attention and MLP layers of a model are."""
