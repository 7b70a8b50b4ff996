"""Scoring stored rollouts again: reward, state and advantage under any design, without a training run.

The numbers are those of training because the code is: the scorer of the reward loop, the designs, their credit. Only
the verification comes from elsewhere: from the dump, or from a verifier that is asked now."""
