"""What a config asks for before anything is started: calls, tokens, GPU hours and memory.

A tool above the stages, as the doctor is: it reads their configs and counts as they do, and asks no model."""
