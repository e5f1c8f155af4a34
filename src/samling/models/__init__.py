"""Segmenters: image encoder, prompt encoder, mask decoder. Models know nothing of adapters."""
