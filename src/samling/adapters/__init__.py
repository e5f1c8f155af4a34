"""Adapters: a few thousand weights injected at named sites of a frozen model, ejected without a trace."""
