"""Honest measurement: metrics, baselines, prompt protocols, tables, pictures and reports."""
