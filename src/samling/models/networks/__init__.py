"""Networks trained from scratch on the user's images: the field's usual baselines."""
