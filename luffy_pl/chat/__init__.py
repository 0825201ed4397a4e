"""Talking to a trained policy: a run or a model folder, an engine, and a conversation."""
