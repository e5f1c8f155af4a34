"""Distillation: a teacher's embeddings, cached once, and the terms a student is regressed on."""
