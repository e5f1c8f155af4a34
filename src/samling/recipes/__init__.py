"""One module per verb of the command line; only here and in the cli is configuration seen."""
