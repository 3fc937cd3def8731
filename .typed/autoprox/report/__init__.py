"""Report: a run of evolve, rank or search as one web page that needs no network.

`page` lays out text, tables and figures as HTML. `figures` draws with matplotlib. Each file `of_KIND.py` tells one kind
of run from its directory: to add one, write such a file with a record `TELLER`.
"""
