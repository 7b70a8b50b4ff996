"""Devices that verl does not know by itself; each is off unless asked for."""
