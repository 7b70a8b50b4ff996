"""Rewards of reinforcement learning with a generative reward model. Pure: values in, values out."""
