"""What a user points at: prompts, the frame they live in, and their simulation from labels."""
