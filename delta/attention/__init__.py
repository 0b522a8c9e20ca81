"""Supervised attention (section 3.4): filter importance, and the channel weights computed from it."""
