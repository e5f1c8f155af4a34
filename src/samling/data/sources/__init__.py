"""One small file per public data set and layout: each lists entries, none reads pixels."""
