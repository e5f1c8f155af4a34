"""Prediction on one image: backends, predictor, automatic mode and clean-up. Needs no PyTorch."""
