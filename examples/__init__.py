"""Runnable examples of janode on real data."""
